"""The topics that Forecart needs: planned, created, checked. A mismatch is refused with its fix."""

from dataclasses import dataclass, field

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from stream.core.errors import TopicError
from stream.kafka.client import reach
from stream.settings import Settings

_TIMEOUT = 15
_ROOM = 65_536  # a dead letter is its record and this much of headers
DEFAULT_PARTITIONS = 6


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is wanted; `config` holds what matters and no more."""

    name: str
    role: str
    partitions: int
    replication: int
    config: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is missing, what stands, and what stands wrongly (each with its fix)."""

    missing: list[Topic]
    present: list[Topic]
    wrong: list[str]


def wanted(settings: Settings, partitions: int, replication: int) -> list[Topic]:
    """Describe all topics for an input of so many partitions."""
    safe = {"unclean.leader.election.enable": "false"}
    if replication >= 3:
        safe["min.insync.replicas"] = "2"
    letters = safe | {"max.message.bytes": str(settings.max_dead_letter_bytes + _ROOM)}
    changelog = safe | {"cleanup.policy": "compact"}
    return [
        Topic(settings.events_topic, "events", partitions, replication, safe),
        Topic(settings.scores_topic, "scores", partitions, replication, safe),
        Topic(settings.dead_letters_topic, "dead letters", partitions, replication, letters),
        Topic(settings.changelog, "changelog", partitions, replication, changelog),
    ]


def plan(
    settings: Settings, partitions: int | None = None, replication: int | None = None, client: AdminClient | None = None
) -> Plan:
    """Compare the cluster with what is wanted.

    Without `partitions` the input's count stands, or 6 if there is no input yet; without `replication` it is 3,
    or the number of brokers if there are fewer.
    """
    client = client or reach(settings)
    cluster = client.list_topics(timeout=_TIMEOUT)
    counts = {name: len(topic.partitions) for name, topic in cluster.topics.items() if topic.error is None}
    count = partitions or counts.get(settings.events_topic, DEFAULT_PARTITIONS)
    topics = wanted(settings, count, replication or min(3, len(cluster.brokers)))
    missing = [topic for topic in topics if topic.name not in counts]
    present = [topic for topic in topics if topic.name in counts]
    configs = _configs(client, present)
    wrong = [fault for topic in present for fault in _faults(topic, counts, configs[topic.name])]
    return Plan(missing, present, wrong)


def _configs(client: AdminClient, topics: list[Topic]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
    if not resources:
        return {}
    answers = client.describe_configs(resources, request_timeout=_TIMEOUT)
    return {
        resource.name: {name: entry.value for name, entry in answer.result(_TIMEOUT).items()}
        for resource, answer in answers.items()
    }


def _faults(topic: Topic, counts: dict[str, int], config: dict[str, str]) -> list[str]:
    faults = []
    tied = topic.role in ("events", "changelog")  # a shopper's state lies in the partition of the events
    if tied and counts[topic.name] != topic.partitions:
        fix = "sessions cannot move between partitions: use a new group, or a topic with the same count"
        faults.append(f"{topic.name} ({topic.role}) has {counts[topic.name]} partitions, not {topic.partitions}: {fix}")
    for name in ("cleanup.policy", "max.message.bytes"):
        if name not in topic.config:
            continue
        short = name == "max.message.bytes" and int(config[name]) < int(topic.config[name])
        other = name == "cleanup.policy" and config[name] != topic.config[name]
        if short or other:
            fix = f"kafka-configs --alter --topic {topic.name} --add-config {name}={topic.config[name]}"
            faults.append(f"{topic.name} ({topic.role}) has {name}={config[name]}: {fix}")
    return faults


def apply(settings: Settings, partitions: int | None = None, replication: int | None = None) -> Plan:
    """Create what is missing; raise TopicError where something stands wrongly, before anything is created."""
    client = reach(settings)
    found = plan(settings, partitions, replication, client)
    _refuse(found)
    new = [NewTopic(t.name, t.partitions, t.replication, config=t.config) for t in found.missing]
    if new:
        for name, answer in client.create_topics(new, request_timeout=_TIMEOUT).items():
            try:
                answer.result(_TIMEOUT)
            except KafkaException as error:
                raise TopicError(
                    f"{name} cannot be created: {error.args[0].str()}", "check rights and replication"
                ) from error
    return found


def remove(settings: Settings) -> list[str]:
    """Delete all topics of a group, its input too; return the names of those that stay."""
    client = reach(settings)  # it must outlive its answers
    answers = client.delete_topics([topic.name for topic in wanted(settings, 1, 1)], request_timeout=_TIMEOUT)
    return [name for name, answer in answers.items() if answer.exception()]


def _refuse(found: Plan) -> None:
    if found.wrong:
        raise TopicError("; ".join(found.wrong), "make the change, then run `forecart topics plan`")


def check(settings: Settings, client: AdminClient) -> int:
    """Return the input's number of partitions; raise TopicError where a topic is missing or wrong."""
    found = plan(settings, client=client)
    if found.missing:
        names = ", ".join(f"{topic.name} ({topic.role})" for topic in found.missing)
        raise TopicError(f"missing topics: {names}", "create them: forecart topics apply")
    _refuse(found)
    return found.present[0].partitions
