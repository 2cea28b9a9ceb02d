"""Recommendations on their own clock."""

import numpy as np

from stream.core.list_triggers import Clock
from stream.core.session import Advance, record
from tests.fakes import manifest

NAMES = ("h", "c")


def _tick(clock, now, by=0.0, opens=False, fresh=False):
    n = len(now)
    before = {name: now[name].astype("f4") for name in NAMES}
    now["length"] = 1 if opens else now["length"] + 1
    now["h"] += np.float32(by)
    met = Advance(*(np.full(n, value) for value in (0, opens, fresh, False, 0.0)))
    return clock.tick(now, met, before, NAMES).tolist()


def test_each_clock_says_when():
    now = np.zeros(1, record(manifest()))
    for on, due in (("every", [1, 1, 1, 1]), ("session", [1, 0, 0, 0]), ("nth", [1, 0, 0, 1])):
        found = [_tick(Clock(on, nth=3), now, opens=n == 0)[0] for n in range(4)]
        assert found == [bool(one) for one in due], on


def test_moves_add_up_until_a_list_is_due():
    now, clock = np.zeros(1, record(manifest())), Clock("moved", moved=0.5)
    steps = [_tick(clock, now, by, fresh=n == 0)[0] for n, by in enumerate([1.0, 0.5, 0.5, 0.0, 0.5, 0.5])]
    assert steps == [True, False, True, False, False, True]  # h is half of the state: each step moves 0.354


def test_only_a_shoppers_last_scored_event_gets_the_list():
    slot, due = np.array([0, 1, 0, 0, 2]), np.array([True, False, False, False, True])
    scored = np.array([True, True, True, False, True])
    assert Clock(last=True).choose(due, scored, slot).tolist() == [2, 4]
    assert Clock().choose(due, scored, slot).tolist() == [0, 4]
