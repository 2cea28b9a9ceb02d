"""What the worker lists, by the demo's own graphs: rules, masks, the clock; unseen items obey, too."""

import json
from collections import Counter
from dataclasses import replace
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.bundle import onnx
from stream.core import manifest
from stream.core.events import Event
from stream.core.hashing import keyed
from stream.core.list_triggers import Clock
from stream.recommend.cold_items import Table, load
from stream.recommend.shop_catalog import Catalog
from stream.records import Limits
from stream.scoring.offline import Line
from stream.scoring.scorer import Partition, Scorer
from stream.state.sessions import SessionStore
from tests.fakes import NOON
from tests.stream.bundle.test_onnx import DEMO

BUNDLE = onnx.load(DEMO)
LIMITS = Limits(event_bytes=2000, dead_letter_bytes=500, future=1000)


def _catalog(*records, categories=(), cap=0, bought=False) -> Catalog:
    found = Catalog(BUNDLE.vocabulary, list(categories), cap, bought)
    assert not any(found.apply(key, msgspec.json.encode(value)) for key, value in records)
    return found


def _lists(catalog: Catalog | None = None, clock: Clock | None = None, events=None) -> list[list[str]]:
    given = {"rules": catalog.rules if catalog else None} | ({"clock": clock} if clock else {})
    scorer = Scorer(BUNDLE, True, LIMITS, "events", **given)
    events = events or [("a", "view", n) for n in range(4)] + [("b", "transaction", n) for n in (40, 41, 42)]
    records = []
    for n, (user, kind, item) in enumerate(events):
        name = BUNDLE.vocabulary.items[item] if isinstance(item, int) else item
        event = Event(f"e{n}", user, kind, name, NOON + n * 1000)
        records.append(Line(offset=n, timestamp=event.timestamp, key=user.encode(), value=msgspec.json.encode(event)))
    work = scorer.process(Partition(0, SessionStore(scorer.layout)), records, NOON + 60_000)
    assert not work.dead
    return [[r["item_id"] for r in json.loads(m.value).get("recommendations", [])] for m in work.scores]


def _category(item: str) -> int:
    return int(BUNDLE.vocabulary.category_of[BUNDLE.vocabulary.item_index[item]])


def test_without_rules_lists_are_those_of_the_step_itself():
    alone = replace(BUNDLE, asking_step=None)
    scorer = Scorer(alone, True, LIMITS, "events")
    event = Event("e", "a", "view", BUNDLE.vocabulary.items[5], NOON)
    line = Line(offset=0, timestamp=NOON, key=b"a", value=msgspec.json.encode(event))
    work = scorer.process(Partition(0, SessionStore(scorer.layout)), [line], NOON)
    listed = [r["item_id"] for r in json.loads(work.scores[0].value)["recommendations"]]
    assert listed == _lists(events=[("a", "view", 5)])[0]


def test_what_is_not_available_is_in_no_list_and_the_rest_keeps_its_order():
    before = _lists()
    gone = before[0][:3]
    found = _lists(_catalog(*((name.encode(), {"availability": False}) for name in gone)))
    for old, new in zip(before, found, strict=True):
        kept = [name for name in old if name not in gone]
        assert len(new) == 20
        assert set(new[: len(kept)]) >= set(kept[:10])
        assert not set(new) & set(gone)


def test_one_item_in_a_hundred_still_fills_the_list_exactly():
    names = BUNDLE.vocabulary.items
    kept = np.random.default_rng(2).choice(len(names), len(names) // 100, replace=False).tolist()
    assert len(kept) == 20
    records = ((name.encode(), {"availability": n in kept}) for n, name in enumerate(names))
    for listed in _lists(_catalog(*records)):
        assert sorted(listed) == sorted(names[n] for n in kept)


def test_a_cap_bounds_each_category_and_the_list_is_full():
    before, found = _lists(), _lists(_catalog(cap=2))
    assert max(max(Counter(map(_category, listed)).values()) for listed in before) > 2
    for listed in found:
        assert len(listed) == 20 == len(set(listed))
        assert max(Counter(map(_category, listed)).values()) <= 2


def test_only_the_named_categories_are_listed():
    name = BUNDLE.vocabulary.categories[3]
    for listed in _lists(_catalog(categories=[name])):
        assert len(listed) == 20
        assert {_category(item) for item in listed} == {4}


def test_what_was_bought_is_not_listed_again():
    names = BUNDLE.vocabulary.items
    assert {names[40], names[41]} & {item for listed in _lists()[5:] for item in listed}
    for listed in _lists(_catalog(bought=True))[6:]:
        assert len(listed) == 20
        assert not {names[40], names[41], names[42]} & set(listed)


def test_pins_lead_every_list_in_their_order():
    first, second = BUNDLE.vocabulary.items[700], BUNDLE.vocabulary.items[30]
    pins = [(second.encode(), {"availability": True, "pins": 2}), (first.encode(), {"availability": True, "pins": 1})]
    for listed in _lists(_catalog(*pins)):
        assert listed[:2] == [first, second]
        assert len(listed) == 20 == len(set(listed))


def test_a_pin_of_an_item_that_nobody_has_seen_leads_lists_beside_another_unseen_item():
    """The model does not know it, no event has named it: the catalog alone does."""
    catalog = _catalog((b"pinned", {"availability": True, "pins": 1}))
    for listed in _lists(catalog, events=[("a", "view", "brand-new"), ("a", "addtocart", "brand-new")]):
        assert listed[0] == "pinned" and "brand-new" in listed
        assert len(listed) == 20 == len(set(listed))


def test_a_pin_that_events_have_named_is_listed_once():
    catalog = _catalog((b"pinned", {"availability": True, "pins": 1}))
    for listed in _lists(
        catalog, events=[("a", "view", "pinned"), ("a", "view", "brand-new"), ("a", "view", "pinned")]
    ):
        assert listed[0] == "pinned"
        assert len(listed) == 20 == len(set(listed))


def test_a_short_list_holds_no_unseen_item_before_its_first_event():
    names = BUNDLE.vocabulary.items
    catalog = _catalog(*((name.encode(), {"availability": False}) for name in names[3:]), bought=True)
    there = [(user, "view", 0) for user in "abc"]
    events = [*there, *((user, "view", "brand-new") for user in "abc"), ("d", "view", 0)]
    assert [("brand-new" in listed) for listed in _lists(catalog, events=events)] == [False] * 3 + [True] * 4


UNSEEN = [f"new-{n}" for n in range(12)]
NAMES = st.sampled_from([*UNSEEN, *BUNDLE.vocabulary.items[:6]])
CATEGORIES = st.sampled_from([None, "", "none-such", *BUNDLE.vocabulary.categories[:3]])
RECORDS = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.builds(
        lambda available, category, price, pins: msgspec.json.encode(
            {"availability": available, "category": category, "price": price, "pins": pins}
        ),
        *(st.booleans(), CATEGORIES, st.none() | st.floats(), st.integers(0, 9) | st.integers()),
    ),
)
STEPS = st.one_of(
    st.tuples(st.just("events"), st.lists(st.tuples(st.sampled_from("ab"), NAMES, CATEGORIES), min_size=1, max_size=6)),
    st.tuples(st.just("catalog"), st.lists(st.tuples(NAMES, RECORDS), min_size=1, max_size=8)),
    st.tuples(st.just("pins"), st.integers(1, 3000)),
    st.tuples(st.just("restart"), st.none()),
)


