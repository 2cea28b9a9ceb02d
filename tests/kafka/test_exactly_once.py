"""Exactly once under faults: every input offset has one outcome, every session equals an offline replay."""

import random
import subprocess
import time

import pytest

from stream.kafka.exactly_once.transaction import FAILPOINTS
from tests.kafka.oracle import assert_exactly_once
from tests.kafka.shop import Shop, Upstream, resume, stopped, wait_for

pytestmark = pytest.mark.slow
chaos = pytest.mark.chaos
PAUSE = 10.0  # seconds a worker stands still: longer than the session timeout


@pytest.mark.guarantee("kill -9 of workers; the others see no rebalance", under="1,600 events/s, static members")
def test_five_kills_lose_nothing_and_repeat_nothing(shop):
    """Kill -9 five times at random on 60,000 events; the other worker of the static group sees no rebalance."""
    place = shop(session_timeout_seconds=15)
    workers = {name: place.start(name) for name in ("w0", "w1")}
    place.await_assigned(*workers)
    time.sleep(5)
    before = {name: place.assignments(name) for name in workers}
    upstream = Upstream(place, rate=1600, seconds=40)
    upstream.start()
    dice = random.Random(7)
    kills = {"w0": 0, "w1": 0}
    for _ in range(5):
        time.sleep(dice.uniform(4, 8))
        name = dice.choice(sorted(workers))
        workers[name].kill()
        workers[name].wait()
        kills[name] += 1
        workers[name] = place.start(name)
    upstream.join()
    place.await_outcomes(90)
    assert_exactly_once(place.examine(faults=5), at_least=60_000, sessions=100)
    # A worker killed before it was assigned adds none; the one that was not killed sees no rebalance.
    rebalances = {n: place.assignments(n) - before[n] for n in workers}
    assert all(rebalances[n] <= kills[n] for n in workers), (rebalances, kills)
    assert sum(rebalances.values()) > 0
    assert all(worker.poll() is None for worker in workers.values())
    assert place.committed_lag() == 0


@pytest.mark.guarantee(
    "A worker that stood still at a point of its round, while others went on, commits nothing old",
    under="600 events/s, still for longer than the session timeout",
)
@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=() if point == "after-flush" else chaos) for point in FAILPOINTS]
)
def test_a_worker_that_was_stopped_for_too_long_commits_nothing_old(shop, point):
    """Stop a worker at a point of its round beyond the session timeout, let it go on, and look.

    The transaction's timeout is longer than the stop: else the broker's own abort would fence what the
    membership must fence.
    """
    place = shop(transaction_timeout_seconds=30)
    workers = {"w0": place.start("w0", failpoint=f"{point}@12"), "w1": place.start("w1")}
    upstream = Upstream(place, rate=600, seconds=35)
    place.await_assigned(*workers)
    upstream.start()
    wait_for(lambda: stopped(workers["w0"]), 40, "the failpoint is reached")
    before = place.assignments("w1")
    time.sleep(PAUSE)
    assert place.assignments("w1") > before, "the group went on without the stopped worker"
    resume(workers["w0"])
    while upstream.is_alive():
        _restart_ended(place, workers)
        time.sleep(0.5)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and place.committed_lag():
        _restart_ended(place, workers)
        time.sleep(1)
    place.await_outcomes(20)
    assert_exactly_once(place.examine(faults=1), at_least=10_000, sessions=100)
    if point in ("before-begin", "after-flush"):  # later its offsets were accepted while it still was a member
        told = place.log_of("w0").read_text()
        assert any(word in told for word in ("a transaction was aborted", "its membership ended", "another process"))


def _restart_ended(place: Shop, workers: dict[str, subprocess.Popen[bytes]]) -> None:
    """Do what a supervisor does."""
    for name, worker in list(workers.items()):
        if worker.poll() is not None:
            workers[name] = place.start(name)


@pytest.mark.guarantee("Aborted input is never scored", under="30 % of the upstream's transactions aborted")
def test_aborted_input_is_never_scored(shop):
    """Let the upstream abort 30 % of its transactions."""
    place = shop()
    workers = {name: place.start(name) for name in ("w0", "w1")}
    place.await_assigned(*workers)
    upstream = Upstream(place, rate=800, seconds=20, abort=0.3)
    upstream.start()
    upstream.join()
    place.await_outcomes(60)
    assert upstream.aborted > 10
    assert_exactly_once(place.examine(faults=upstream.aborted), at_least=5_000, sessions=100)
    assert all(worker.poll() is None for worker in workers.values())


@pytest.mark.guarantee("A fetch that is dropped is read again", under="one of ten, 800 events/s")
def test_a_dropped_fetch_is_read_again(shop):
    """Throw fetches away between Kafka and the scorer."""
    place = shop(chunk_events=64)
    worker = place.start("w0", failpoint="drop-fetch@0.1")
    place.await_assigned("w0")
    upstream = Upstream(place, rate=800, seconds=15, abort=0.3)
    upstream.start()
    upstream.join()
    place.await_outcomes(60)
    dropped = place.log_of("w0").read_text().count("a fetch was dropped")
    assert_exactly_once(place.examine(faults=dropped), at_least=5_000, sessions=100)
    assert dropped > 10
    assert worker.poll() is None


@pytest.mark.guarantee(
    "Of two processes with one name exactly one ends, within 30 s of the younger's start",
    under="an idle topic and 500 events/s; session timeouts of 6 s and 30 s",
)
@pytest.mark.parametrize(
    ("rate", "session"),
    [(0, 6), (500, 6), pytest.param(0, 30, marks=chaos), pytest.param(500, 30, marks=chaos)],
)
def test_of_two_processes_with_one_name_exactly_one_ends(shop, rate, session):
    """Start a worker's twin: they must not take the name from each other in turns."""
    place = shop(session_timeout_seconds=session)
    older = place.start("w0")
    place.await_assigned("w0")
    first = Upstream(place, rate=500, seconds=2)
    first.start()
    first.join()
    place.await_outcomes(60)
    upstream = Upstream(place, rate=rate, seconds=60)
    if rate:
        upstream.start()
        time.sleep(2)
    younger = place.start("w0")
    wait_for(lambda: [older.poll(), younger.poll()] != [None, None], 30, "one of them ends")
    codes = [older.poll(), younger.poll()]
    assert sorted(codes, key=str) == [76, None], codes
    assert "another process runs as w0" in place.log_of("w0").read_text()
    time.sleep(session / 2 + 2)  # two heartbeats, and room for an answer
    assert [older.poll(), younger.poll()] == codes
    if rate:
        upstream.seconds = 0
        upstream.join()
    place.await_outcomes(60)
    assert_exactly_once(place.examine(faults=1), at_least=900 + 5 * rate, sessions=100)
