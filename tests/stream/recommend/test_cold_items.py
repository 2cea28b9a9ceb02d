"""The table of newcomers: what the changelog keeps of it, and who has to go."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.session import NEVER
from stream.recommend.cold_items import ColdItem, Table, load, pack
from tests.fakes import NOON
from tests.stream.recommend.test_cold_ranking import ROWS, VOCAB, joined


def test_the_changelog_s_records_make_the_table_again():
    """Apply every chunk's records, tombstones too: the tables agree, in any order of the names."""
    table, again = Table(), Table()
    rows = [(f"n{n * 7 % 60}", "xy"[n % 2], n, [math.nan, 3.5][n % 3 > 1]) for n in range(150)]
    for at in range(0, len(rows), 11):
        _, changed = joined(table, rows[at : at + 11])
        for name, value in pack(table, changed):
            assert load(again, VOCAB, name.encode(), value) == ""
    assert 40 <= len(table) <= 45
    assert set(again.names) == set(table.names)
    for name in table.names:
        assert again.get(name) == table.get(name)


def test_the_least_counted_go():
    table = Table()
    joined(table, [(f"n{n}", "x", n) for n in range(46)])
    assert table.names == [f"n{n}" for n in range(6, 46)]


def test_a_newcomer_has_nothing_of_whom_it_follows():
    table = Table()
    table.see("old", 7, 1, 99, 5.0, NOON, 1e9)
    table.remove("old")
    table.see("new", 8, 0, 0, math.nan, NOON, 1e9)
    assert table.get("new") == ColdItem(0, 1.0, NOON)


def test_what_a_new_model_knows_is_no_newcomer_and_gets_a_tombstone():
    table = Table()
    load(table, VOCAB, b"b", b'{"category": 1, "count": 1.0, "last": 1}')
    load(table, VOCAB, b"n", b'{"category": %d, "count": 2.0, "last": 5}' % VOCAB.category_print[2])
    assert table.names == ["n"]
    assert table.category[0] == 2
    _, changed = joined(table, [("a", "x", 0)])
    assert list(pack(table, changed)) == [("b", None)]
    assert joined(table, [("a", "x", 1)])[1] == []


def test_a_name_that_is_not_published_comes_back_only_where_it_is_and_else_gets_a_tombstone():
    name = b"n\x1b[2J"
    table = Table()
    assert load(table, VOCAB, name, GOOD) == "a name that holds U+001B, which is not printable"
    assert list(pack(table, joined(table, [("a", "x", 0)])[1])) == [(name.decode(), None)]
    assert load(table, VOCAB, name, None) == ""
    assert load(table, VOCAB, b"n" * 41, GOOD, 40) == "a name that has 41 characters, more than 40"
    assert load(table, VOCAB, name, GOOD, printable=False) == ""
    assert table.names == [name.decode()]


def test_items_with_one_index_are_told_apart_by_name():
    table = Table()
    assert table.see("n1", 7, 1, 1, math.nan, NOON, 1e9) == 0
    assert table.see("n2", 7, 1, 1, 5.0, NOON, 1e9) == 1
    assert table.get("n2") == ColdItem(1, 1.0, NOON, 5.0)
    assert table.slots(np.array([7])).tolist() == [-1]  # nobody knows whose it is
    table.remove("n2")
    assert table.slots(np.array([7])).tolist() == [0]
    assert table.get("n1") == ColdItem(1, 1.0, NOON)


def test_a_shopper_is_counted_once_and_only_who_was_there_before():
    table = Table()
    for user, since in [(1, NOON - 1), (1, NOON - 1), (2, NOON), (3, NOON - 1), (4, NEVER)]:
        table.see("n", 7, 0, 0, math.nan, NOON, 1e9, user=user, since=since)
    assert table.users().tolist() == [2]


def test_a_first_event_that_is_dated_back_leaves_those_who_were_there():
    table = Table()
    table.see("n", 7, 0, 0, math.nan, NOON, 1e9)
    table.see("back", 8, 0, 0, math.nan, 1, 1e9)
    table.see("back", 8, 0, 0, math.nan, NOON + 5, 1e9, user=1, since=NOON - 5)
    assert table.users().tolist() == [0, 1]


