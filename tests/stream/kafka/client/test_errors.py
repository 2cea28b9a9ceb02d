"""The table of librdkafka's errors is whole, and says the same as the library's own flags."""

from collections import Counter

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream.kafka.client.errors import TABLE, Kind, kind, passing


def test_every_code_of_the_library_stands_in_the_table_once():
    codes = {name for name in dir(KafkaError) if isinstance(getattr(KafkaError, name), int)}
    counts = Counter(name for names in TABLE.values() for name in names.split())
    assert set(counts) == codes
    assert set(counts.values()) == {1}


@pytest.mark.parametrize(
    "name",
    ["FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH", "OFFSET_NOT_AVAILABLE", "NETWORK_EXCEPTION", "KAFKA_STORAGE_ERROR",
     "NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "_TRANSPORT", "_TIMED_OUT", "UNKNOWN"],
)  # fmt: skip
def test_what_a_cluster_does_to_itself_passes(name: str):
    assert passing(KafkaException(KafkaError(getattr(KafkaError, name))))


def test_the_flags_of_an_error_come_first():
    assert kind(KafkaError(KafkaError._INVALID_ARG, "x", False, True, False)) is Kind.PASSING
    assert kind(KafkaError(KafkaError._INVALID_ARG, "x", True, False, False)) is Kind.LOST
    assert kind(KafkaError(KafkaError._FENCED, "x", True, False, False)) is Kind.FENCED


def test_a_future_without_an_answer_passes_and_a_bug_does_not():
    assert passing(TimeoutError())
    assert not passing(ValueError("x"))
