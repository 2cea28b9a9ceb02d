"""A transaction that hangs upstream: what waits behind it is lag, and how long it has been waited for is told."""

import random
import time

import pytest
from confluent_kafka import Producer

from stream.kafka.embedded_broker import free_port
from tests.kafka.oracle import assert_exactly_once
from tests.kafka.probes import ask, values
from tests.kafka.shop import Shop, event, wait_for


def _waits(port: int, events: int, place: Shop) -> bool:
    lags = values(port, "forecart_consumer_lag")
    return len(lags) == place.partitions and sum(lags) == events


def _send(place: Shop, out: Producer, numbers: range) -> None:
    dice, now = random.Random(1), int(time.time() * 1000)
    out.begin_transaction()
    for n in numbers:
        user = f"user-{n % 30}"
        out.produce(place.settings.events_topic, event(n, user, now + n, dice), user.encode())
    assert out.flush(30) == 0


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_transaction_that_hangs_is_lag_until_it_ends(shop, end):
    place, port = shop(partitions=2), free_port()
    out = place.producer(**{"transactional.id": f"upstream-{place.group}", "transaction.timeout.ms": 300_000})
    out.init_transactions(30)
    _send(place, out, range(40))
    out.commit_transaction(30)
    worker = place.start("w0", metrics_port=port)
    place.await_outcomes(60)
    wait_for(lambda: _waits(port, 0, place), 30, "no lag, with markers at the end of each partition")
    assert max(values(port, "forecart_input_blocked_seconds")) == 0

    _send(place, out, range(40, 140))
    wait_for(lambda: _waits(port, 100, place), 30, "a lag of what the open transaction holds")
    for seconds in (1, 4):
        wait_for(lambda s=seconds: min(values(port, "forecart_input_blocked_seconds")) > s, 30, "blocked for longer")
    assert 0 < max(values(port, "forecart_consumer_lag_seconds")) <= max(values(port, "forecart_input_blocked_seconds"))
    assert (ask(port, "/readyz")[1], ask(port, "/livez")[1]) == ("ok\n", "ok\n")
    assert sum(place.outcomes().values()) == 40

    out.commit_transaction(30) if end == "commit" else out.abort_transaction(30)
    wait_for(lambda: _waits(port, 0, place), 30, "no lag once the transaction has ended")
    wait_for(lambda: max(values(port, "forecart_input_blocked_seconds")) == 0, 30, "no longer blocked")
    place.await_outcomes(60)
    assert sum(place.outcomes().values()) == (140 if end == "commit" else 40)
    assert worker.poll() is None
    assert_exactly_once(place.examine(faults=1), at_least=40)

    worker.terminate()
    assert worker.wait(30) == 0
    place.start("w0", metrics_port=port)
    wait_for(lambda: _waits(port, 0, place), 60, "no lag after a restart on markers alone")
    assert max(values(port, "forecart_input_blocked_seconds")) == 0
