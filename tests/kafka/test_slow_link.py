"""A link of 64 KiB/s between worker and broker: rounds become small enough for it, and an abort costs a round."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kafka.nodes import Node
from tests.kafka.oracle import assert_exactly_once
from tests.kafka.proxy import Proxy
from tests.kafka.shop import Shop, event, wait_for

pytestmark = pytest.mark.slow
RATE = 64_000  # bytes/s each way


@pytest.fixture
def link(tmp_path: Path) -> Iterator[tuple[Proxy, Node]]:
    """Run a broker, and a proxy that leads to it."""
    with Proxy(tmp_path / "proxy.log") as proxy, Node(tmp_path / "node", behind=proxy.port) as node:
        proxy.forward(node.inner)
        yield proxy, node


def _burst(place: Shop, first: int, events: int) -> None:
    dice, now = random.Random(first), int(time.time() * 1000)
    users = [f"user-{dice.randrange(2000)}" for _ in range(events)]
    place.send([(user.encode(), event(first + n, user, now + n, dice)) for n, user in enumerate(users)])


def _published(place: Shop) -> int:
    """Return the bytes that committed transactions wrote."""
    topics = place.settings.scores_topic, place.settings.dead_letters_topic, place.settings.changelog
    return sum(len(m.key() or b"") + len(m.value() or b"") for topic in topics for m in place.read(topic))


def _goodput(place: Shop, seconds: float) -> float:
    """Measure the bytes that are committed a second, from the end of a round on."""
    begin = _published(place)
    wait_for(lambda: _published(place) > begin, 90, "a round gets through")
    began, begin = time.monotonic(), _published(place)
    time.sleep(seconds)
    return (_published(place) - begin) / (time.monotonic() - began)


def _said(place: Shop, text: str) -> int:
    return place.log_of("w0").read_text().count(text)


def _judge(place: Shop) -> None:
    place.await_outcomes(120)
    assert_exactly_once(place.examine(), at_least=12_000, sessions=1000)


@pytest.mark.guarantee("A slow link carries scores and state for half of its bytes", under="64 KiB/s from the start")
@pytest.mark.chaos
def test_from_the_start_more_than_half_of_what_a_slow_link_carries_is_scores_and_state(
    link, shops: Callable[..., Shop]
):
    proxy, node = link
    place = shops(node.address)
    _burst(place, 0, 12_000)
    proxy.throttle(RATE)
    worker = place.start("w0", bootstrap_servers=proxy.address)
    goodput = _goodput(place, 60)
    print(f"{goodput:.0f} bytes/s of {RATE}, {_said(place, 'was aborted')} aborts")
    proxy.mend()
    _judge(place)
    assert worker.poll() is None
    assert goodput > RATE / 2


@pytest.mark.guarantee("A link that becomes slow costs no recovery", under="64 KiB/s while 12,000 events wait")
@pytest.mark.chaos
def test_a_link_that_becomes_slow_costs_the_rounds_that_were_too_large_and_no_recovery(
    link, shops: Callable[..., Shop]
):
    proxy, node = link
    place = shops(node.address)
    worker = place.start("w0", bootstrap_servers=proxy.address)
    place.await_assigned("w0")
    _burst(place, 0, 30_000)
    place.await_outcomes(90)
    proxy.throttle(RATE)
    _burst(place, 30_000, 12_000)
    wait_for(lambda: _said(place, "rolled back to positions"), 90, "a round is rolled back")
    goodput = _goodput(place, 60)
    aborts = _said(place, "was aborted")
    print(f"{goodput:.0f} bytes/s of {RATE}, {aborts} aborts")
    proxy.mend()
    _judge(place)
    assert worker.poll() is None
    assert goodput > RATE / 2
    assert _said(place, "rolled back to positions") == aborts <= 5
    assert _said(place, "recovered 4 partitions") == 1