def test_the_table_keeps_what_most_shoppers_met():
    table = Table()
    for user in range(2):
        table.see("real", 1, 0, 0, math.nan, NOON, 1e9, user=user, since=NOON - 1)
    for n in range(5120):
        for _ in range(3):
            table.see(f"invented{n}", 10 + n, 0, 0, math.nan, NOON + n, 1e9)
        table.cut(40, 1e9)
    assert "real" in table.names


GOOD = b'{"category": 0, "count": 1.0, "last": 5}'
NO_ITEMS = {
    "bytes": (b"n", b"\xff\x00"),
    "nothing": (b"n", b""),
    "deep": (b"n", b'{"x":' + b"[" * 5000),
    "digits": (b"n", b'{"category": 0, "count": 1, "last": ' + b"9" * 5000 + b"}"),
    "no category": (b"n", b'{"count": 1.0, "last": 5}'),
    "category below": (b"n", b'{"category": -1, "count": 1.0, "last": 5}'),
    "category above": (b"n", b'{"category": 18446744073709551616, "count": 1.0, "last": 5}'),
    "count NaN": (b"n", b'{"category": 0, "count": NaN, "last": 5}'),
    "count infinite": (b"n", b'{"category": 0, "count": 1e999, "last": 5}'),
    "count 0": (b"n", b'{"category": 0, "count": 0, "last": 5}'),
    "count below": (b"n", b'{"category": 0, "count": -1.5, "last": 5}'),
    "last above": (b"n", b'{"category": 0, "count": 1.0, "last": 9223372036854775808}'),
    "last below": (b"n", b'{"category": 0, "count": 1.0, "last": -5}'),
    "first below": (b"n", b'{"category": 0, "count": 1.0, "last": 5, "first": -1}'),
    "met above": (b"n", b'{"category": 0, "count": 1.0, "last": 5, "met": 18446744073709551616}'),
    "price": (b"n", b'{"category": 0, "count": 1.0, "last": 5, "price": "9"}'),
    "no name": (b"", GOOD),
    "no text": (b"n\xff", GOOD),
    "no text, forgotten": (b"n\xff", None),
    "long": (b"n" * 257, GOOD),
    "an escape": (b"n\x1b[2J", GOOD),
}


@pytest.mark.parametrize("kind", NO_ITEMS)
def test_a_record_that_is_no_item_is_passed_over_and_lists_go_on(kind):
    table = Table()
    load(table, VOCAB, b"other", GOOD)
    assert load(table, VOCAB, *NO_ITEMS[kind])
    assert table.names == ["other"]
    assert {name for name, _ in joined(table, ROWS)[0][-1]} >= {"n1", "n2", "n3"}


def test_records_of_items_with_one_index_are_both_kept(monkeypatch):
    monkeypatch.setattr("stream.core.manifest.INDICES", len(VOCAB.items) + 1)
    table = Table()
    assert load(table, VOCAB, b"first", GOOD) == load(table, VOCAB, b"second", GOOD) == ""
    assert load(table, VOCAB, b"second", None) == ""
    assert table.names == ["first"]


NUMBERS = st.one_of(st.integers(), st.floats(), st.none(), st.text(max_size=3))


@given(st.lists(st.tuples(st.sampled_from(["n1", "n2", "m", "a"]), NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=8))
def test_whatever_the_changelog_says_of_items_lists_stay_finite(records):
    table = Table()
    for name, *numbers in records:
        fields = zip(("category", "count", "last", "price"), numbers, strict=True)
        load(table, VOCAB, name.encode(), json.dumps(dict(fields)).encode())
    for row in joined(table, ROWS)[0]:
        assert np.isfinite([p for _, p in row]).all()
        assert sum(p for _, p in row) == pytest.approx(1, abs=1e-5)


def test_a_table_far_above_its_limit_is_cut_before_it_is_ranked():
    table = Table()
    for n in range(2000):
        load(table, VOCAB, b"n%d" % n, b'{"category": 0, "count": 1.0, "last": %d}' % NOON)
    lists, changed = joined(table, [("a", "x", 0)], k=9999)
    assert len(table) == 40 and len(changed) == 1960
    assert len(lists[0]) == 43
