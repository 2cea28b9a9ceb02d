"""The table of newcomers: what the changelog keeps of it, and who has to go."""

import math

from stream.core.newcomers import Newcomer, Table, load, pack
from tests.fakes import NOON
from tests.stream.core.test_joining import VOCAB, joined


def test_the_changelog_s_records_make_the_table_again():
    """Apply every chunk's records, tombstones too: the tables agree, in any order of the names."""
    table, again = Table(), Table()
    rows = [(f"n{n * 7 % 60}", "xy"[n % 2], n, [math.nan, 3.5][n % 3 > 1]) for n in range(150)]
    for at in range(0, len(rows), 11):
        _, changed = joined(table, rows[at : at + 11])
        for name, value in pack(table, VOCAB, changed):
            load(again, VOCAB, name, value)
    assert 40 <= len(table) <= 45
    assert set(again.names) == set(table.names)
    for name in table.names:
        index = int(VOCAB.place([name])[0])
        assert again.get(name, index) == table.get(name, index)


def test_the_least_counted_go():
    table = Table()
    joined(table, [(f"n{n}", "x", n) for n in range(46)])
    assert table.names == [f"n{n}" for n in range(6, 46)]


def test_a_newcomer_has_nothing_of_whom_it_follows():
    table = Table()
    table.see("old", 7, 1, 99, 5.0, NOON, 1e9)
    table.remove("old", 7)
    table.see("new", 8, 0, 0, math.nan, NOON, 1e9)
    assert table.get("new", 8) == Newcomer(0, 1.0, NOON)


def test_what_a_new_model_knows_is_no_newcomer_and_gets_a_tombstone():
    table = Table()
    load(table, VOCAB, "b", b'{"category": 1, "count": 1.0, "last": 1}')
    load(table, VOCAB, "n", b'{"category": %d, "count": 2.0, "last": 5}' % VOCAB.category_print[2])
    assert table.names == ["n"]
    assert table.category[0] == 2
    _, changed = joined(table, [("a", "x", 0)])
    assert list(pack(table, VOCAB, changed)) == [("b", None)]
    assert joined(table, [("a", "x", 1)])[1] == []


def test_another_item_with_the_same_index_does_not_join():
    table = Table()
    assert table.see("n1", 7, 1, 1, math.nan, NOON, 1e9) == 0
    assert table.see("n2", 7, 1, 1, 5.0, NOON, 1e9) == -1
    assert table.get("n2", 7) is None
    assert table.get("n1", 7) == Newcomer(1, 1.0, NOON)
    table.remove("n2", 7)
    assert table.names == ["n1"]
