"""`score`: waves, failing steps, results that are no numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core import score
from stream.core.events import REASONS
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


steps_of_time = st.sampled_from([0, 1, 50, -50, 400, 5000, -2000])
rows_of_few = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), steps_of_time, st.integers(0, 9)), max_size=60)


@given(rows_of_few, st.sampled_from([1, 3, 256]), st.sampled_from([4, 1000]))
def test_a_run_of_a_shopper_is_what_waves_make_of_it(rows, run, ttl):
    """Late, duplicate, expired, failing and endless events included, bit for bit, sessions between them too."""

    def moody(inputs, hidden):
        if 8 in inputs["item"]:
            raise RuntimeError("no")
        outputs, state = step(inputs, hidden)
        outputs["intent"][inputs["item"] == 7] = np.nan
        return outputs, state

    facts = manifest("float16", gap=100, ttl=ttl, lateness=1000)
    time = NOON + np.cumsum([row[2] for row in rows], dtype=np.int64)
    batch = events([(slot, f"e{name}", int(at), item) for (slot, name, _, item), at in zip(rows, time, strict=True)])
    found = {}
    for thin in (0, 99):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("stream.core.scoring._THIN", thin)
            patch.setattr("stream.core.scoring._RUN", run)
            warm, sessions = score(batch.take(np.arange(len(rows) // 3)), np.zeros(3, record(facts)), moody, facts)
            rest, after = score(batch.take(np.arange(len(rows) // 3, len(rows))), sessions, moody, facts, keep=True)
        fine = rest.outcome == 0
        found[thin] = [after.tobytes(), rest.after[fine].tobytes(), rest.intent[fine].tobytes()]
        found[thin] += [x.tobytes() for s in (warm, rest) for x in (s.outcome, s.late, s.length, s.started)]
    assert found[0] == found[99]


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
