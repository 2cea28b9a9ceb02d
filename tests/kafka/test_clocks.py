"""Clocks on a real broker: a worker whose own is wrong, and records that have no time."""

import asyncio
import json
import os
import time
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from stream.core.events import Event
from stream.kafka.client.admin import admin
from tests.kafka.oracle import Record, assert_exactly_once
from tests.kafka.shop import Shop, wait_for

HOUR = 3600
# Python runs it before anything else: `time.time` is behind by what a file says, in seconds.
_BEHIND = """
import os, time
_time = time.time
def behind():
    with open(os.environ["CLOCK_BEHIND"]) as file:
        return _time() - float(file.read() or 0)
time.time = behind
"""


@pytest.fixture
def set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Set back the clocks of workers that are started from here on, by seconds."""
    folder, amount = tmp_path / "clock", tmp_path / "behind"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_BEHIND)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("CLOCK_BEHIND", str(amount))

    def set_to(seconds: float) -> None:
        new = tmp_path / "new"
        new.write_text(str(seconds))
        new.rename(amount)

    return set_to


def _send(place: Shop, begin: int, end: int, **produce: object) -> None:
    """Send events of now, made by a shop whose clock is right."""
    values = []
    for n in range(begin, end):
        user = f"user-{n % 7}"
        values.append((user.encode(), _event(n, user)))
    place.send(values, **produce)


async def _send_at_zero(place: Shop, begin: int, end: int) -> None:
    """Send events at 0, for which librdkafka would write the time of now."""
    async with AIOKafkaProducer(bootstrap_servers=place.address) as out:
        for n in range(begin, end):
            key, value = b"user-%d" % (n % 7), _event(n, f"user-{n % 7}")
            sent = await out.send_and_wait(place.settings.events_topic, value, key, timestamp_ms=0)
            place.ledger.records.append(Record(sent.partition, sent.offset, 0, key, value))


def _event(n: int, user: str) -> bytes:
    return msgspec.json.encode(Event(f"e{n}", user, "view", "item-1", int(time.time() * 1000)))


def _rejected(place: Shop) -> list[bytes]:
    return [dict(m.headers())["forecart-reason"] for m in place.read(place.settings.dead_letters_topic)]


def _all_scored(place: Shop) -> None:
    place.await_outcomes(40)
    assert_exactly_once(place.examine())
    assert _rejected(place) == []


@pytest.mark.parametrize("behind", [HOUR + 60, -HOUR])
def test_a_worker_whose_clock_is_wrong_does_not_start(shop, set_back, behind):
    place = shop()
    _send(place, 0, 100)
    set_back(behind)
    worker = place.start("w0")
    assert worker.wait(60) == 78
    text = place.log_of("w0").read_text()
    assert f"this machine's clock is {abs(behind)} s {'behind' if behind > 0 else 'ahead of'} the broker's" in text
    assert "NTP" in text and "Traceback" not in text
    assert place.outcomes().total() == 0
    set_back(0)
    place.start("w0")
    _all_scored(place)


def test_a_clock_that_is_set_back_under_a_running_worker_costs_no_event(shop, set_back):
    """The round with dead letters is aborted, the worker ends, and a right clock finds everything unread."""
    place = shop()
    set_back(20)
    _send(place, 0, 100)
    worker = place.start("w0")
    place.await_outcomes(40)
    assert worker.poll() is None
    set_back(2 * HOUR)
    _send(place, 100, 300)
    assert worker.wait(40) == 78
    assert "s behind the broker's" in place.log_of("w0").read_text()
    assert place.outcomes().total() == 100
    set_back(0)
    place.start("w0")
    _all_scored(place)


def test_a_changelog_without_the_brokers_time_goes_on_and_is_told_of(shop):
    """As one that stood before: it tells no clock."""
    place = shop()
    resource = ConfigResource(ResourceType.TOPIC, place.settings.changelog)
    resource.add_incremental_config(
        ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    )
    client = admin(place.settings)
    client.incremental_alter_configs([resource])[resource].result(10)
    _send(place, 0, 100)
    place.start("w0")
    _all_scored(place)
    assert place.log_of("w0").read_text().count("clock is not compared") == 1


def test_records_without_a_timestamp_are_scored(shop):
    """As clients write them that know no time: -1, which is none to Kafka, 0 and 1."""
    place = shop(partitions=1)
    _send(place, 0, 10)
    _send(place, 10, 20, timestamp=-1)
    _send(place, 20, 30, timestamp=1)
    asyncio.run(_send_at_zero(place, 30, 40))
    _send(place, 40, 41, timestamp=int(time.time() * 1000) - 40 * 24 * HOUR * 1000)
    worker = place.start("w0")
    place.await_outcomes(40)
    scored = [json.loads(m.value())["event_id"] for m in place.read(place.settings.scores_topic)]
    assert scored == [f"e{n}" for n in range(40)]
    assert _rejected(place) == [b"future"]  # its event is 40 days after the record
    stamps = [m.timestamp()[1] for m in place.read(place.settings.events_topic)]
    assert stamps[10:40] == [-1] * 10 + [1] * 10 + [0] * 10
    wait_for(lambda: worker.poll() is None, 1, "the worker runs")
    assert_exactly_once(place.examine(faults=31), at_least=41)
