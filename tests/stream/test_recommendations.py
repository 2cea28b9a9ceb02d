"""What the worker lists, by the demo's own graphs: rules, masks, the clock; unseen items obey, too."""

import json
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from stream import runtime
from stream.core.catalog import Catalog
from stream.core.clock import Clock
from stream.core.events import Event
from stream.offline import Line
from stream.records import Limits
from stream.round import Partition, Scorer
from stream.sessions import SessionStore
from tests.fakes import NOON
from tests.stream.test_runtime import DEMO

BUNDLE = runtime.load(DEMO)
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
