"""The first rows of logs of unknown shape."""

import gzip
from pathlib import Path

import pytest

from stream.cli.sampling import sample
from stream.core.errors import DataError


def test_tables_and_json_are_told_apart(tmp_path: Path):
    log = tmp_path / "log"
    for text, form in (("a,b\n1,2\n", "csv"), ("a\tb\n1\t2\n", "tsv"), ("a;b\n1;2\n", "csv")):
        log.write_text(text)
        assert sample(log, 10) == (form, [{"a": "1", "b": "2"}])
    log.write_bytes(gzip.compress(b'{"a": {"b": 1}}\nbroken\n'))
    assert sample(log, 10) == ("json", [{"a.b": 1}])


def test_bytes_that_are_no_text_are_left_out(tmp_path: Path):
    (tmp_path / "log").write_bytes(b"a,b,c\x81\n1,2,3\n4,\x81,6\n")
    assert sample(tmp_path / "log", 10) == ("csv", [{"a": "1", "b": "2"}])


def test_no_more_rows_than_asked_are_read(tmp_path: Path):
    (tmp_path / "log").write_text("a,b\n" + "1,2\n" * 50)
    assert len(sample(tmp_path / "log", 7)[1]) == 7


def test_a_table_of_an_old_mac_is_sampled(tmp_path: Path):
    for text in ("a,b\r1,2\r\n", 'a,b\r1,"2"\r\n', '"a",b\r1,2\n'):
        (tmp_path / "log").write_bytes(text.encode())
        assert sample(tmp_path / "log", 10) == ("csv", [{"a": "1", "b": "2"}])
    (tmp_path / "log").write_bytes(b'a,"b\rb"\n1,2\n3,4\n')
    assert sample(tmp_path / "log", 10)[1][1] == {"a": "3", "b\rb": "4"}


@pytest.mark.parametrize("n", [131_073, 1_200_000])
def test_a_first_line_without_end_is_no_table(tmp_path: Path, n: int):
    (tmp_path / "log").write_text('"' + "x" * n + "\n1,2\n")
    with pytest.raises(DataError, match=r"xxx'.*neither JSON"):
        sample(tmp_path / "log", 10)


@pytest.mark.parametrize("deep", [900, 100_000])
def test_a_record_without_a_bottom_is_no_record(tmp_path: Path, deep: int):
    (tmp_path / "log").write_text('{"a":' * deep + "1" + "}" * deep + '\n{"b": 1}\n')
    assert sample(tmp_path / "log", 10)[1][-1] == {"b": 1}


@pytest.mark.parametrize(
    ("text", "said"), [("", "has no rows"), ("hello\nworld\n", "neither JSON"), ("{\n", "no line")]
)
def test_what_has_no_columns_is_refused(tmp_path: Path, text: str, said: str):
    (tmp_path / "log").write_text(text)
    with pytest.raises(DataError, match=said):
        sample(tmp_path / "log", 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "has only a header: a, b"),
        ("sep=;\na;b\n", "has only a header: a, b"),
        ("a,b\n1\n2\n", "no row of .* has 2 cells"),
        ("'a','b'\n'1','2'\n", "write double ones around cells"),
        ('[{"a": 1}, {"a": 2}]', "an array: write an object a line"),
        ("[" + ",".join(['{"a": 1}'] * 200_000) + "]", "an array: write an object a line"),
        ('{"a": NaN}\n', "JSON has no NaN"),
        ('{\n  "a": 1\n}\n', "an object over several lines"),
    ],
)
def test_what_cannot_be_sampled_is_told_with_what_to_do(tmp_path: Path, text: str, said: str):
    (tmp_path / "log").write_text(text)
    with pytest.raises(DataError, match=said):
        sample(tmp_path / "log", 10)


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\na;b\n1;2\n3;4\n",
        "\na,b\n1,2\n3,4\n",
        "a,b\n1,1,2\n2,3,4\n",
        "a,b\n1,2,\n3,4,\n",
        '[\n{"a": "1", "b": "2"},\n{"a": "3", "b": "4"}\n]\n',
    ],
)
def test_rows_are_looked_at_as_a_reader_reads_them(tmp_path: Path, text: str):
    (tmp_path / "log").write_text(text)
    assert sample(tmp_path / "log", 10)[1] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
