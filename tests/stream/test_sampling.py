"""The first rows of logs of unknown shape."""

import gzip
from pathlib import Path

import pytest

from stream.core.errors import DataError
from stream.sampling import sample


def test_tables_and_json_are_told_apart(tmp_path: Path):
    log = tmp_path / "log"
    for text, form in (("a,b\n1,2\n", "csv"), ("a\tb\n1\t2\n", "tsv"), ("a;b\n1;2\n", "csv")):
        log.write_text(text)
        assert sample(log, 10) == (form, [{"a": "1", "b": "2"}])
    log.write_bytes(gzip.compress(b'{"a": {"b": 1}}\nbroken\n'))
    assert sample(log, 10) == ("json", [{"a.b": 1}])


def test_no_more_rows_than_asked_are_read(tmp_path: Path):
    (tmp_path / "log").write_text("a,b\n" + "1,2\n" * 50)
    assert len(sample(tmp_path / "log", 7)[1]) == 7


@pytest.mark.parametrize(
    ("text", "said"), [("", "has no rows"), ("hello\nworld\n", "neither JSON"), ("{\n", "no line")]
)
def test_what_has_no_columns_is_refused(tmp_path: Path, text: str, said: str):
    (tmp_path / "log").write_text(text)
    with pytest.raises(DataError, match=said):
        sample(tmp_path / "log", 10)
