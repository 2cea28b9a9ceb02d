"""The file of a catalog, before it is published."""

import gzip
from pathlib import Path

import pytest

from stream.cli.catalog import _records
from stream.core.errors import DataError
from stream.settings import Settings

LINES = '{"item_id": "café", "availability": true}\n\n{"item_id": "i-2"}\n'


@pytest.mark.parametrize(
    "raw",
    [LINES.encode("utf-8-sig"), gzip.compress(LINES.encode("utf-16"), mtime=0), LINES.encode("cp1252")],
    ids=["a BOM", "gzip of UTF-16", "cp1252"],
)
def test_items_are_read_however_they_are_packed_and_encoded(raw: bytes, tmp_path: Path):
    (tmp_path / "items").write_bytes(raw)
    assert list(_records(tmp_path / "items", Settings())) == [("café", b'{"availability":true}'), ("i-2", None)]


def test_a_line_that_is_no_item_is_told(tmp_path: Path):
    (tmp_path / "items").write_bytes(LINES.encode() + b"{\n")
    with pytest.raises(DataError, match="line 4 is no item"):
        list(_records(tmp_path / "items", Settings()))


def test_an_id_that_is_not_published_is_told_unless_such_ids_are(tmp_path: Path):
    (tmp_path / "items").write_bytes(b'{"item_id": "a\\u001b[2J", "availability": true}\n')
    with pytest.raises(DataError, match=r"line 1 is no item: schema \(the id holds U\+001B"):
        list(_records(tmp_path / "items", Settings()))
    assert len(list(_records(tmp_path / "items", Settings(printable_ids=False)))) == 1
