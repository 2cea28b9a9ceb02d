"""The topics that Forecart needs: planned, created, checked. A mismatch is refused with its fix."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclOperation,
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from stream.core.errors import BrokerError, TopicError, UnreachableError
from stream.kafka.client.admin import answered, reach
from stream.kafka.client.errors import passing, said
from stream.kafka.client.rights import Right, grant, needed, refusal, require
from stream.records import BATCH, LETTER_ROOM
from stream.settings import PREFIX, Settings
from stream.state.position import GROW

_TIMEOUT = 15
_CLOCKS = 60  # seconds that clocks of well-kept machines may differ
_LATEST = "message.timestamp.after.max.ms"  # of brokers from 3.6: one wrong clock cannot move a partition's clock
_STAMP = "message.timestamp.type"  # of the changelog: acknowledgements then tell the broker's time
_NO_RIGHT = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
DEFAULT_PARTITIONS = 6
_TOPICS = ("events_topic", "scores_topic", "dead_letters_topic", "catalog_topic", "changelog_topic")


def _at_least(found: str, want: str) -> bool:
    return int(found) >= int(want)


def _at_most(found: str, want: str) -> bool:
    return int(found) <= int(want)


def _same(found: str, want: str) -> bool:
    return found == want


def _keeps(found: str, want: str) -> bool:
    return found == want or (want == "delete" and "compact" not in found)


# How what stands satisfies what is wanted: a stricter cluster does.
_REQUIRED: dict[str, Callable[[str, str], bool]] = {
    "cleanup.policy": _keeps,
    "max.message.bytes": _at_least,
    "min.insync.replicas": _at_least,
    "unclean.leader.election.enable": _same,
}
_ADVISED: dict[str, Callable[[str, str], bool]] = {_LATEST: _at_most, _STAMP: _same}


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
    """What is missing, what stands, what stands wrongly (each with its fix), what would be better, what was granted."""

    missing: list[Topic]
    present: list[Topic]
    wrong: list[str]
    advice: list[str] = field(default_factory=list)
    granted: list[Right] = field(default_factory=list)


def wanted(settings: Settings, partitions: int, replication: int) -> list[Topic]:
    """Describe all topics for an input of so many partitions."""
    safe = {"unclean.leader.election.enable": "false"}
    if replication >= 3:
        safe["min.insync.replicas"] = "2"
    latest = str(max(settings.max_future_seconds, _CLOCKS) * 1000)
    events = safe | {"cleanup.policy": "delete", _LATEST: latest}
    scores = safe | {"max.message.bytes": str(BATCH)}
    letters = safe | {"max.message.bytes": str(max(BATCH, settings.max_dead_letter_bytes + LETTER_ROOM))}
    compact = {"cleanup.policy": "compact"}
    changelog = safe | {"max.message.bytes": str(BATCH), _STAMP: "LogAppendTime"} | compact
    return [
        Topic(settings.events_topic, "events", partitions, replication, events),
        Topic(settings.scores_topic, "scores", partitions, replication, scores),
        Topic(settings.dead_letters_topic, "dead letters", partitions, replication, letters),
        Topic(settings.changelog, "changelog", partitions, replication, changelog),
        *([Topic(settings.catalog_topic, "catalog", 1, replication, safe | compact)] if settings.catalog_topic else []),
    ]


def plan(
    settings: Settings, partitions: int | None = None, replication: int | None = None, client: AdminClient | None = None
) -> Plan:
    """Compare the cluster with what is wanted.

    Without `partitions` the input's count stands, or 6 if there is no input yet; without `replication` it is 3,
    or the number of brokers if there are fewer.
    """
    client = client or reach(settings)
    cluster = _cluster(client)
    least = min(3, len(cluster.brokers))
    if replication is not None and replication < least:
        raise TopicError(f"replication {replication} is too low", f"workers ask for {least} on this cluster")
    standing = {
        name: Topic(name, "", len(topic.partitions), min(len(part.replicas) for part in topic.partitions.values()))
        for name, topic in cluster.topics.items()
        if topic.error is None
    }
    there = standing.get(settings.events_topic)
    topics = wanted(settings, partitions or (there.partitions if there else DEFAULT_PARTITIONS), replication or least)
    missing = [topic for topic in topics if topic.name not in standing]
    require(settings, client, [Right(ResourceType.TOPIC, topic.name, AclOperation.DESCRIBE) for topic in missing])
    present = [topic for topic in topics if topic.name in standing]
    found = Plan(missing, present, [])
    for topic, config in zip(present, _configs(client, present), strict=True):
        found.wrong.extend(_misshapen(topic, standing[topic.name]))
        for name, want in topic.config.items():
            if line := _differing(topic, name, config.get(name), want):
                (found.wrong if name in _REQUIRED else found.advice).append(line)
    return found


def _cluster(client: AdminClient) -> ClusterMetadata:
    return answered("the list of topics", _TIMEOUT, lambda: client.list_topics(timeout=_TIMEOUT / 3))


def _configs(client: AdminClient, topics: list[Topic]) -> list[dict[str, str | None]]:
    """Return each topic's configuration; a broker leaves out what it does not know."""
    resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
    if not resources:
        return []
    try:
        answers = client.describe_configs(resources, request_timeout=_TIMEOUT)
        found = {resource.name: answer.result(_TIMEOUT) for resource, answer in answers.items()}
    except (KafkaException, TimeoutError) as error:
        if passing(error):
            raise UnreachableError(f"the settings of the topics: {said(error)}", "check the brokers") from error
        raise BrokerError(
            f"the settings of the topics cannot be read: {error.args[0].str()}",
            "check the brokers, or grant the right:"
            " kafka-acls --bootstrap-server HOST --add --allow-principal User:NAME"
            f" --operation DescribeConfigs --topic {' --topic '.join(topic.name for topic in topics)}",
        ) from error
    return [{name: entry.value for name, entry in found[topic.name].items()} for topic in topics]


