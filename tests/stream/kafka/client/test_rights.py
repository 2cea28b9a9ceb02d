"""What a worker needs, what it lacks, and how that is said."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclOperation, ResourceType

from stream.core.errors import BrokerError, FencedError, RightsError
from stream.kafka.client import rights
from stream.kafka.client.errors import Kind, kind
from stream.kafka.client.rights import diagnose, lacking, missing, needed, principal, refusal, require
from stream.kafka.topics import watch as topic_watch
from stream.settings import Settings, load
from tests.stream.certificates import Authority

ALL = set(AclOperation)
SETTINGS = Settings(group="shop", catalog_topic="catalog")


def test_the_least_rights():
    assert [str(right) for right in needed(SETTINGS)] == [
        "READ of topic events",
        "WRITE of topic scores",
        "WRITE of topic dead-letters",
        "READ of topic shop-changelog",
        "WRITE of topic shop-changelog",
        "READ of topic catalog",
        *(f"DESCRIBE_CONFIGS of topic {name}"
          for name in ("events", "scores", "dead-letters", "shop-changelog", "catalog")),
        "READ of group shop",
        "WRITE of transactional id shop/*",
    ]  # fmt: skip


def test_only_what_is_known_to_be_lacking_is():
    allowed = {(ResourceType.TOPIC, "events"): {AclOperation.DESCRIBE}, (ResourceType.GROUP, "shop"): None}
    assert [str(right) for right in lacking(needed(SETTINGS), allowed)] == [
        "READ of topic events",
        "DESCRIBE_CONFIGS of topic events",
    ]


def test_a_refusal_names_right_principal_and_command():
    rights = [right for right in needed(SETTINGS) if right.prefix]
    error = refusal(SETTINGS, rights, "what was seen")
    assert isinstance(error, BrokerError)
    assert error.message == "User:ANONYMOUS is not allowed: WRITE of transactional id shop/* (what was seen)"
    assert "forecart topics apply --acls 'User:ANONYMOUS'" in error.remedy
    assert "--operation Write --transactional-id 'shop/' --resource-pattern-type prefixed" in error.remedy


def test_a_certificate_names_the_principal_as_java_does(tmp_path: Path):
    pair = Authority(tmp_path / "ca").sign("worker", "/C=CH/O=Shop/CN=worker")
    path = tmp_path / "kafka.properties"
    path.write_text(f"security.protocol=SSL\nssl.certificate.location={pair.certificate}\n")
    assert principal(load(kafka_properties=path)) == "User:CN=worker,O=Shop,C=CH"


@pytest.mark.parametrize("name", ["TOPIC", "GROUP", "TRANSACTIONAL_ID", "CLUSTER"])
def test_a_missing_right_is_no_lost_producer(name: str):
    error = KafkaError(getattr(KafkaError, f"{name}_AUTHORIZATION_FAILED"), "no", True, True, False)
    assert kind(error) is Kind.REFUSED


class Admin:
    """Answer as an administrator: what may be done with each topic and group, or the code of a refusal."""

    def __init__(self, **allowed: set[AclOperation] | int) -> None:
        self._allowed = {name.replace("_", "-"): operations for name, operations in allowed.items()}

    def describe_topics(self, names, **_):
        return {name: self._answer(name) for name in names.topic_names}

    def describe(self, _settings, name, _seconds):
        """Answer as the coordinator of a group."""
        return self._answer(name).result()

    def _answer(self, name: str) -> Future[SimpleNamespace]:
        found, answer = self._allowed.get(name, ALL), Future[SimpleNamespace]()
        if isinstance(found, int):
            answer.set_exception(KafkaException(KafkaError(found)))
        else:
            answer.set_result(SimpleNamespace(authorized_operations=list(found)))
        return answer


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Admin], Admin]:
    """Let an administrator answer for groups too; by default one that allows everything."""

    def by(admin: Admin) -> Admin:
        monkeypatch.setattr(rights, "describe", admin.describe)
        return admin

    by(Admin())
    return by


def test_what_brokers_say_is_missing(asked: Callable[[Admin], Admin]):
    admin = Admin(
        events={AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS},
        scores=KafkaError.TOPIC_AUTHORIZATION_FAILED,
        dead_letters=KafkaError.UNKNOWN_TOPIC_OR_PART,  # a matter of topics, not of rights
        catalog=set(),  # a broker that does not say
        shop=KafkaError.GROUP_AUTHORIZATION_FAILED,
    )
    asked(admin)
    wanted = ["READ of topic events", "WRITE of topic scores", "READ of group shop"]
    assert [str(right) for right in missing(SETTINGS, needed(SETTINGS), admin)] == wanted
    with pytest.raises(RightsError, match="User:ANONYMOUS is not allowed: READ of topic events; WRITE of topic scores"):
        require(SETTINGS, admin, needed(SETTINGS))


def test_missing_rights_explain_what_they_led_to():
    fenced = FencedError("another process runs as w", "stop it")
    found = diagnose(SETTINGS, fenced, Admin(shop_changelog={AclOperation.READ}))
    assert isinstance(found, RightsError)
    assert found.message == "User:ANONYMOUS is not allowed: WRITE of topic shop-changelog (another process runs as w)"
    assert diagnose(SETTINGS, fenced, Admin()) is fenced
    assert diagnose(SETTINGS, found, Admin(events={AclOperation.DESCRIBE})) is found
    refused = BrokerError("the transaction failed: TRANSACTIONAL_ID_AUTHORIZATION_FAILED: no")
    assert "WRITE of transactional id shop/*" in diagnose(SETTINGS, refused, Admin()).message
    assert diagnose(SETTINGS, fenced, Admin(events=KafkaError._TIMED_OUT)) is fenced


def test_a_right_that_is_taken_away_ends_the_watch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(topic_watch, "AGAIN", 0.0)
    watch = topic_watch.TopicWatch(SETTINGS, pytest.fail)
    watch._client = Admin(events={AclOperation.DESCRIBE})
    with pytest.raises(RightsError, match="READ of topic events"):
        watch.check()
