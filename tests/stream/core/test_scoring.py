"""`score`: waves, failing steps, results that are no numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core import score
from stream.core.events import REASONS
from stream.core.list_triggers import Clock
from stream.core.scoring import waves
from stream.core.session import record
from tests.fakes import NOON, events, manifest, step


@given(st.lists(st.integers(0, 6), max_size=60))
def test_waves_hold_each_shopper_once_and_in_order(slots):
    found = [wave.tolist() for wave in waves(np.array(slots, np.int64))]
    assert sorted(i for wave in found for i in wave) == list(range(len(slots)))
    for wave in found:
        assert len({slots[i] for i in wave}) == len(wave)
    for slot in set(slots):
        order = [i for wave in found for i in wave if slots[i] == slot]
        assert order == sorted(order)
    assert len(found) == max((slots.count(slot) for slot in set(slots)), default=0)


def test_what_was_given_is_left_as_it_was():
    facts = manifest()
    before = np.zeros(1, record(facts))
    score(events([(0, "a", NOON, 1)]), before, step, facts)
    assert before.tobytes() == bytes(before.nbytes)


@pytest.mark.parametrize("bad", [{3}, {0, 15}, set(range(16)), set()])
def test_a_failing_step_costs_only_the_events_to_blame(bad):
    def failing(inputs, hidden):
        if bad & set(inputs["item"].tolist()):
            raise RuntimeError("no")
        return step(inputs, hidden)

    facts = manifest()
    rows = [(i, f"e{i}", NOON, i) for i in range(16)]
    scores, after = score(events(rows), np.zeros(16, record(facts)), failing, facts)
    expected, _ = score(events(rows), np.zeros(16, record(facts)), step, facts)
    unscorable = REASONS.index("unscorable") + 1
    assert scores.outcome.tolist() == [unscorable if i in bad else 0 for i in range(16)]
    for i in range(16):
        if i in bad:
            assert after[i].tobytes() == bytes(after.dtype.itemsize)
        else:
            assert scores.intent[i].tolist() == expected.intent[i].tolist()


@pytest.mark.parametrize("where", ["intent", "h"])
def test_a_result_that_is_no_number_leaves_the_session(where):
    def broken(inputs, hidden):
        outputs, state = step(inputs, hidden)
        (outputs if where == "intent" else state)[where][inputs["item"] == 2] = np.nan
        return outputs, state

    facts = manifest()
    rows = [(0, "a", NOON, 1), (1, "b", NOON, 2), (1, "c", NOON + 1, 3)]
    scores, after = score(events(rows), np.zeros(2, record(facts)), broken, facts)
    assert scores.outcome.tolist() == [0, REASONS.index("not_finite") + 1, 0]
    assert after["length"].tolist() == [1, 1]
    assert after["recent_event"][1, 1] == 0


def test_a_state_too_large_for_its_type_is_no_number():
    def large(inputs, hidden):
        return step(inputs, hidden)[0], {"h": np.full((len(inputs["item"]), 2), 1e6, "f4"), "c": hidden["c"]}

    facts = manifest("float16")
    scores, _ = score(events([(0, "a", NOON, 1)]), np.zeros(1, record(facts)), large, facts)
    assert REASONS[scores.outcome[0] - 1] == "not_finite"


def test_nothing_comes_of_nothing():
    facts = manifest()
    scores, after = score(events([]), np.zeros(0, record(facts)), step, facts)
    assert len(scores.outcome) == len(after) == 0


def test_the_session_after_each_event_is_kept_where_it_is_asked_for():
    facts, before = manifest(), np.zeros(2, record(manifest()))
    rows = [(0, "a", NOON, 1), (1, "b", NOON, 2), (0, "c", NOON + 1, 3), (0, "a", NOON + 2, 4), (0, "d", NOON + 3, 5)]
    scores, _ = score(events(rows), before, step, facts, keep=True)
    assert scores.outcome.astype(bool).tolist() == [False, False, False, True, False]
    for n, (slot, *_) in enumerate(rows):
        _, until = score(events(rows[: n + 1]), before, step, facts)
        expected = np.zeros((), before.dtype) if scores.outcome[n] else until[slot]
        assert scores.after[n].tobytes() == expected.tobytes()
    assert score(events(rows), before, step, facts)[0].after is None


def _asking(inputs, hidden):
    outputs, state = step(inputs, hidden)
    return {**outputs, "query": state["h"]}, state


def _scored_with_lists(rows, clock):
    asked = []

    def lists(answers):
        asked.append(answers)
        n = len(answers["query"])
        return {"items": np.arange(1, n + 1)[:, None], "item_scores": np.ones((n, 1), "f4")}

    facts = manifest()
    found, after = score(events(rows), np.zeros(4, record(facts)), _asking, facts, lists=lists, clock=clock)
    return found, after, asked


def test_lists_are_asked_for_once_and_for_the_rows_that_the_clock_chooses():
    rows = [(slot, f"{slot}-{n}", NOON + n, n + 1) for n in range(3) for slot in range(2)]
    for clock, chosen in (
        (Clock(), [0, 1, 2, 3, 4, 5]),
        (Clock(last=True), [4, 5]),
        (Clock("session"), [0, 1]),
        (Clock("nth", nth=2), [0, 1, 4, 5]),
    ):
        found, after, asked = _scored_with_lists(rows, clock)
        assert found.listed.tolist() == chosen
        assert len(asked) == 1
        assert np.flatnonzero(found.items[:, 0]).tolist() == chosen
        plain, same = score(events(rows), np.zeros(4, record(manifest())), _asking, manifest())
        assert np.array_equal(found.intent, plain.intent)
        assert after.tobytes() == same.tobytes()
        assert asked[0]["query"].tolist() == plain.answers["query"][chosen].tolist()


def test_lists_know_what_the_ring_holds_as_bought():
    batch, facts, seen = events([(0, f"e{n}", NOON + n, n + 1) for n in range(3)]), manifest(), []
    batch.type[1] = facts.meaning.types.index(facts.meaning.purchase)

    def lists(answers):
        seen.append(answers["bought"])
        return {"items": np.ones((3, 1), int), "item_scores": np.ones((3, 1), "f4")}

    score(batch, np.zeros(1, record(facts)), _asking, facts, lists=lists)
    assert [set(row[row > 0].tolist()) for row in seen[0]] == [set(), {3}, {3}]
