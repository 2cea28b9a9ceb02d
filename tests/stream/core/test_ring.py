"""Rings scored anew: leaving an event out is scoring a log without it, a neutral field is that input at zero."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core import ring, score
from stream.core.events import Event
from stream.core.features import AGAIN, NUMERIC, Events, encode
from stream.core.manifest import Vocabulary
from stream.core.session import record
from tests.fakes import DAY, HOUR, MINUTE, NOON, manifest, step

VOCAB = Vocabulary([f"i{n}" for n in range(1, 10)], ["x", "y"], [1, 2, 0] * 3)
FACTS = manifest(ttl=DAY)
TYPES = {name: i for i, name in enumerate(FACTS.meaning.types)}
rows = st.lists(
    st.tuples(st.sampled_from([0, MINUTE, HOUR, 20 * HOUR, 2 * DAY]), st.sampled_from(list(TYPES)), st.integers(1, 12)),
    min_size=1,
    max_size=12,
)


def _events(given_rows: list[tuple[int, str, int]]) -> Events:
    """Make a shopper's events of (pause in ms, type, item); items above 9 are unknown."""
    times = NOON + np.cumsum([pause for pause, *_ in given_rows])
    made = [
        Event(f"e{n}", "u", type_, f"i{item}", int(time))
        for n, ((_, type_, item), time) in enumerate(zip(given_rows, times, strict=True))
    ]
    n = len(made)
    return encode(made, np.full(n, NOON), np.zeros(n, np.int64), TYPES, VOCAB)


def _scored(events: Events):
    """Return the last event's intent, and the session after it."""
    scores, after = score(events, np.zeros(1, record(FACTS)), step, FACTS)
    assert not scores.outcome.any()
    return scores.intent[-1], after


@given(rows)
def test_leaving_an_event_out_is_scoring_the_log_without_it(given_rows):
    events = _events(given_rows)
    _, after = _scored(events)
    kept = int((after["recent_event"][0] != 0).sum())
    events = events.take(np.arange(len(events))[-kept:])
    found = ring.without_each(after, step, FACTS, VOCAB, 8)["intent"]
    assert found.shape == (1, 9, 2)
    assert np.array_equal(found[0, 0], _scored(events)[0])
    for place in range(8):
        rest = np.delete(np.arange(kept), [kept - 1 - place]) if place < kept else []
        if len(rest):
            assert np.array_equal(found[0, 1 + place], _scored(events.take(rest))[0])
        else:
            assert np.isnan(found[0, 1 + place]).all()


@given(st.lists(rows, min_size=2, max_size=4))
def test_rings_of_any_length_do_not_mix(many):
    heads = np.concatenate([_scored(_events(each))[1] for each in many])
    together = ring.without_each(heads, step, FACTS, VOCAB, 3)["intent"]
    for row, head in enumerate(heads):
        alone = ring.without_each(head[None], step, FACTS, VOCAB, 8)["intent"]
        assert np.array_equal(together[row], alone[0, :4], equal_nan=True)


def test_a_neutral_field_is_that_input_at_zero_in_every_event():
    """Look at what the step is given: each variant lacks its field, and nothing else."""
    _, after = _scored(_events([(0, "view", 1), (HOUR, "addtocart", 2), (MINUTE, "transaction", 4)]))
    seen = []

    def watching(inputs, hidden):
        seen.append({name: value.copy() for name, value in inputs.items()})
        return step(inputs, hidden)

    found = ring.without_fields(after, watching, FACTS, VOCAB)["intent"]
    names = list(ring.fields(NUMERIC))
    assert names == ["item", "category", "type", "log_gap", "opens", "fresh", "hour", "weekday", *AGAIN]
    assert found.shape == (1, 1 + len(names), 2)
    assert [given["item"][0] for given in seen] == [1, 2, 4]
    for given_ in seen:
        for variant, (name, columns) in enumerate(ring.fields(NUMERIC).items(), 1):
            for other in ("item", "category", "type"):
                assert given_[other][variant] == (0 if other == name else given_[other][0])
            expected = given_["numeric"][0].copy()
            expected[columns] = 0
            assert given_["numeric"][variant].tolist() == expected.tolist()
    assert found[0, 1 + names.index("item"), 0] < found[0, 0, 0]


def _known(inputs, hidden):
    """Step as if newcomers were no item."""
    return step({**inputs, "item": VOCAB.known(inputs["item"])}, hidden)


def test_the_causes_are_the_events_that_matter_most():
    _, after = _scored(_events([(0, "view", 1), (0, "view", 9), (0, "view", 2), (0, "view", 12), (0, "view", 5)]))
    (causes,) = ring.causes(after, _known, FACTS, VOCAB)
    assert [cause.item_id for cause in causes] == ["i9", "i5", "i2"]
    assert causes[0].contribution > causes[1].contribution > causes[2].contribution > 0
    assert causes[0].event_time == NOON
    assert causes[0].type == "view"


def test_an_unknown_item_has_no_name():
    def only_unknown(inputs, hidden):
        outputs, state = step({**inputs, "item": (inputs["item"] > 9) * 9}, hidden)
        return outputs, state

    _, after = _scored(_events([(0, "view", 1), (0, "addtocart", 12), (0, "view", 2)]))
    (causes,) = ring.causes(after, only_unknown, FACTS, VOCAB)
    assert (causes[0].item_id, causes[0].type) == ("", "addtocart")


@pytest.mark.parametrize("count", [0, 1])
def test_without_another_event_there_is_no_cause(count: int):
    heads = np.zeros(1, record(FACTS)) if not count else _scored(_events([(0, "view", 1)]))[1]
    assert ring.causes(heads, step, FACTS, VOCAB) == [[]]


def test_causes_of_many_rings_are_those_of_each(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ring, "_BLOCK", 2)
    heads = [_scored(_events([(0, "view", 1), (MINUTE, "view", n)]))[1] for n in range(1, 6)]
    together = ring.causes(np.concatenate(heads), step, FACTS, VOCAB)
    assert together == [ring.causes(head, step, FACTS, VOCAB)[0] for head in heads]
    assert ring.causes(np.zeros(0, record(FACTS)), step, FACTS, VOCAB) == []
