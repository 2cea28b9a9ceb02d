"""The catalog: strict records with reasons, the last good one stays, rules follow it."""

import time

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.hashing import fingerprints, keyed
from stream.core.manifest import Vocabulary
from stream.recommend.list_filters import PINS
from stream.recommend.shop_catalog import REASONS, BadItem, Catalog, Item, decode

VOCAB = Vocabulary(["a", "b", "c"], ["x", "y"], [1, 1, 2])


def _catalog(*categories: str) -> Catalog:
    return Catalog(VOCAB, list(categories), cap=0, exclude_bought=False)


BAD = {
    "no_key": [(None, b'{"availability": false}'), (b"", b'{"availability": false}')],
    "oversized": [(b"a" * 257, b'{"availability": false}'), (b"a", b'{"availability": false}' + b" " * 4096)],
    "not_json": [(b"a", b"{"), (b"\xff", b'{"availability": false}')],
    "schema": [
        *((b"a", b'{"availability": 0}'), (b"a", b"{}"), (b"a", b'{"availability": false, "more": 1}')),
        (b"a", b'{"availability": false, "category": "%s"}' % (b"x" * 257)),
        (b"a\x1b[2J", b'{"availability": true, "pins": 1}'),
    ],
    "range": [(b"a", b'{"availability": true, "pins": -1}'), (b"a", b'{"availability": true, "price": -1}')],
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_bad_record_has_its_reason_and_the_last_good_one_stays(reason):
    catalog = _catalog()
    assert catalog.apply(b"b", b'{"availability": false, "category": "y", "price": 1.5, "pins": 0}') == ""
    for key, value in BAD[reason]:
        assert catalog.apply(key, value) == reason
    rules = catalog.rules()
    assert rules.allowed.tolist()[1:] == [True, False, True]
    assert rules.category[1:].tolist() == fingerprints(["x", "y", "y"]).tolist()
    assert not len(rules.pins)


def test_ids_are_held_to_what_events_are_held_to():
    said = b'{"availability": true}'
    assert decode(b"a\x1b[2J", said) == BadItem("schema", "the id holds U+001B, which is not printable")
    assert decode(b"a" * 41, said, longest=40) == BadItem("schema", "the id has 41 characters, more than 40")
    assert decode(b"a\x1b[2J", said, printable=False) == ("a\x1b[2J", Item(availability=True))
    assert _catalog().apply(b"a\x1b[2J", None) == ""  # a removal names nothing that is listed


def test_a_record_without_a_value_takes_back_what_was_said():
    catalog = _catalog()
    before = catalog.rules()
    for name in (b"a", b"new"):
        catalog.apply(name, b'{"availability": false, "category": "z", "pins": 1}')
        assert catalog.apply(name, None) == ""
    after = catalog.rules()
    assert np.array_equal(after.allowed, before.allowed)
    assert np.array_equal(after.category, before.category)
    assert not len(after.pins)
    assert not len(after.others)


def test_a_filter_of_categories_goes_by_the_shops_own_and_else_by_the_models():
    catalog = _catalog("y")
    catalog.apply(b"a", b'{"availability": true, "category": "y"}')
    assert catalog.rules().allowed.tolist()[1:] == [True, False, True]


def test_pins_have_their_order_and_obey_the_other_rules():
    catalog = _catalog("x", "z")
    for name, more in (("a", '"pins": 2'), ("b", '"pins": 1'), ("c", '"pins": 1')):
        catalog.apply(name.encode(), f'{{"availability": true, {more}}}'.encode())
    catalog.apply(b"new", b'{"availability": true, "category": "z", "pins": 3}')
    catalog.apply(b"gone", b'{"availability": false, "category": "z", "pins": 4}')
    rules, new = catalog.rules(), int(VOCAB.place(["new"])[0])
    assert rules.pins.tolist() == [2, 1, new]
    assert rules.names == {new: "new"}
    assert rules.others.refused[rules.others.rows(keyed(["new", "gone"]))].tolist() == [False, True]


@pytest.fixture
def one_index(monkeypatch):
    """Give all items that the model does not know one index."""
    monkeypatch.setattr("stream.core.manifest.INDICES", len(VOCAB.items) + 1)


def test_of_two_items_with_one_index_each_has_what_is_said_of_it(one_index):
    catalog = _catalog()
    catalog.apply(b"one", b'{"availability": false, "category": "x", "price": 1}')
    catalog.apply(b"two", b'{"availability": true, "category": "y", "price": 2}')
    others = catalog.rules().others
    row = others.rows(keyed(["one", "two", "three"]))
    assert len(others) == 2
    assert others.refused[row].tolist() == [True, False, False]
    assert others.category[row].tolist() == [*fingerprints(["x", "y"]).tolist(), 0]
    assert others.price[row].tolist()[:2] == [1.0, 2.0] and np.isnan(others.price[row][2])


def test_of_two_pins_with_one_index_the_first_is_pinned(one_index):
    catalog = _catalog()
    for n, name in enumerate(["late", "early"]):
        catalog.apply(name.encode(), b'{"availability": true, "pins": %d}' % (2 - n))
    rules = catalog.rules()
    assert rules.pins.tolist() == VOCAB.place(["early"]).tolist()
    assert list(rules.names.values()) == ["early"]


@given(st.lists(st.tuples(st.none() | st.binary(max_size=8), st.none() | st.binary(max_size=60))))
def test_any_bytes_have_a_reason_and_the_catalog_goes_on(records):
    catalog = _catalog()
    assert {catalog.apply(key, value) for key, value in records} <= {"", *REASONS}
    assert catalog.apply(b"a", b'{"availability": false}') == ""
    assert not catalog.rules().allowed[1]


DEEP = [b"[" * 4000, b'{"availability": true, "more": ' + b"[" * 4000, b'{"availability": ' + b'{"a":' * 800]
TEXT = [b'{"availability": true, "category": "\\ud800"}', b'{"availability": true, "category": "\xed\xa0\x80"}']
NUMBERS = [b"NaN", b"Infinity", b"1e999", b"9" * 400, b"-1e9", b'"9"']


@pytest.mark.parametrize("value", [*DEEP, *TEXT, *(b'{"availability": true, "price": %s}' % n for n in NUMBERS)])
def test_json_of_any_kind_is_an_item_or_has_a_reason(value):
    catalog = _catalog()
    assert catalog.apply(b"new", value) in REASONS
    assert not len(catalog.rules().others)


def test_pins_and_names_of_any_size_are_in_order():
    catalog = Catalog(VOCAB, [], cap=0, exclude_bought=False, printable=False)
    for name, place in ((b"a\0", 10**300), (b"a", 5), (b"\0", 10**299)):
        assert catalog.apply(name, b'{"availability": true, "pins": %d}' % place) == ""
    assert list(catalog.rules().names.values()) == ["\0", "a\0"]
    assert catalog.rules().pins[0] == 1


def test_rules_that_were_handed_out_do_not_change():
    catalog = _catalog()
    before = catalog.rules()
    catalog.apply(b"a", b'{"availability": false}')
    assert before.allowed[1]
    assert not catalog.rules().allowed[1]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", "x", "z", None]), st.booleans())))
def test_the_others_are_the_newest_record_of_each(records):
    """Whenever the rules are made meanwhile, they end as those of one reading."""
    catalog, newest = _catalog(), {}
    for n, (name, category, stop) in enumerate(records):
        item = Item(availability=n % 3 != 0, category=category or None, price=float(n))
        catalog.apply(name.encode(), None if category is None else msgspec.json.encode(item))
        newest[name] = None if category is None else item
        if stop:
            catalog.rules()
    others = catalog.rules().others
    kept = {name: item for name, item in newest.items() if item and name not in VOCAB.item_index}
    assert len(others) == len(kept)
    row = others.rows(keyed(kept))
    assert others.refused[row].tolist() == [not item.availability for item in kept.values()]
    assert others.price[row].tolist() == [item.price for item in kept.values()]
    said = fingerprints([item.category or "" for item in kept.values()]) if kept else []
    assert others.category[row].tolist() == [
        int(print_) if item.category else 0 for print_, item in zip(said, kept.values(), strict=True)
    ]


def test_a_change_costs_little_beside_many_items_that_the_model_does_not_know():
    catalog = _catalog()
    for n in range(200_000):
        catalog.apply(f"new-{n}".encode(), b'{"availability": true, "category": "z", "pins": %d}' % (n < 1000))
    catalog.rules()
    began = time.process_time()
    for _ in range(4):
        catalog.apply(b"new-7", b'{"availability": false}')
        rules = catalog.rules()
    assert time.process_time() - began < 2  # a change is to show within a second
    assert len(rules.pins) == len(rules.names) == PINS
    assert "new-7" not in rules.names.values()
    items = keyed(f"new-{n}" for n in range(50_000))
    began = time.process_time()
    rules.newcomers(items, np.zeros(len(items), np.uint64))
    assert time.process_time() - began < 0.2  # for each block of events
