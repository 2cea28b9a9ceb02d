"""Topics: planned, created, and refused with the fix."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType

from stream import settings as configuration
from stream.core.errors import BrokerError, TopicError
from stream.kafka.client.admin import admin
from stream.kafka.topics import admin as topics
from stream.kafka.topics.admin import apply, check, creation, plan, wanted
from tests.kafka.shop import wait_for


@pytest.fixture
def fresh(broker, request):
    """Name topics that do not exist yet."""
    group = request.node.name.split("[")[0].replace("_", "-")[:40]
    names = {f"{role}_topic": f"{group}-{role}" for role in ("events", "scores", "dead_letters")}
    return configuration.load(bootstrap_servers=broker.address, group=group, **names)


def test_the_command_that_creates_topics_says_all_that_is_not_as_usual():
    assert creation(configuration.Settings()) == "forecart topics apply"
    other = configuration.Settings(bootstrap_servers="k:1", group="g 2", changelog_topic="c")
    assert creation(other) == "FORECART_CHANGELOG_TOPIC=c forecart topics apply --bootstrap-servers k:1 --group 'g 2'"


def _create(settings, name, partitions, **config):
    client = admin(settings)  # it must outlive its answers
    client.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(10)
    wait_for(lambda: name in client.list_topics(timeout=10).topics, 10, "the broker knows its topic")


def test_what_is_missing_is_created_once(fresh):
    assert [t.role for t in plan(fresh).missing] == ["events", "scores", "dead letters", "changelog"]
    assert len(apply(fresh, 3).missing) == 4
    again = plan(fresh)
    assert (again.missing, again.wrong) == ([], [])
    assert [t.partitions for t in again.present] == [3, 3, 3, 3]
    assert check(fresh, admin(fresh)) == 3


def test_the_changelog_has_as_many_partitions_as_the_input(fresh):
    _create(fresh, fresh.events_topic, 5)
    assert next(t for t in apply(fresh).missing if t.role == "changelog").partitions == 5


def test_another_count_is_refused_with_the_fix(fresh):
    _create(fresh, fresh.events_topic, 4)
    _create(fresh, fresh.changelog, 2, **{"cleanup.policy": "compact"})
    with pytest.raises(TopicError, match="has 2 partitions, not 4"):
        apply(fresh)
    assert fresh.scores_topic not in admin(fresh).list_topics(timeout=10).topics
    with pytest.raises(TopicError, match="missing topics"):
        check(fresh, admin(fresh))


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_changelog_that_forgets_is_refused_with_the_fix(fresh, policy):
    settings = configuration.load(
        **{**fresh.model_dump(), "changelog_topic": f"{fresh.group}-{policy.replace(',', '-')}"}
    )
    _create(settings, settings.changelog, 6, **{"cleanup.policy": policy})
    with pytest.raises(TopicError, match=r"--add-config cleanup\.policy=compact"):
        apply(settings)


@pytest.mark.parametrize(
    ("setting", "config", "fix"),
    [
        ("events_topic", {"unclean.leader.election.enable": "true"}, "unclean.leader.election.enable=false"),
        ("scores_topic", {"unclean.leader.election.enable": "true"}, "unclean.leader.election.enable=false"),
        ("events_topic", {"cleanup.policy": "compact"}, "cleanup.policy=delete"),
        ("events_topic", {"cleanup.policy": "compact,delete"}, "cleanup.policy=delete"),
        ("scores_topic", {"max.message.bytes": "2000"}, "max.message.bytes=1048576"),
        ("dead_letters_topic", {"max.message.bytes": "2000"}, "max.message.bytes=1065536"),
        ("changelog", {"max.message.bytes": "2000", "cleanup.policy": "compact"}, "max.message.bytes=1048576"),
    ],
)
def test_a_topic_that_breaks_the_promise_is_refused_with_the_fix(fresh, request, setting, config, fix):
    settings = _named(fresh, request.node.callspec.indices["setting"])
    name = getattr(settings, setting)
    _create(settings, name, 6, **config)
    with pytest.raises(TopicError) as caught:
        apply(settings)
    assert str(caught.value).count("--alter") == 1
    assert f"kafka-configs --bootstrap-server HOST --alter --topic {name} --add-config {fix}" in str(caught.value)


def _named(settings, number):
    """Give each case topics of its own."""
    values = {name: f"{number}-{getattr(settings, name)}" for name in settings.model_fields_set if "topic" in name}
    return settings.model_copy(update={**values, "group": f"{settings.group}-{number}"})


def test_a_stricter_topic_is_none_of_our_business(fresh):
    strict = {"min.insync.replicas": "3", "max.message.bytes": "9000000", "message.timestamp.after.max.ms": "5000"}
    for name in (fresh.events_topic, fresh.scores_topic):
        _create(fresh, name, 6, **strict)
    found = apply(fresh)
    assert (found.wrong, found.advice) == ([], [])


def test_an_input_that_takes_any_time_is_advised_against(fresh):
    _create(fresh, fresh.events_topic, 6, **{"message.timestamp.after.max.ms": "7200000"})
    found = apply(fresh)
    assert found.wrong == []
    assert [line.rpartition(" ")[2] for line in found.advice] == ["message.timestamp.after.max.ms=3600000"]


def test_a_created_input_refuses_a_wrong_clock(fresh):
    settings = fresh.model_copy(update={"max_future_seconds": 120})
    apply(settings)
    client = admin(settings)
    resource = ConfigResource(ResourceType.TOPIC, settings.events_topic)
    config = client.describe_configs([resource])[resource].result(10)
    assert config["message.timestamp.after.max.ms"].value == "120000"


class Cluster:
    """A cluster of three brokers, as an administrator sees it."""

    def __init__(self, settings: Any, replicas: int = 3, **config: str) -> None:
        self.brokers = {1: None, 2: None, 3: None}
        partitions = {n: self.Partition(list(range(replicas))) for n in range(6)}
        self.wanted = wanted(settings, 6, 3)
        self.topics = {topic.name: self.Topic(partitions) for topic in self.wanted}
        self.configs = {t.name: {n: self.Entry(v) for n, v in (t.config | config).items()} for t in self.wanted}
        self.created: list[dict[str, str]] = []

    class Partition:
        def __init__(self, replicas: list[int]) -> None:
            self.replicas = replicas

    class Topic:
        def __init__(self, partitions: dict[int, Any]) -> None:
            self.partitions, self.error = partitions, None

    class Entry:
        def __init__(self, value: str) -> None:
            self.value = value

    def list_topics(self, timeout: float) -> Any:
        return self

    def describe_topics(self, _names: Any, **_how: Any) -> dict[str, Future[Any]]:
        return {}  # a cluster that does not say what we may do

    def describe_configs(self, resources: list[Any], request_timeout: float) -> dict[Any, Future[Any]]:
        return {resource: _done(lambda r=resource: self.configs[r.name]) for resource in resources}

    def create_topics(self, new: list[NewTopic], request_timeout: float) -> dict[str, Future[Any]]:
        self.created += [one.config for one in new]
        self.topics |= {one.topic: self.Topic({}) for one in new}
        old = any("message.timestamp.after.max.ms" in one.config for one in new)
        return {one.topic: _done(_refusing(KafkaError.INVALID_CONFIG) if old else dict) for one in new}


def _refusing(code: int) -> Callable[[], Any]:
    def refuse() -> None:
        raise KafkaException(KafkaError(code))

    return refuse


def _done(call: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(call())
    except KafkaException as error:
        future.set_exception(error)
    return future


@pytest.mark.parametrize(
    ("replicas", "config", "fix"),
    [
        (2, {}, "kafka-reassign-partitions"),
        (3, {"min.insync.replicas": "1"}, "--add-config min.insync.replicas=2"),
        (3, {"min.insync.replicas": "2"}, None),
        (4, {"min.insync.replicas": "3"}, None),
    ],
)
def test_three_brokers_hold_copies(replicas, config, fix):
    settings = configuration.load()
    found = plan(settings, client=Cluster(settings, replicas, **config))
    assert len(found.wrong) == (4 if fix else 0)
    assert all(fix in line for line in found.wrong)


def test_fewer_copies_than_workers_ask_for_are_not_made():
    settings = configuration.load()
    with pytest.raises(TopicError, match="replication 1 is too low"):
        plan(settings, replication=1, client=Cluster(settings))


@pytest.mark.parametrize(
    ("call", "remedy"), [("describe_configs", "--operation DescribeConfigs --topic events"), ("list_topics", "brokers")]
)
def test_a_cluster_that_refuses_to_be_seen_is_told(monkeypatch, call, remedy):
    cluster = Cluster(configuration.load())
    monkeypatch.setattr(cluster, call, lambda *_, **__: _refusing(KafkaError.TOPIC_AUTHORIZATION_FAILED)())
    with pytest.raises(BrokerError, match=r"of the topics cannot be read|the list of topics: TOPIC_AUTH") as caught:
        plan(configuration.load(), client=cluster)
    assert remedy in caught.value.remedy


def test_a_broker_that_knows_no_latest_time_gets_the_topic_without(monkeypatch):
    cluster = Cluster(configuration.load())
    cluster.topics = {}
    monkeypatch.setattr(topics, "reach", lambda _settings: cluster)
    apply(configuration.load())
    asked, given = cluster.created[:2]
    assert set(asked) - set(given) == {"message.timestamp.after.max.ms"}
    assert len(cluster.created) == 5
