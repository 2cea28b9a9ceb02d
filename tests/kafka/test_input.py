"""Records of the input are deleted before a running worker has read them."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import TopicPartition

from stream.kafka.client.admin import admin
from stream.kafka.embedded_broker import free_port
from tests.kafka.oracle import assert_exactly_once
from tests.kafka.probes import values
from tests.kafka.shop import Shop, resume, wait_for
from tests.kafka.test_topic_watch import _make_again
from tests.kafka.test_worker import NOW, _value


def _send(place: Shop, first: int, count: int) -> None:
    place.send([(b"u%d" % (n % 50), _value(n, f"u{n % 50}", NOW + n)) for n in range(first, first + count)])


def _delete_before(place: Shop, offset: int) -> None:
    tp = TopicPartition(place.settings.events_topic, 0, offset)
    client = admin(place.settings)
    client.delete_records([tp])[tp].result(10)


def _paused(worker: subprocess.Popen[bytes], change: Callable[[], None]) -> None:
    """Do something while a worker stands still, for less than its session timeout."""
    worker.send_signal(19)
    change()
    resume(worker)


def _lagging(shop: Any, **settings: object) -> tuple[Shop, subprocess.Popen[bytes]]:
    """Let a worker score 300 events, and stand still while 9,000 more come and most of them are deleted."""
    place = shop(partitions=1, chunk_events=256, session_timeout_seconds=30, **settings)
    _send(place, 0, 300)
    worker = place.start("w0", **settings)
    wait_for(lambda: sum(place.outcomes().values()) == 300, 40, "the first events are scored")

    def change() -> None:
        _send(place, 300, 1)  # the answer to the fetch that waits
        time.sleep(1)
        _send(place, 301, 8999)
        _delete_before(place, 9000)

    _paused(worker, change)
    return place, worker


def test_input_deleted_under_a_worker_stops_it(shop):
    place, worker = _lagging(shop)
    assert worker.wait(60) == 78
    text = place.log_of("w0").read_text()
    outcomes = place.outcomes()
    at = max(offset for _, offset in outcomes) + 1
    assert at < 9000
    assert f"{9000 - at} records were deleted before they were scored ({at} to 9000)" in text
    assert outcomes == {(0, offset): 1 for offset in range(at)}
    assert "Traceback" not in text
    place.start("w0", on_lost="continue")  # what people decide then
    wait_for(lambda: (0, 9299) in place.outcomes(), 60, "the last event is scored")
    found = place.examine(faults=1)
    assert_exactly_once(found, at_least=9300, sessions=50)
    assert found.gone == 9000 - at


def test_input_deleted_under_a_worker_is_counted_and_passed_over(shop):
    port = free_port()
    place, worker = _lagging(shop, on_lost="continue", metrics_port=port)
    wait_for(lambda: (0, 9299) in place.outcomes(), 60, "the last event is scored")
    _send(place, 9300, 100)
    wait_for(lambda: (0, 9399) in place.outcomes(), 40, "an event of later is scored")
    outcomes = place.outcomes()
    at = max(offset for _, offset in outcomes if offset < 9000) + 1
    assert at < 9000
    assert outcomes == {(0, offset): 1 for offset in [*range(at), *range(9000, 9400)]}
    assert values(port, "forecart_events_lost_total", partition="0") == [9000 - at]
    assert "going on behind the gap" in place.log_of("w0").read_text()
    worker.terminate()
    assert worker.wait(20) == 0
    place.start("w0", on_lost="stop")  # the gap is behind it
    _send(place, 9400, 1)
    wait_for(lambda: (0, 9400) in place.outcomes(), 40, "an event after a restart")
    found = place.examine(faults=1)
    assert_exactly_once(found, at_least=9401, sessions=50)
    assert found.gone == 9000 - at


def test_an_input_that_was_cut_off_under_a_worker_is_refused(shop):
    """Make the topic again while a worker stands still: its next offset lies beyond the end."""
    place = shop(partitions=1, session_timeout_seconds=30)
    _send(place, 0, 300)
    worker = place.start("w0")
    wait_for(lambda: sum(place.outcomes().values()) == 300, 40, "the first events are scored")
    before = place.reader.read_all()
    _paused(worker, lambda: (_make_again(place, place.settings.events_topic), _send(place, 300, 50)))
    began = time.monotonic()
    assert worker.wait(60) == 78
    text = place.log_of("w0").read_text()
    assert "was deleted and made again" in text
    print(f"refused after {time.monotonic() - began:.0f} s")
    del place.ledger.records[300:]  # of the topic that was made again nothing was scored
    found = place.examine(faults=1, reading=place.reader.read_all(before))
    assert_exactly_once(found, at_least=300, sessions=50)
