"""Parquet's columns as an event's fields, whatever types they were written with; with `prepared` the home of polars."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from stream.core.errors import DataError
from stream.core.events import ID_LENGTH_MAX, odd
from stream.formats.mapping import nearest
from stream.formats.packed import packing
from stream.formats.registry import BadRow, BadRows
from stream.formats.values import ODD_ID, PATTERN, UNITS, WHOLE, looks_like, moment, number, whole_id

_IDS = ("user_id", "type", "item_id")
COLUMNS = (*_IDS, "category_id", "timestamp", "price")
_TIMES = (0, 2**53)
_SHOWN = 80
_TEXTS = (pl.String, pl.Categorical, pl.Enum)
_UNPRINTABLE = r"[\p{C}\p{Z}&&[^ ]]"  # as Python's str.isprintable
_SINGLE = 2**24  # floats of four bytes hold the whole numbers below it exactly


def scan(data: Path, unit: str, bad: BadRows, stage: Path) -> pl.LazyFrame:
    """Return the events of a file, or of a folder of files, with the numbers of their rows; count the rest in `bad`.

    What Python has to read, such as times as text, is read once and written to the folder `stage`. Numbers in the
    column of times are in `unit`. Raises DataError for a column that is missing, or holds no ids.
    """
    parts, before = list[pl.LazyFrame](), 0
    for path in files(data):
        raw = _named_alike(pl.scan_parquet(path, hive_partitioning=False))
        to_check = _ids_to_check(raw)
        rows = _checked(raw, path, unit, to_check).with_row_index("n", before).with_columns(pl.col("n").cast(pl.Int64))
        if to_check or any(map(_is_read_by_python, (raw.collect_schema().get(name) for name in COLUMNS), COLUMNS)):
            read = stage / f"columns-{len(parts):05}.parquet"
            rows.sink_parquet(read, lazy=False, engine="streaming")
            rows = pl.scan_parquet(read)
        _tell(rows, bad, path.name if data.is_dir() else "")
        parts.append(rows.filter(pl.col("reason").is_null()).select("n", *COLUMNS))
        before += raw.select(pl.len()).collect().item()
    return pl.concat(parts)


def files(data: Path) -> list[Path]:
    """Return the Parquet files of a path, a folder's in the order of their names; raise DataError for what is none."""
    paths = sorted(path for path in data.rglob("*.parquet") if path.is_file()) if data.is_dir() else [data]
    if not paths:
        raise DataError(f"{data} holds no *.parquet", "check the path, or give the log's --format")
    for path in paths:
        with path.open("rb") as file:
            head = file.read(8)
        if kind := packing(head):
            raise DataError(
                f"{path} is packed by {kind}, which Parquet cannot be read through",
                "unpack it first; if it holds no Parquet, give the log's --format",
            )
        if head[:4] != b"PAR1":
            raise DataError(
                f"{path} is no Parquet file", "give the log's --format, or a mapping of it: forecart map --data FILE"
            )
    return paths


