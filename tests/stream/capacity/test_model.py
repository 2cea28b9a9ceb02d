"""What a load needs: simple cases worked out by hand, and how figures move with the load."""

import dataclasses
from itertools import pairwise

import pytest

from stream.capacity.constants import COSTS
from stream.capacity.model import EVENTS, USERS, Choices, Costs, changes, distinct, grid, plan

ROUND = Costs(
    hidden=128,
    worker_rate=10_000,
    worker_us_per_event=100,
    broker_us_per_event=50,
    recommend_factor=4,
    round_events=1000,
    round_seconds=0.1,
    event_bytes=100,
    score_bytes=300,
    change_bytes=1000,
    base_bytes=1e8,
    user_bytes=1000,
    recovery_seconds=1,
    recovery_rate=100_000,
)
CHOICES = Choices(utilisation=0.5, worker_bytes=1.1e9, recovery_limit=62, slack=1)


def test_a_small_load_fits_into_one_worker():
    small = plan(1000, 100_000, ROUND, CHOICES)
    assert (small.workers, small.partitions, small.brokers, small.first) == (1, 12, 3, "one worker")
    assert small.cores == pytest.approx(1000 * 100e-6 / 0.5)
    assert small.worker_bytes == pytest.approx(1e8 + 100_000 * 1000)
    assert small.recovery == pytest.approx(12 + 1)
    assert small.failover == pytest.approx(43)


def test_each_limit_asks_for_its_own_workers():
    assert plan(50_000, 1e5, ROUND, CHOICES).by == {"throughput": 10, "memory": 1, "recovery": 1}
    assert plan(10, 4e6, ROUND, CHOICES).by == {"throughput": 1, "memory": 4, "recovery": 1}
    roomy = dataclasses.replace(CHOICES, worker_bytes=1e11)
    assert plan(10, 6e7, ROUND, roomy).by == {"throughput": 1, "memory": 1, "recovery": 10}


@pytest.mark.parametrize(
    ("events", "users", "first"),
    [(50_000, 1e5, "throughput"), (10, 4e6, "memory"), (10, 3e6, "memory"), (1e6, 1e6, "throughput")],
)
def test_what_asks_for_the_most_workers_runs_out_first(events: float, users: float, first: str):
    found = plan(events, users, ROUND, CHOICES)
    assert found.first == first
    assert found.remedy


def test_brokers_run_out_first_where_their_bytes_ask_for_more_of_them_than_the_workers_do():
    slow = dataclasses.replace(CHOICES, broker_bytes=1e6)
    assert plan(5_000, 1e5, ROUND, slow).first == "brokers"


def test_lists_of_items_ask_for_more_workers():
    listed = dataclasses.replace(CHOICES, recommend=True)
    assert plan(50_000, 1e5, ROUND, listed).workers == 4 * plan(50_000, 1e5, ROUND, CHOICES).workers


def test_copies_are_written_and_read_by_brokers():
    found = plan(1000, 1e9, ROUND, dataclasses.replace(CHOICES, worker_bytes=1e13, recovery_limit=1e9))
    one = 1000 * (100 + 300 + found.changes * 1000)
    assert found.write_bytes == pytest.approx(3 * one)
    assert found.read_bytes == pytest.approx(1000 * (100 + 300) + 2 * one)


def test_events_of_the_same_users_share_a_changelog_record():
    assert changes(1000, 1e9) == pytest.approx(1, abs=1e-3)
    assert changes(1000, 10) == pytest.approx(0.01)
    assert distinct(2, 1) == pytest.approx(1, abs=0.2)


def test_more_load_never_needs_less():
    workers = grid(COSTS, Choices(), lambda p: p.workers)
    partitions = grid(COSTS, Choices(), lambda p: p.partitions)
    for figure in (workers, partitions):
        assert all(a <= b for row in figure for a, b in pairwise(row))
        assert all(a <= b for a, b in pairwise(figure) for a, b in zip(a, b, strict=True))
    assert len(workers) == len(EVENTS)
    assert len(workers[0]) == len(USERS)


def test_each_worker_has_a_partition():
    for events in EVENTS:
        for users in USERS:
            found = plan(events, users, COSTS)
            assert found.partitions >= found.workers * Choices().growth


@pytest.mark.parametrize(("events", "users"), [(0, 1), (-1, 1), (1, 0)])
def test_nothing_is_no_load(events: float, users: float):
    with pytest.raises(ValueError, match="positive"):
        plan(events, users, COSTS)