@settings(max_examples=60)
@given(
    *(st.lists(STEPS, max_size=8), st.sampled_from([5, 12, 10**9])),
    *(st.integers(0, 2), st.booleans(), st.sampled_from([[], [BUNDLE.vocabulary.categories[0], "none-such"]])),
)
def test_whatever_the_catalog_says_lists_are_made_of_items_under_their_own_names(steps, indices, cap, bought, only):
    """Few indices make unseen items collide: with each other, with pins, with what is in the table."""
    known = len(BUNDLE.vocabulary.items)
    with patch.object(manifest, "INDICES", known + indices):
        catalog = Catalog(BUNDLE.vocabulary, only, cap, bought)
        scorer = Scorer(BUNDLE, True, LIMITS, "events", rules=catalog.rules)
        part, there, pinned, kept, offset = Partition(0, SessionStore(scorer.layout)), set(), set(), {}, 0
        for what, said in [*steps, ("events", [("a", UNSEEN[0], None)])]:
            if what == "catalog":
                for name, value in said:
                    if not catalog.apply(name.encode(), value) and value:
                        pinned.add(name)
            elif what == "pins":
                pinned |= {f"pin-{n}" for n in range(said)}
                for n in range(said):
                    catalog.apply(b"pin-%d" % n, b'{"availability": true, "category": "none-such", "pins": 3}')
            elif what == "restart":
                part.newcomers = Table()
                for name, value in kept.items():
                    load(part.newcomers, BUNDLE.vocabulary, name, value)
            else:
                lines = []
                for user, name, category in said:
                    offset += 1
                    event = Event(f"e{offset}", user, "transaction", name, NOON + offset, category)
                    lines.append(Line(offset, NOON, user.encode(), msgspec.json.encode(event)))
                    there.add(name)
                work = scorer.process(part, lines, NOON)
                assert len(work.scores) == len(lines)
                kept |= {change.key[1:]: change.value for change in work.changes if change.key[:1] == b"i"}
                rules = catalog.rules()
                for message in work.scores:
                    listed = [r["item_id"] for r in json.loads(message.value).get("recommendations", [])]
                    assert len(listed) == len(set(listed)) <= 20
                    assert set(listed) <= {*BUNDLE.vocabulary.items, *there, *pinned}
                    assert not rules.others.refused[rules.others.rows(keyed(listed))].any()


@pytest.mark.parametrize("available", [True, False])
def test_an_unseen_item_obeys_the_catalog(available: bool):
    events = [("a", "view", "brand-new"), ("a", "addtocart", "brand-new"), ("a", "view", "brand-new")]
    catalog = _catalog((b"brand-new", {"availability": available}))
    assert any("brand-new" in listed for listed in _lists(catalog, events=events)) == available


def test_the_clock_says_which_events_have_a_list():
    events = [("a", "view", n) for n in range(5)] + [("b", "view", 9)]
    there = {name: [bool(listed) for listed in _lists(clock=clock, events=events)] for name, clock in (
        ("every", Clock()), ("session", Clock("session")), ("nth", Clock("nth", nth=2)),
        ("moved", Clock("moved", moved=1e9)), ("last", Clock(last=True)),
    )}  # fmt: skip
    assert there == {
        "every": [True] * 6,
        "session": [True, False, False, False, False, True],
        "nth": [True, False, True, False, True, True],
        "moved": [True, False, False, False, False, True],
        "last": [False, False, False, False, True, True],
    }


def test_lists_by_a_clock_are_those_of_every_event():
    events = [("a", "view", n) for n in range(5)]
    assert _lists(clock=Clock("nth", nth=2), events=events)[2] == _lists(events=events)[2]
