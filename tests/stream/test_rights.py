"""What a worker needs, what it lacks, and how that is said."""

from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from stream.core.errors import BrokerError
from stream.kafka.errors import Kind, kind
from stream.kafka.rights import lacking, needed, principal, refusal
from stream.settings import Settings, load
from tests.stream.certificates import Authority

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
    from confluent_kafka import KafkaError

    error = KafkaError(getattr(KafkaError, f"{name}_AUTHORIZATION_FAILED"), "no", True, True, False)
    assert kind(error) is Kind.REFUSED
