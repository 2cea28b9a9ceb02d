"""Runs: many events of one shopper in one call, scored as by single steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core import score
from stream.core.events import REASONS
from stream.core.list_triggers import Clock
from stream.core.session import record
from stream.core.unroll import along
from tests.fakes import DAY, HOUR, MINUTE, NOON, events, manifest, step


class Whole:
    """Step along a run; keep the numbers of events of the runs that were tried and of those that went through."""

    def __init__(self, facts, one=step):
        self.layout, self.one, self.tries, self.calls = record(facts), one, [], []

    def __call__(self, inputs, hidden):
        self.tries.append({len(value) for value in inputs.values()})
        said, states = [], []
        for place in range(len(inputs["item"])):
            outputs, hidden = self.one({name: value[place : place + 1] for name, value in inputs.items()}, hidden)
            hidden = {name: value.astype(self.layout[name].base) for name, value in hidden.items()}
            said.append(outputs)
            states.append(hidden)
        self.calls.append(len(said))
        return tuple(
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} for parts in (said, states)
        )


def _failing(bad):
    def one(inputs, hidden):
        if bad & set(inputs["item"].tolist()):
            raise RuntimeError("no")
        return step(inputs, hidden)

    return one


def _broken(where, bad):
    def one(inputs, hidden):
        outputs, state = step(inputs, hidden)
        value = (outputs if where == "intent" else state)[where]
        value[np.isin(inputs["item"], list(bad))] = np.nan
        return outputs, state

    return one


def _same(found, expected):
    (scores, after), (others, until) = found, expected
    for name in ("outcome", "late", "length", "started", "intent"):
        assert np.array_equal(getattr(scores, name), getattr(others, name), equal_nan=True), name
    assert after.tobytes() == until.tobytes()
    if scores.after is not None:
        assert scores.after.tobytes() == others.after.tobytes()


pauses = st.sampled_from([0, 1, MINUTE, HOUR, -MINUTE, -2 * DAY, 200 * DAY])
rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), pauses, st.integers(0, 9)), max_size=40)


@given(
    rows,
    st.sets(st.integers(0, 9), max_size=2),
    st.sampled_from(["float16", "float32"]),
    st.sampled_from(["", "raises", "intent", "h"]),
)
def test_a_run_is_scored_as_its_single_steps(drawn, bad, dtype, fault):
    """Draw duplicates, late events, pauses beyond the TTL, items at which the step raises or says no number."""
    time, batch = NOON, []
    for slot, event, pause, item in drawn:
        time += pause
        batch.append((slot, f"e{event}", time, item))
    facts = manifest(dtype)
    one = step if not fault else _failing(bad) if fault == "raises" else _broken(fault, bad)
    before = np.zeros(3, record(facts))
    for clock in (Clock(), Clock("nth", nth=2)):
        whole = Whole(facts, one)
        found = score(events(batch), before, one, facts, True, None, clock, whole)
        _same(found, score(events(batch), before, one, facts, True, None, clock))
        assert all(len(lengths) == 1 for lengths in whole.tries)


def test_a_shopper_with_half_of_the_events_is_a_few_calls():
    facts, single = manifest(), []

    def counted(inputs, hidden):
        single.append(len(inputs["item"]))
        return step(inputs, hidden)

    batch = events([(0 if n % 2 else n, f"e{n}", NOON + n, n) for n in range(1000)])
    whole = Whole(facts)
    score(batch, np.zeros(1000, record(facts)), counted, facts, whole=whole)
    assert sum(single) + sum(whole.calls) == 1000
    assert len(single) == 1
    assert whole.calls == [256, 244]


@pytest.mark.parametrize("bad", [1, 5, 8])
def test_an_event_that_fails_within_a_run_costs_itself_alone(bad):
    facts = manifest()
    one = _failing({bad})
    batch = events([(0, f"e{n}", NOON + n, n) for n in range(9)])
    whole = Whole(facts, one)
    found = score(batch, np.zeros(1, record(facts)), one, facts, whole=whole)
    assert len(whole.tries) <= 3  # not once for each event before it
    expected = [REASONS.index("unscorable") + 1 if n == bad else 0 for n in range(9)]
    assert found[0].outcome.tolist() == expected
    without = events([(0, f"e{n}", NOON + n, n) for n in range(9) if n != bad])
    assert found[1].tobytes() == score(without, np.zeros(1, record(facts)), step, facts)[1].tobytes()


@pytest.mark.parametrize("where", ["intent", "h"])
def test_no_number_within_a_run_leaves_the_session_to_the_next_event(where):
    facts = manifest("float16")
    one = _broken(where, {4})
    batch = events([(0, f"e{n}", NOON + n, n) for n in range(9)])
    scores, after = score(batch, np.zeros(1, record(facts)), one, facts, whole=Whole(facts, one))
    assert scores.outcome.tolist() == [0, 0, 0, 0, REASONS.index("not_finite") + 1, 0, 0, 0, 0]
    assert after["length"].tolist() == [8]
    without = events([(0, f"e{n}", NOON + n, n) for n in range(9) if n != 4])
    assert after.tobytes() == score(without, np.zeros(1, record(facts)), step, facts)[1].tobytes()


def test_a_run_ends_before_a_duplicate_and_goes_on_behind_it():
    facts, whole = manifest(), Whole(manifest())
    batch = events([(0, f"e{3 if n == 5 else n}", NOON + n, n) for n in range(9)])
    scores, _ = score(batch, np.zeros(1, record(facts)), step, facts, whole=whole)
    assert np.flatnonzero(scores.outcome).tolist() == [5]
    assert whole.calls == [4, 3]
    assert whole.tries == [{4}, {3}]


def test_a_call_for_the_run_that_raises_alone_is_made_good_by_steps():
    def never(inputs, hidden):
        raise RuntimeError("no graph")

    facts, batch = manifest(), events([(0, f"e{n}", NOON + n, n) for n in range(9)])
    before = np.zeros(1, record(facts))
    _same(score(batch, before, step, facts, whole=never), score(batch, before, step, facts))


def test_states_are_rounded_from_step_to_step():
    facts = manifest("float16")
    given = {"item": np.array([0, 0]), "type": np.zeros(2, int), "numeric": np.full((2, 13), 1e-4, "f4")}
    state = {"h": np.zeros((1, 2), "f2"), "c": np.ones((1, 2), "f2")}
    _, after = along(given, state, record(facts), step, None)
    assert after["c"].dtype == np.float16
    assert after["c"].tolist() == [[1, 1], [1, 1]]  # a ten-thousandth is below half a neighbour of 1