def _misshapen(topic: Topic, found: Topic) -> list[str]:
    faults = []
    tied = topic.role in ("events", "changelog")  # a user's state lies in the partition of the events
    if tied and found.partitions != topic.partitions:
        faults.append(f"{topic.name} ({topic.role}) has {found.partitions} partitions, not {topic.partitions}: {GROW}")
    if found.replication < topic.replication:
        fix = "kafka-reassign-partitions --bootstrap-server HOST --execute, with a plan that has as many replicas"
        faults.append(
            f"{topic.name} ({topic.role}) has replication {found.replication}, not {topic.replication}: {fix}"
        )
    return faults


def _differing(topic: Topic, name: str, found: str | None, want: str) -> str | None:
    """Describe a configuration that does not satisfy, with its fix; None where it does, or cannot be seen."""
    satisfies = (_REQUIRED | _ADVISED)[name]
    if found is None or satisfies(found, want):
        return None
    fix = f"kafka-configs --bootstrap-server HOST --alter --topic {topic.name} --add-config {name}={want}"
    return f"{topic.name} ({topic.role}) has {name}={found}: {fix}"


def creation(settings: Settings) -> str:
    """Return the command that creates the topics of these settings, whatever stands in file and environment."""

    def given(*names: str) -> dict[str, str]:
        values = {name: getattr(settings, name) for name in names}
        return {n: shlex.quote(str(v)) for n, v in values.items() if v != Settings.model_fields[n].default}

    before = [f"{PREFIX}{name.upper()}={value}" for name, value in given(*_TOPICS, "kafka_properties").items()]
    after = [f"--{n.replace('_', '-')} {value}" for n, value in given("bootstrap_servers", "group").items()]
    return " ".join([*before, "forecart topics apply", *after])


def apply(
    settings: Settings, partitions: int | None = None, replication: int | None = None, acls: str | None = None
) -> Plan:
    """Create what is missing; raise TopicError where something stands wrongly, before anything is created.

    With `acls`, a principal, allow it what a worker needs.
    """
    client = reach(settings)
    found = plan(settings, partitions, replication, client)
    _refuse(found)
    for topic in found.missing:
        _create(settings, client, topic)
    deadline = time.monotonic() + _TIMEOUT  # brokers learn of a topic after the answer that it is made
    while {topic.name for topic in found.missing} - set(_cluster(client).topics) and time.monotonic() < deadline:
        time.sleep(0.05)
    if acls:
        found.granted.extend(grant(settings, acls, client))
    return found


def _create(settings: Settings, client: AdminClient, topic: Topic) -> None:
    new = NewTopic(topic.name, topic.partitions, topic.replication, config=topic.config)
    try:
        client.create_topics([new], request_timeout=_TIMEOUT)[topic.name].result()
    except KafkaException as error:
        required = {name: value for name, value in topic.config.items() if name in _REQUIRED}
        if error.args[0].code() == KafkaError.INVALID_CONFIG and required != topic.config:
            return _create(settings, client, replace(topic, config=required))  # a broker too old for what is advice
        if error.args[0].code() in _NO_RIGHT:
            raise refusal(settings, [Right(ResourceType.TOPIC, topic.name, AclOperation.CREATE)]) from error
        reason = error.args[0].str()
        raise TopicError(f"{topic.name} cannot be created: {reason}", "check rights and replication") from error


def remove(settings: Settings) -> list[str]:
    """Delete all topics of a group, its input too; return the names of those that stay."""
    client = reach(settings)  # it must outlive its answers
    answers = client.delete_topics([topic.name for topic in wanted(settings, 1, 1)], request_timeout=_TIMEOUT)
    return [name for name, answer in answers.items() if answer.exception()]


def _refuse(found: Plan) -> None:
    if found.wrong:
        raise TopicError("; ".join(found.wrong), "make the change, then run `forecart topics plan`")


def check(settings: Settings, client: AdminClient) -> int:
    """Return the input's number of partitions.

    Raises RightsError where a right is missing, TopicError where a topic is, or is wrong.
    """
    require(settings, client, needed(settings))
    found = plan(settings, client=client)
    if found.missing:
        names = ", ".join(f"{topic.name} ({topic.role})" for topic in found.missing)
        raise TopicError(f"missing topics: {names}", f"create them: {creation(settings)}")
    _refuse(found)
    return found.present[0].partitions
