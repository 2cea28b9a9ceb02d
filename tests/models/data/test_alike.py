"""One text is one id, whichever reader meets it."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import forecart  # noqa: F401  # names the reader of mapped Parquet
from models.data.columns import scan
from stream.core.errors import DataError
from stream.core.events import Event
from stream.formats.registry import BadRow, BadRows, read
from stream.mappings import load, read_log
from tests.fakes import NOON

COLUMNS = ("user_id", "type", "item_id", "category_id", "timestamp")
Told = list[tuple[Any, ...]]
"""Each row's user, item and category, or the reason why it has none."""


def _rows(users: list[str], categories: list[str]) -> list[dict[str, Any]]:
    pairs = zip(users, categories, strict=True)
    return [dict(zip(COLUMNS, (user, "view", "7", category, NOON), strict=True)) for user, category in pairs]


def _told(rows: Any) -> tuple[Told, set[str]]:
    """Return what rows became, and which values were left out of them."""
    found = list(rows)
    without = {row.reason for row in found if isinstance(row, BadRow) and not row.lost}
    kept = [row for row in found if isinstance(row, Event) or row.lost]
    return [(r.user_id, r.category_id or None) if isinstance(r, Event) else (r.reason,) for r in kept], without


def _mapped(folder: Path, form: str, log: Path) -> tuple[Told, set[str]]:
    mapping = folder / "shop.yaml"
    mapping.write_text(
        f"format: {form}\ntime: {{unit: ms}}\n"
        "columns: {user: user_id, item: item_id, time: timestamp, type: type, category: category_id}\n"
    )
    return _told(read_log(log, load(mapping)))


def _csv(rows: list[dict[str, Any]], names: tuple[str, ...] = COLUMNS) -> str:
    return "\n".join([",".join(names), *(",".join(str(row[name]) for name in COLUMNS) for row in rows)]) + "\n"


def rees46(folder: Path, rows: list[dict[str, Any]]) -> tuple[Told, set[str]]:
    text = _csv(rows, ("user_id", "event_type", "product_id", "category_id", "event_time"))
    return _told(read(io.BytesIO(text.encode()), "rees46"))


def mapped_csv(folder: Path, rows: list[dict[str, Any]]) -> tuple[Told, set[str]]:
    (folder / "log.csv").write_text(_csv(rows))
    return _mapped(folder, "csv", folder / "log.csv")


def events(folder: Path, rows: list[dict[str, Any]]) -> tuple[Told, set[str]]:
    lines = [json.dumps(row | {"event_id": f"e{n}"}) for n, row in enumerate(rows)]
    return _told(read(io.BytesIO("\n".join(lines).encode()), "events"))


def mapped_json(folder: Path, rows: list[dict[str, Any]]) -> tuple[Told, set[str]]:
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return _mapped(folder, "json", folder / "log.jsonl")


def parquet(folder: Path, rows: list[dict[str, Any]], kind: Any = pl.String) -> tuple[Told, set[str]]:
    frame = pl.DataFrame(rows).with_columns(pl.col("user_id", "category_id").cast(kind))
    frame.write_parquet(folder / "log.parquet")
    bad = BadRows()
    found = scan(folder / "log.parquet", "ms", bad, folder).collect()
    lost: Told = [(reason,) for reason, n in bad.count.items() for _ in range(n)]
    return [*found.select("user_id", "category_id").iter_rows(), *lost], set(bad.values)


def binary(folder: Path, rows: list[dict[str, Any]]) -> tuple[Told, set[str]]:
    return parquet(folder, rows, pl.Binary)


def categorical(folder: Path, rows: list[dict[str, Any]]) -> tuple[Told, set[str]]:
    return parquet(folder, rows, pl.Categorical)


def mapped_parquet(folder: Path, rows: list[dict[str, Any]]) -> tuple[Told, set[str]]:
    pl.DataFrame(rows).write_parquet(folder / "log.parquet")
    return _mapped(folder, "parquet", folder / "log.parquet")


READERS = (rees46, mapped_csv, events, mapped_json, parquet, binary, categorical, mapped_parquet)
Reader = Callable[[Path, list[dict[str, Any]]], tuple[Told, set[str]]]
IDS = {
    "1002.0": "1002", "1.0020e+3": "1002", "2.103807459595387e+15": "2103807459595387", " 5770001 ": "5770001",
    "A-1.0": "A-1.0", "007": "007", "12e5": "12e5", "nano": "nano", "-5.0": "-5", "\t8": "8", "5770001": "5770001",
}  # fmt: skip
NONE = ("nan", "NaN", "NULL", "None", "\\N", "<NA>", "#N/A", "NaT", "N/A", " ", "undefined", "(null)", " nan")
LOST = ("5.77E+12", "1e+400", "2.1038074595953876e+18", "9007199254740992.0", "1.5", "1E+05", "9.9e999")


@pytest.mark.parametrize("reader", READERS)
def test_an_id_is_the_same_in_every_reader(tmp_path: Path, reader: Reader):
    found, without = reader(tmp_path, _rows(list(IDS), list(IDS)))
    assert found == [(name, name) for name in IDS.values()]
    assert not without


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", NONE)
def test_text_that_says_there_is_no_id_is_none(tmp_path: Path, reader: Reader, text: str):
    found, without = reader(tmp_path, _rows(["u", text], [text, "c"]))
    assert found == [("u", None), ("missing_field",)]
    assert not without


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", LOST)
def test_an_id_that_lost_digits_is_none_and_told(tmp_path: Path, reader: Reader, text: str):
    found, _ = reader(tmp_path, _rows(["u", text], ["c", "c"]))
    assert found == [("u", "c"), ("wrong_type",)]


@pytest.mark.parametrize("reader", [mapped_csv, mapped_json, parquet, binary, categorical, mapped_parquet])
def test_a_category_that_lost_digits_costs_no_event(tmp_path: Path, reader: Reader):
    found, without = reader(tmp_path, _rows(["u", "v"], ["5.77E+12", "c"]))
    assert found == [("u", None), ("v", "c")]
    assert without == {"category_id"}


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (pl.Series([1.5]), "holds floats"),
        (pl.Series([2.0**53]), "holds floats"),
        (pl.Series([2.0**24], dtype=pl.Float32), "holds floats"),
        (pl.Series([True]), "is of the type Boolean"),
        (pl.Series([{"a": 1}]), "is of the type Struct"),
        (pl.Series([NOON]).cast(pl.Datetime("ms")), "is of the type Datetime"),
        (pl.Series([NOON]).cast(pl.Duration("ms")), "is of the type Duration"),
        (pl.Series([[1]]), "is of the type List"),
    ],
)
def test_a_column_that_holds_no_ids_is_refused_by_its_name(tmp_path: Path, ids: pl.Series, said: str, mapped: bool):
    frame = pl.DataFrame(_rows(["u"], ["c"]))
    frame = frame.with_columns(ids.alias("item_id"))
    frame.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=f"the column item_id {said}"):
        if mapped:
            _mapped(tmp_path, "parquet", tmp_path / "log.parquet")
        else:
            scan(tmp_path / "log.parquet", "ms", BadRows(), tmp_path)


@pytest.mark.parametrize("reader", [rees46, mapped_csv, mapped_json, mapped_parquet])
def test_a_type_has_no_space_around_it(tmp_path: Path, reader: Reader):
    rows = [row | {"type": " view "} for row in _rows(["u"], ["c"])]
    assert reader(tmp_path, rows)[0] == [("u", "c")]