def _named_alike(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Write the names of an event's fields as they are, whatever case a file has them in."""
    names = frame.collect_schema().names()
    return frame.rename({name: name.lower() for name in names if name.lower() in COLUMNS and name.lower() not in names})


def _ids_to_check(frame: pl.LazyFrame) -> list[str]:
    """Return the columns of ids as text of which some have to be read by Python."""
    schema = frame.collect_schema()
    texts = [name for name in (*_IDS, "category_id") if isinstance(schema.get(name), _TEXTS)]
    some = frame.select(pl.col(name).cast(pl.String).str.contains(ODD_ID).any() for name in texts)
    found = some.collect(engine="streaming")
    return [name for name in texts if found[name].item()]


def _checked(frame: pl.LazyFrame, path: Path, unit: str, to_check: list[str]) -> pl.LazyFrame:
    """Return an event's fields, and of a row that is none the reason and what is wrong.

    What could not be read of a price or category, which an event may lack, is in `no_price` and `no_category_id`.
    """
    schema = frame.collect_schema()
    if lacking := [name for name in (*_IDS, "timestamp") if name not in schema]:
        raise _lacking(path, lacking, list(schema))
    refuse_times(schema["timestamp"], path, "timestamp")
    given = [name for name in COLUMNS if name in schema]
    refuse_no_ids(frame, path, [name for name in given if name not in ("timestamp", "price")])
    frame = frame.select(
        *(pl.col(name).fill_nan(None) if schema[name].is_float() else pl.col(name) for name in given),
        *(pl.lit(None, pl.String).alias(name) for name in COLUMNS if name not in schema),
    )
    ids = {name: _text(name, schema.get(name), name in to_check) for name in (*_IDS, "category_id")}
    time, (price, unread) = _time(schema["timestamp"], unit), _price(schema.get("price"))
    length = {name: text.str.len_chars() for name, text in ids.items()}
    faults = [(name, pl.col(name).is_null(), "missing_field") for name in (*_IDS, "timestamp")]
    faults += [(name, length[name] == 0, "missing_field") for name in _IDS]
    faults += [
        (name, _each(pl.col(name), _is_no_utf8, pl.Boolean), "not_utf8")
        for name in ids
        if schema.get(name) == pl.Binary
    ]
    faults += [(name, pl.col(name).is_not_null() & ids[name].is_null(), "wrong_type") for name in _IDS]
    faults += [(name, n > ID_LENGTH_MAX, "wrong_type") for name, n in length.items()]
    faults += [(name, ids[name].str.contains(_UNPRINTABLE), "bad_id") for name in ("user_id", "item_id")]
    faults += [("timestamp", time.is_null() | (time <= _TIMES[0]) | (time >= _TIMES[1]), "wrong_type")]
    return frame.select(
        *(ids[name].alias(name) for name in _IDS),
        pl.when(length["category_id"] > 0).then(ids["category_id"]).alias("category_id"),
        time.alias("timestamp"),
        price.alias("price"),
        pl.coalesce(pl.when(fault).then(pl.lit(reason)) for _, fault, reason in faults).alias("reason"),
        pl.coalesce(pl.when(fault).then(pl.lit(name)) for name, fault, _ in faults).alias("column"),
        pl.coalesce(pl.when(fault).then(_as_written(name, schema)) for name, fault, _ in faults).alias("value"),
        unread.alias("no_price"),
        pl.when(ids["category_id"].is_null()).then(_as_written("category_id", schema)).alias("no_category_id"),
    )


def _lacking(path: Path, lacking: list[str], names: list[str]) -> DataError:
    near = [f"{name} (is it {' or '.join(found)}?)" if (found := nearest(name, names)) else name for name in lacking]
    return DataError(
        f"{path} has no column {', '.join(near)}: its columns are {', '.join(names)}",
        "name the columns like the fields of an event, or describe them by a --mapping: forecart map --data PATH",
    )


def refuse_times(kind: pl.DataType, path: Path, name: str) -> None:
    """Raise DataError where a column of times is of a type that holds none."""
    if kind in (pl.Duration, pl.Time) or kind.is_nested() or kind in (pl.Boolean, pl.Object):
        raise DataError(
            f"{path}: the column {name} is of the type {kind}, which holds no times",
            f"write {name} as a timestamp, as text in ISO 8601, or as a number of milliseconds",
        )


def _tell(rows: pl.LazyFrame, bad: BadRows, file: str) -> None:
    """Count the rows that are no events by reason, and the prices and categories that could not be read."""
    place, lost = f"{file}: " if file else "", pl.col("reason").is_not_null()
    for reason, column, count, row, value in _first(rows.filter(lost), "reason", "column", "value"):
        bad.add(
            BadRow(row + 1, reason, f"{place}{column} {value or 'none'}", _hint(column, value or "", reason)), count
        )
    for name in ("price", "category_id"):
        unread = rows.filter(~lost & pl.col(f"no_{name}").is_not_null())
        for _, count, row, value in _first(unread, "reason", f"no_{name}"):
            bad.add(BadRow(row + 1, name, f"{place}{value}", _hint(name, value, ""), lost=False), count)


def _first(rows: pl.LazyFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Yield each group of rows with their number, and the first one's number and value, which is the last column."""
    *keys, value = columns
    groups = rows.group_by(*keys).agg(pl.len(), pl.col("n").min().alias("first"), pl.col(value).sort_by("n").first())
    return groups.collect(engine="streaming").sort("first").iter_rows()


def _hint(column: str, value: str, reason: str) -> str:
    """Say what is wrong with a value."""
    if column == "timestamp":
        hint = looks_like(int(value), "parquet") if value.isdigit() else ""
        return hint or (PATTERN if reason == "wrong_type" else "")
    if reason == "bad_id":
        return odd(value)
    try:
        whole_id("" if column == "price" else value)
    except ValueError as error:
        return str(error)
    return ""


def refuse_no_ids(frame: pl.LazyFrame, path: Path, names: list[str]) -> None:
    """Raise DataError where a column of ids is of a type, or holds a float, that none can be."""
    schema = frame.collect_schema()
    for name in names:
        kind = schema[name]
        if not (
            kind.is_integer() or kind.is_float() or kind.is_decimal() or isinstance(kind, (*_TEXTS, pl.Binary, pl.Null))
        ):
            raise DataError(
                f"{path}: the column {name} is of the type {kind}, which holds no ids",
                f"name another column, or write {name} as integers or as text",
            )
    _refuse_floats(frame, path, names)


def _refuse_floats(frame: pl.LazyFrame, path: Path, names: list[str]) -> None:
    """Raise DataError where a column of ids holds floats that are no whole numbers, or too large to be exact."""
    schema = frame.collect_schema()
    for name in names:
        kind, value = schema[name], pl.col(name)
        if kind.is_float():
            wrong = value.is_not_nan() & (
                (value % 1 != 0) | (value.abs() >= (_SINGLE if kind == pl.Float32 else WHOLE))
            )
        elif kind.is_decimal():
            wrong = value % 1 != 0
        else:
            continue
        if len(found := frame.filter(wrong).select(name).head(1).collect()):
            raise DataError(
                f"{path}: the column {name} holds floats that cannot be ids, such as {found.item()!r}",
                f"write {name} as integers or as text. pandas makes floats of integers where one is missing, and these "
                "lose digits of large ones: read the column as 'Int64' or 'string' there",
            )


def _text(name: str, kind: pl.DataType | None, check: bool) -> pl.Expr:
    """Return a column of ids as text, empty where the text says that there is none, null where it is no id.

    Text is read by Python where it is to be checked.
    """
    if kind == pl.Binary:
        return _each(pl.col(name), lambda raw: whole_id(_utf8(raw)), pl.String)
    if kind is not None and (kind.is_float() or kind.is_decimal()):
        return pl.col(name).cast(pl.Int64).cast(pl.String)
    text = pl.col(name).cast(pl.String, strict=False)
    return _each(text, whole_id, pl.String) if check else text


def _time(kind: pl.DataType, unit: str) -> pl.Expr:
    """Return the column of times in ms, null where it cannot be read."""
    time = pl.col("timestamp")
    if kind.is_temporal():
        return time.dt.epoch("ms")
    if not kind.is_numeric():
        return _instants(unit)
    if kind.is_integer() and UNITS[unit] < 1:
        return (time // round(1 / UNITS[unit])).cast(pl.Int64, strict=False)
    return (time * UNITS[unit] if unit != "ms" else time).cast(pl.Int64, strict=False)


def _price(kind: pl.DataType | None) -> tuple[pl.Expr, pl.Expr]:
    """Return the column of prices, and as text what could not be read of it."""
    price = pl.col("price")
    if kind is None or kind.is_numeric():
        read = price.cast(pl.Float64, strict=False)
        return pl.when(read.is_finite()).then(read), pl.when(read.is_infinite()).then(price.cast(pl.String))
    told = _each(price, lambda text: _fails(_utf8(text)), pl.Boolean)
    shown = _each(price, _utf8, pl.String) if kind == pl.Binary else price.cast(pl.String, strict=False)
    return _each(price, lambda text: number(_utf8(text)), pl.Float64), pl.when(told).then(shown)


def _fails(text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return True
    return False


def _is_read_by_python(kind: pl.DataType | None, name: str) -> bool:
    is_text = kind is not None and not kind.is_numeric() and not kind.is_temporal()
    return kind == pl.Binary or (is_text and name in ("timestamp", "price"))


def _utf8(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _is_no_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return True
    return False


def _each(column: pl.Expr, read: Callable[[Any], Any], kind: Any) -> pl.Expr:
    """Return what `read` makes of each value of a column, null where it cannot."""

    def one(value: Any) -> Any:
        try:
            return read(value)
        except ValueError:
            return None

    def every(values: pl.Series) -> pl.Series:
        found = {value: one(value) for value in values.unique().drop_nulls()}
        return pl.Series(values.name, map(found.get, values), kind)

    return column.map_batches(every, kind, is_elementwise=True)


def _instants(unit: str) -> pl.Expr:
    """Return times as text in ms: by polars what has the usual forms, which is the faster way, else by `moment`."""
    text = pl.col("timestamp").cast(pl.String, strict=False)
    usual = pl.coalesce(
        text.str.to_datetime("%+", strict=False, time_unit="ms", time_zone="UTC").dt.epoch("ms"),
        text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="ms").dt.epoch("ms"),
    )
    rest = pl.when(usual.is_null()).then(text)

    def every(values: pl.Series) -> pl.Series:
        return pl.Series(values.name, [None if value is None else _moment(value, unit) for value in values], pl.Int64)

    return pl.coalesce(usual, rest.map_batches(every, pl.Int64, is_elementwise=True))


def _moment(text: str, unit: str) -> int | None:
    try:
        return moment(text, unit)
    except ValueError:
        return None


def _as_written(name: str, schema: pl.Schema) -> pl.Expr:
    if schema.get(name) == pl.Binary:
        return _each(pl.col(name), lambda raw: raw.decode(errors="backslashreplace")[:_SHOWN], pl.String)
    return pl.col(name).cast(pl.String, strict=False).str.head(_SHOWN)
