"""Parquet's columns: ids, times and prices of whatever type people's tools wrote."""

import gzip
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from models.data.columns import scan
from stream.core.errors import DataError
from stream.formats.registry import BadRows
from stream.formats.values import PATTERN
from tests.fakes import NOON

GIVEN: dict[str, Any] = {"user_id": "7", "type": "view", "item_id": "1002", "timestamp": NOON}


def _scanned(path: Path, unit: str = "ms", **columns: Any) -> tuple[list[dict[str, Any]], BadRows]:
    """Write columns, which may be single values, and read them."""
    rows = max(len(c) for c in columns.values()) if columns else 1
    whole = {name: columns.get(name, [value] * rows) for name, value in GIVEN.items()}
    pl.DataFrame(whole | columns).write_parquet(path / "log.parquet")
    bad = BadRows()
    return scan(path / "log.parquet", unit, bad, path).collect().to_dicts(), bad


@pytest.mark.parametrize("column", ["user_id", "item_id", "category_id"])
@pytest.mark.parametrize(
    "ids",
    [
        pl.Series([1002.0, 1003.0]),
        pl.Series([1002, 1003], dtype=pl.Float32),
        pl.Series([1002, 1003], dtype=pl.UInt16),
        pl.Series([Decimal("1002.00"), Decimal("1003.00")]),
        pl.Series(["1002", "1003"], dtype=pl.Categorical),
        pl.Series([b"1002", b"1003"]),
    ],
)
def test_ids_are_the_whole_numbers_that_they_were(tmp_path: Path, column: str, ids: pl.Series):
    rows, bad = _scanned(tmp_path, **{column: ids})
    assert [row[column] for row in rows] == ["1002", "1003"]
    assert not bad


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_id_among_floats_is_missing(tmp_path: Path, missing: float | None):
    rows, bad = _scanned(tmp_path, item_id=[1002.0, missing], category_id=[missing, 2100.0])
    assert [(row["item_id"], row["category_id"]) for row in rows] == [("1002", None)]
    assert bad.lines() == ["1 row left out: missing_field, first in line 2: 'item_id none'"]


@pytest.mark.parametrize(
    "wrong", [pl.Series([1.0, 2.1038074595953876e18]), pl.Series([1.5]), pl.Series([2.0**24], dtype=pl.Float32)]
)
def test_ids_that_lost_digits_are_refused_by_their_column(tmp_path: Path, wrong: pl.Series):
    with pytest.raises(DataError, match="the column category_id holds floats that cannot be ids, such as") as caught:
        _scanned(tmp_path, category_id=wrong)
    assert "write category_id as integers or as text" in caught.value.remedy


