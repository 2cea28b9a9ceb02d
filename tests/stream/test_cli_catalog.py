"""The file of a catalog, before it is published."""

import gzip
from pathlib import Path

import pytest

from stream.cli_catalog import _records
from stream.core.errors import DataError

LINES = '{"item_id": "café", "availability": true}\n\n{"item_id": "i-2"}\n'


@pytest.mark.parametrize(
    "raw",
    [LINES.encode("utf-8-sig"), gzip.compress(LINES.encode("utf-16"), mtime=0), LINES.encode("cp1252")],
    ids=["a BOM", "gzip of UTF-16", "cp1252"],
)
def test_items_are_read_however_they_are_packed_and_encoded(raw: bytes, tmp_path: Path):
    (tmp_path / "items").write_bytes(raw)
    assert list(_records(tmp_path / "items")) == [("café", b'{"availability":true}'), ("i-2", None)]


def test_a_line_that_is_no_item_is_told(tmp_path: Path):
    (tmp_path / "items").write_bytes(LINES.encode() + b"{\n")
    with pytest.raises(DataError, match="line 4 is no item"):
        list(_records(tmp_path / "items"))
