"""Parquet with columns that a mapping names."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from models.data.mapped_parquet import first, rows
from stream.core.errors import DataError
from stream.formats.mapped_log import MappedFormat
from stream.formats.mapping import Columns, Mapping, Time
from tests.fakes import NOON

MAPPING = Mapping(
    format="parquet",
    columns=Columns(user="who", item="what", time="at", price="cost"),
    types="view",
    time=Time(unit="ms"),
)
FORM = MappedFormat.of(MAPPING, "shop.yaml")
ROW = {"who": 1, "what": "a", "at": NOON, "cost": 9.9}


def test_files_of_a_folder_may_differ_in_types_and_in_columns_that_can_be_spared(tmp_path: Path):
    for n, row in enumerate(
        (ROW, ROW | {"who": "1", "at": float(NOON)}, {k: v for k, v in ROW.items() if k != "cost"})
    ):
        pl.DataFrame([row]).write_parquet(tmp_path / f"{n}.parquet")
    found = [row for row in FORM.events(rows(tmp_path, FORM))]
    assert [(row.user_id, row.timestamp, row.price) for row in found] == [("1", NOON, 9.9)] * 2 + [("1", NOON, None)]
    assert len(first(tmp_path, 2)) == 2


def test_a_column_that_no_file_has_is_missing(tmp_path: Path):
    pl.DataFrame([{k: v for k, v in ROW.items() if k != "cost"}]).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column cost"):
        list(rows(tmp_path, FORM))


def test_days_are_times(tmp_path: Path):
    pl.DataFrame([ROW | {"at": date(2026, 1, 1)}]).write_parquet(tmp_path / "a.parquet")
    (event,) = FORM.events(rows(tmp_path / "a.parquet", FORM))
    assert event.timestamp == 1_767_225_600_000


def test_a_type_that_holds_no_times_is_refused_by_its_column(tmp_path: Path):
    pl.DataFrame([ROW | {"at": timedelta(1)}]).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="the column at is of the type Duration"):
        list(rows(tmp_path / "a.parquet", FORM))


def test_times_of_another_unit_are_told(tmp_path: Path):
    pl.DataFrame([ROW | {"at": NOON * 10**6}]).write_parquet(tmp_path / "a.parquet")
    (bad,) = FORM.events(rows(tmp_path / "a.parquet", FORM))
    assert "nanoseconds: a mapping says so by `unit: ns`" in bad.hint
