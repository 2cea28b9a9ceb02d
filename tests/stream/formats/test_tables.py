"""Rows of tables, whatever separates them, and columns by their names."""

import csv
import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.errors import DataError
from stream.formats.tables import table

COLUMNS = ("time", "user", "item")


def _table(text: str, **options: object) -> list[list[str]]:
    return [cells for _, cells, wider in table(iter(text.splitlines(keepends=True)), COLUMNS, **options) if not wider]


@pytest.mark.parametrize(
    "text",
    [
        "time,user,item\n1,2,3\n",
        "time;user;item\n1;2;3\n",
        "time\tuser\titem\n1\t2\t3\n",
        "time|user|item\n1|2|3\n",
        "sep=;\ntime;user;item\n1;2;3\n",
        '"time","user","item"\n"1","2","3"\n',
        "time,user,item\r\n1,2,3\r\n",
        "\ntime,user,item\n\n1,2,3",
        ",time,user,item\n0,1,2,3\n",
        "Unnamed: 0;time;user;item\n0;1;2;3\n",
        "item,price,user,time\n3,9.9,2,1\n",
        "Time, User ,ITEM\n1,2,3\n",
        "time,user,item\n1,2,3,\n",
        "time,user,item,\n1,2,3,\n",
        'time, user, item\n1, "2", "3"\n',
        '"time" , "user" , "item" \n"1" , "2" , "3" \n',
    ],
)
def test_a_table_is_read_by_the_names_of_its_columns(text: str):
    assert _table(text) == [["1", "2", "3"]]


def test_a_table_without_names_is_read_by_position():
    assert _table("1;2;3\n4;5;6\n", nameless=True) == [["1", "2", "3"], ["4", "5", "6"]]


def test_a_missing_column_is_named_unless_it_can_be_spared():
    with pytest.raises(DataError, match=r"'time,user': it names no column item"):
        _table("time,user\n1,2\n")
    assert _table("time,user\n1,2\n", spare=("item",)) == [["1", "2", ""]]


@pytest.mark.parametrize("head", ["user,time,user,item", "time,User,item,user", '"user","time","user ","item"'])
def test_a_column_that_two_have_the_name_of_is_refused(head: str):
    with pytest.raises(DataError, match="names the column user more than once"):
        _table(f"{head}\n1,2,3,4\n")
    assert _table("x,time,x,user,item\n0,1,0,2,3\n") == [["1", "2", "3"]]


def test_a_row_of_another_width_says_by_how_much():
    lines = iter(["x,time,user,item\n", "0,1,2,3\n", "0,1,2\n", "0,1,2,3,4\n"])
    assert [(line, wider) for line, _, wider in table(lines, COLUMNS)] == [(2, 0), (3, -1), (4, 1)]


def test_separators_and_line_ends_in_quotes_are_text():
    text = 'time,user,item\n1,"2,000","a ""b""\nc"\n4,5,6\n'
    assert _table(text) == [["1", "2,000", 'a "b"\nc'], ["4", "5", "6"]]
    assert [line for line, _, _ in table(iter(text.splitlines(keepends=True)), COLUMNS)] == [2, 4]


def test_a_quote_that_nothing_closes_is_a_character():
    rows = _table('time,user,item\n1,2,"3\n' + "4,5,6\n" * 40 + '7,8"9,"0\n')
    assert rows[0] == ["1", "2", '"3']
    assert rows[-1] == ["7", '8"9', '"0']
    assert len(rows) == 42


@given(st.lists(st.lists(st.text("ab ,\"'\n;", max_size=5), min_size=3, max_size=3).filter(any), max_size=6))
def test_what_the_standard_library_writes_is_read(rows: list[list[str]]):
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([list(COLUMNS), *rows])

    def lines() -> Iterator[str]:
        yield from io.StringIO(out.getvalue(), newline="\n")

    assert [cells for _, cells, _ in table(lines(), COLUMNS)] == rows


def test_a_column_without_a_name_is_left_out_where_all_rows_have_it():
    rows = [[str(n), "a", "b", ""] for n in range(1, 40)]
    counted = "".join(",".join([str(n), *row]) + "\n" for n, row in enumerate(rows, 1))
    named = "time,user,item,spare\n"
    assert _table(named + counted) == [row[:3] for row in rows]
    behind = "".join(",".join(row) + ",\n" for row in rows[5:])
    assert _table(named + behind) == [row[:3] for row in rows[5:]]
    quoted = '"time","user","item"\n"0",1,2,3\n"1",1,2,3\n'
    assert _table(quoted) == [["1", "2", "3"]] * 2
    stray = named + counted.replace("7,7,a", "7,a", 1)
    assert len(_table(stray)) == 1


@pytest.mark.parametrize("last", ["1,2,3,4\n", "1,2,3,4\n5,6,7\n", "5,1,2,3\n9,1,2,3\n"])
def test_a_cell_too_many_is_no_column_without_a_name(last: str):
    lines = iter(["time,user,item\n", *last.splitlines(keepends=True)])
    assert next(table(lines, COLUMNS))[2] == 1


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (r'"say \"hi\", you"', 'say "hi", you'),
        (r'"24\" TV"', '24" TV'),
        (r'"a \\ \"b\""', r'a \ "b"'),
        (r'"C:\"', "C:\\"),
    ],
)
def test_quotes_behind_a_backslash_are_text(cell: str, text: str):
    assert _table(f"time,user,item\n1,{cell},3\n4,5,6\n") == [["1", text, "3"], ["4", "5", "6"]]


def test_single_quotes_are_told():
    with pytest.raises(DataError, match="write double ones"):
        _table("'time','user','item'\n'1','2','3'\n")


def test_a_header_that_is_no_text_is_told():
    with pytest.raises(DataError, match="no text in UTF-8") as caught:
        _table(b"\x85\xa5,\x89".decode(errors="surrogateescape"))
    assert "iconv" in caught.value.remedy
