"""What a worker says and does while Kafka is away: it waits, tells so, and can be ended."""

import signal
import time

import pytest

from stream.kafka.embedded_broker import free_port
from tests.kafka.nodes import Node
from tests.kafka.probes import ask, values
from tests.kafka.shop import wait_for
from tests.kafka.trial import PATIENCE

pytestmark = pytest.mark.slow
STALL = 5  # seconds: a worker with work at hand that does not move for so long is not live


def _stays_live(port: int, seconds: float) -> float:
    """Look at the probe throughout; return for how long (seconds) work that was at hand did not move."""
    until, longest = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        assert ask(port, "/livez") == (200, "ok\n")
        longest = max(longest, time.time() - values(port, "forecart_last_progress_timestamp_seconds")[0])
        time.sleep(0.5)
    return longest


@pytest.mark.guarantee("A worker says that Kafka is away, stays live, and ends when it is told to", under="any outage")
def test_an_outage_is_told_and_a_signal_ends_it(node: Node, trial):
    """A worker that has work at hand when the broker goes, then one that starts while it is away."""
    one, port = trial(node.address), free_port()
    one.start("w0", metrics_port=port, stall_seconds=STALL, round_chunks=1, chunk_events=50)
    one.burst(300)
    wait_for(lambda: ask(port, "/readyz")[0] == 200, PATIENCE, "readiness")
    assert values(port, "forecart_kafka_reachable") == [1]
    sending = one.send(rate=2000, seconds=6)
    wait_for(lambda: sum(values(port, "forecart_consumer_lag")) > 200, 30, "events wait")
    node.kill()
    one.faults += 1
    for start in (False, True):
        if start:
            one.start("w0", metrics_port=port, stall_seconds=STALL)
        wait_for(lambda: ask(port, "/readyz")[0] == 503, 30, "the worker is unready")
        wait_for(lambda: "does not answer" in ask(port, "/readyz")[1], 30, "the reason is told")
        stood = _stays_live(port, 5 if start else 20)
        assert start or stood > 2 * STALL
        assert values(port, "forecart_kafka_reachable") == [0]
        log = one.place.log_of("w0").read_text()
        assert log.count("; waiting") == 1 + start
        assert log.count("aiokafka") == 0
        one.workers["w0"].send_signal(signal.SIGTERM)
        assert one.workers.pop("w0").wait(45) == 0
        assert "Traceback" not in one.place.log_of("w0").read_text()
    one.start("w0")
    time.sleep(3)
    node.start()
    sending.join(PATIENCE)
    one.await_assigned()
    one.burst(300)
    one.end(at_least=500)


@pytest.mark.parametrize("seconds", [20, pytest.param(150, marks=pytest.mark.chaos)])
def test_the_log_of_an_outage_is_a_few_lines_a_minute(node: Node, trial, seconds: int):
    """With a catalog, whose reader has its own connection, and with events that wait."""
    one = trial(node.address, catalog_topic=f"catalog-{time.time_ns()}")
    one.start("w0")
    one.await_assigned()
    one.burst(300)
    upstream = one.send(rate=100, seconds=seconds + 10)
    time.sleep(3)
    log, before = one.place.log_of("w0"), len(one.place.log_of("w0").read_text())
    node.kill()
    one.faults += 1
    time.sleep(seconds)
    told = log.read_text()[before:].splitlines()
    node.start()
    assert len(told) <= 6 + 2 * (seconds // 60), "\n".join(told)
    assert [line for line in told if "the catalog" in line]
    upstream.join(PATIENCE)
    one.end(at_least=100 * seconds)
    assert len(log.read_text()[before:].splitlines()) <= 40 + 2 * (seconds // 60)


def test_the_wait_can_be_bounded(node: Node, trial):
    one = trial(node.address)
    one.send(rate=300, seconds=1).join(PATIENCE)
    node.stop()
    one.start("w0", kafka_wait_seconds=5)
    assert one.workers["w0"].wait(60) == 69
    assert "does not answer" in one.place.log_of("w0").read_text().splitlines()[-2]
    node.start()
    one.faults += 1
    one.start("w0")
    one.end(at_least=200)