EAST = timezone(timedelta(hours=2))
THEN = datetime.fromtimestamp(NOON / 1000, UTC)


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        ("ms", [float(NOON)]),
        ("ms", [THEN.isoformat()]),
        ("ms", [THEN.astimezone(EAST).isoformat()]),
        ("ms", [THEN.strftime("%Y-%m-%d %H:%M:%S UTC").encode()]),
        ("ms", [str(NOON)]),
        ("ms", [THEN]),
        ("ms", [THEN.astimezone(EAST)]),
        ("ms", [THEN.replace(tzinfo=None)]),
        ("s", [NOON // 1000]),
        ("s", [NOON / 1000]),
        ("s", [str(NOON // 1000)]),
        ("us", [NOON * 1000]),
        ("ns", [NOON * 10**6]),
    ],
)
def test_times_are_read_in_their_type_and_unit(tmp_path: Path, unit: str, times: list[Any]):
    rows, _ = _scanned(tmp_path, unit, timestamp=times)
    assert [row["timestamp"] for row in rows] == [NOON]


def test_days_are_times(tmp_path: Path):
    rows, _ = _scanned(tmp_path, timestamp=[date(2026, 1, 1)])
    assert rows[0]["timestamp"] == 1767225600000


def test_times_that_cannot_be_read_are_told_with_the_first(tmp_path: Path):
    _, bad = _scanned(tmp_path, timestamp=["2026-01-01", "soon", None, "later"])
    assert bad.lines() == [
        f"2 rows left out: wrong_type, first in line 2: 'timestamp soon' ({PATTERN})",
        "1 row left out: missing_field, first in line 3: 'timestamp none'",
    ]
    _, bad = _scanned(tmp_path, timestamp=[NOON * 10**6])
    assert "'timestamp 1767268800000000000' (these look like nanoseconds: name the unit" in bad.lines()[0]


def test_prices_are_read_or_told(tmp_path: Path):
    rows, bad = _scanned(tmp_path, price=["9,99", "EUR 9.99", "1,299.00", None, "nan", "free", "dear"])
    assert [row["price"] for row in rows] == [9.99, 9.99, 1299.0, None, None, None, None]
    assert not bad
    assert bad.lines() == ["2 rows read without price, first in line 6: 'free'"]
    rows, bad = _scanned(tmp_path, price=[0.0, -1.5, float("nan"), float("inf")])
    assert [row["price"] for row in rows] == [0.0, -1.5, None, None]
    assert bad.lines() == ["1 row read without price, first in line 4: 'inf'"]
    rows, _ = _scanned(tmp_path, price=[Decimal("9.99")])
    assert rows[0]["price"] == 9.99


def test_files_of_a_folder_may_differ_in_their_types(tmp_path: Path):
    """Let a month without a missing id have integers, and one with such an id floats."""
    whole = pl.DataFrame({**{k: [v, v] for k, v in GIVEN.items()}, "item_id": [1002, 1003]})
    whole.write_parquet(tmp_path / "a.parquet")
    rest = whole.with_columns(item_id=pl.Series([None, 1004.0]), timestamp=pl.lit(THEN), price=pl.lit("9,99"))
    rest.write_parquet(tmp_path / "b.parquet")
    bad = BadRows()
    rows = scan(tmp_path, "ms", bad, tmp_path.parent).collect()
    assert rows["item_id"].to_list() == ["1002", "1003", "1004"]
    assert rows["n"].to_list() == [0, 1, 3]
    assert bad.lines() == ["1 row left out: missing_field, first in line 3: 'b.parquet: item_id none'"]


def test_what_is_no_parquet_is_told(tmp_path: Path):
    (tmp_path / "log.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"log\.csv is no Parquet file"):
        scan(tmp_path / "log.csv", "ms", BadRows(), tmp_path)
    with pytest.raises(DataError, match=r"holds no \*\.parquet"):
        scan(tmp_path, "ms", BadRows(), tmp_path)


@pytest.mark.parametrize("times", [[timedelta(seconds=1)], [time(1)], [True], [[1]], [{"at": 1}]])
def test_a_type_that_holds_no_times_is_refused_by_its_column(tmp_path: Path, times: list[Any]):
    with pytest.raises(DataError, match=r"the column timestamp is of the type \w+.*, which holds no times"):
        _scanned(tmp_path, timestamp=times)


def test_names_may_have_another_case(tmp_path: Path):
    pl.DataFrame({name.upper(): [value] for name, value in GIVEN.items()}).write_parquet(tmp_path / "log.parquet")
    rows = scan(tmp_path / "log.parquet", "ms", BadRows(), tmp_path).collect().to_dicts()
    assert [row["item_id"] for row in rows] == ["1002"]


def test_names_of_its_own_take_a_mapping_and_are_told(tmp_path: Path):
    frame = pl.DataFrame({name: [value] for name, value in GIVEN.items()}).rename({"item_id": "itemid"})
    frame.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"no column item_id \(is it itemid\?\): its columns are user_id") as caught:
        scan(tmp_path / "log.parquet", "ms", BadRows(), tmp_path)
    assert "forecart map" in caught.value.remedy


def test_a_packed_file_is_to_be_unpacked(tmp_path: Path):
    (tmp_path / "log.parquet").write_bytes(gzip.compress(b"PAR1"))
    with pytest.raises(DataError, match="is packed by gzip") as caught:
        scan(tmp_path, "ms", BadRows(), tmp_path)
    assert "unpack it first" in caught.value.remedy


def test_a_folder_may_have_a_name_like_a_file(tmp_path: Path):
    """Spark writes a folder of parts for a file."""
    part = tmp_path / "2019-10.parquet" / "part-0.parquet"
    part.parent.mkdir()
    pl.DataFrame({name: [value] for name, value in GIVEN.items()}).write_parquet(part)
    assert len(scan(tmp_path, "ms", BadRows(), tmp_path).collect()) == 1


@pytest.mark.parametrize("column", ["user_id", "item_id"])
@pytest.mark.parametrize("name", ["a\x1b[2J", "a\u202eb", "a\u00a0b", "a\u200bb", "a\nb", "\ue000", "\u0378"])
def test_ids_that_no_worker_publishes_are_left_out_and_told(tmp_path: Path, column: str, name: str):
    rows, bad = _scanned(tmp_path, **{column: ["Müller & Söhne", name, "商品-1"]})
    assert [row[column] for row in rows] == ["Müller & Söhne", "商品-1"]
    assert bad.count == {"bad_id": 1} and f"U+{ord(next(c for c in name if not c.isprintable())):04X}" in bad.lines()[0]
