"""As many shoppers as a partition may keep, on a real broker: the state is still what the log says, and no more."""

import time

from tests.kafka.oracle import assert_exactly_once
from tests.kafka.shop import Upstream, event, wait_for

_BOUND, _LOWER = 40, 10


def _kept(place) -> dict[int, set[bytes]]:
    """Return whose sessions the changelog holds, by partition."""
    held: dict[int, set[bytes]] = {number: set() for number in range(place.partitions)}
    for message in place.read(place.settings.changelog):
        if (key := message.key())[:1] == b"u":
            (held[message.partition()].add if message.value() else held[message.partition()].discard)(key)
    return held


def test_no_more_are_kept_whoever_comes_and_whatever_is_killed(shop):
    """Let 400 shoppers come for 80 places, kill the worker, compare with the log; then lower the bound."""
    place = shop(max_users=_BOUND, partitions=2)
    worker = place.start("w0")
    upstream = Upstream(place, rate=500, seconds=14, users=400)
    upstream.start()
    time.sleep(8)
    worker.kill()
    worker.wait()
    worker = place.start("w0")
    upstream.join()
    place.await_outcomes(60)
    assert_exactly_once(place.examine(faults=1), at_least=6000, sessions=2 * _BOUND)
    assert {number: len(users) for number, users in _kept(place).items()} == {0: _BOUND, 1: _BOUND}
    worker.terminate()
    worker.wait(30)
    worker = place.start("w0", max_users=_LOWER)
    now = int(time.time() * 1000)
    place.send([(f"late-{n}".encode(), event(10**6 + n, f"late-{n}", now, upstream._dice)) for n in range(8)])
    place.await_outcomes(40)
    wait_for(lambda: all(len(users) <= _LOWER for users in _kept(place).values()), 20, "the others are gone")
    assert worker.poll() is None
