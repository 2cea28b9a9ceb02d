"""An outage is a state: told when it begins, once a minute, and when it ends."""

import asyncio
import logging
import time
from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError

from stream.core.errors import BrokerError, UnreachableError
from stream.kafka.client.reachability import Reachability
from stream.settings import Settings


@pytest.fixture
def kafka() -> Reachability:
    return Reachability(Settings(bootstrap_servers="a:1"))


def _record(text: str, name: str = "aiokafka.client") -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "f", 1, text, ("1",), None)


def test_an_outage_is_told_once_a_minute(kafka: Reachability, caplog: pytest.LogCaptureFixture):
    ended = []
    kafka._back = lambda: ended.append(True)
    kafka._take(True)
    assert (kafka.outages, kafka.why_not(), caplog.messages) == (0, "", [])
    for _ in range(50):
        kafka._take(False)
    assert not kafka.reachable
    assert "Kafka at a:1 does not answer" in kafka.why_not()
    assert len(caplog.messages) == 1
    kafka._told -= 61
    kafka._take(False)
    assert len(caplog.messages) == 2
    kafka._take(True)
    assert "Kafka answers again" in caplog.messages[-1]
    assert (kafka.outages, ended) == (1, [True])


def test_what_aiokafka_says_of_lost_connections_is_one_line_a_minute(kafka, caplog):
    kafka._take(True)
    kafka.disturbed_at -= 61
    kept = [kafka.filter(_record("Unable connect to node with id %s: x")) for _ in range(70)]
    assert not any(kept)
    assert kafka.filter(_record("Attempt to join group failed %s"))
    assert kafka.filter(_record("Unable connect to %s", "stream.app"))
    kafka._tell_lines()
    kafka._tell_lines()
    assert len(caplog.messages) == 1
    assert "70 lines like this one: Unable connect to node with id 1: x" in caplog.messages[0]


def test_a_disturbance_that_a_client_met_counts(kafka: Reachability):
    kafka._take(True)
    time.sleep(0.01)
    when = time.monotonic()
    assert kafka.steady_since(when)
    time.sleep(0.01)
    kafka.note(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert not kafka.steady_since(when)


def test_a_minute_into_an_outage_it_asks_by_the_bootstrap_servers_again(kafka, monkeypatch):
    """A client of before keeps to the brokers that it knew, though all have come back elsewhere."""
    made: list[Mock] = []

    def make(*_: object, **__: object) -> Mock:
        made.append(Mock(**{"describe_cluster.side_effect": TimeoutError()}))
        return made[-1]

    monkeypatch.setattr("stream.kafka.client.reachability.admin", make)
    for _ in range(3):
        assert not kafka._ask()
    kafka._made -= 59
    assert not kafka._ask()
    assert len(made) == 1
    kafka._made -= 2
    assert not kafka._ask()
    assert len(made) == 2
    kafka._take(True)
    kafka._made -= 999
    assert not kafka._ask()
    assert len(made) == 2  # one that answers is kept


def test_waiting_ends_with_the_answer_the_setting_or_what_is_no_longer_wanted():
    kafka = Reachability(Settings(kafka_wait_seconds=0.1))
    with pytest.raises(UnreachableError, match="does not answer"):
        asyncio.run(kafka.wait())
    asyncio.run(kafka.wait(lambda: False))
    kafka._take(True)
    asyncio.run(kafka.wait())


def test_refused_credentials_end_the_wait_before_there_ever_was_an_answer(kafka: Reachability):
    kafka.note(KafkaError(KafkaError._AUTHENTICATION, "wrong password"))
    with pytest.raises(BrokerError, match="wrong password"):
        asyncio.run(kafka.wait())
