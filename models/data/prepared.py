"""A log too large for memory, prepared on disk: Parquet partitions by user, each sorted by user and time.

The log is streamed: a file of one of the formats becomes Parquet first, a folder of Parquet
is read as it is. What stands in memory as a whole are the tables of distinct items, categories and types, and one
partition at a time. A user is known by a 64-bit hash, and in a partition by a number; the names are not kept.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.columns import COLUMNS, scan
from models.data.log import KNOWN_TYPES, Log, no_events
from models.files import replace_file
from stream.core.errors import DataError
from stream.core.events import Event
from stream.formats.registry import BadRow, BadRows, Form, name_of, numbered, strict
from stream.formats.values import EARLY, LATE
from stream.mappings import read_log

FACTS, _STAGE = "prepared.json", "staged"
_ROWS = 500_000  # of a file, in memory at once
_GROUP = 65_536  # rows in a Parquet group: what each open partition holds back
_TABLES = ("item", "category", "type")
PARQUET = "parquet"
_SCHEMA = {"n": pl.Int64, **dict.fromkeys(COLUMNS[:-2], pl.String), "timestamp": pl.Int64, "price": pl.Float64}


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was prepared: events, partitions, times of the first and the last one in ms, rows left out by reason."""

    path: str
    format: str
    timed: bool
    events: int
    partitions: int
    end: int
    bad: dict[str, int]
    begin: int = 0


def is_prepared(folder: Path) -> bool:
    """Tell whether a folder holds a prepared log."""
    return (folder / FACTS).exists()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared log, read a partition at a time."""

    folder: Path
    facts: Facts
    items: list[str]
    categories: list[str]
    types: list[str]
    prices: NDArray[np.float64]  # of the items, NaN: none
    priced: NDArray[np.int64]  # when each was first known, ms

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the tables; raise DataError where the folder is not whole."""
        try:
            facts = msgspec.json.decode((folder / FACTS).read_bytes(), type=Facts)
            tables = [pl.read_parquet(folder / f"{name}.parquet") for name in _TABLES]
            prices = tables[0]["price"].fill_null(np.nan).to_numpy()
            priced = tables[0]["priced"].fill_null(0).to_numpy()
        except (OSError, msgspec.DecodeError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{folder} holds no prepared log: {error}", "prepare it again") from error
        items, categories, types = (table["name"].to_list() for table in tables)
        return cls(folder, facts, items, categories, types, prices, priced)

    def log(self, partition: int) -> Log:
        """Read one partition."""
        frame = pl.read_parquet(_file(self.folder, partition))
        columns: dict[str, Any] = {name: frame[name].cast(pl.Int64).to_numpy() for name in frame.columns}
        return Log(
            **columns,
            users=[""] * (int(columns["user"].max()) + 1 if len(frame) else 0),
            items=self.items,
            categories=self.categories,
            types=self.types,
            prices=self.prices,
            priced=self.priced,
            timed=self.facts.timed,
            bad=BadRows(),
        )


def prepare(
    data: Path, form: Form, out: Path, each: int, progress: Callable[[str], None] = lambda _: None
) -> tuple[Facts, BadRows]:
    """Write a log as partitions of about `each` events; raise DataError where it cannot be read or has no events.

    `form` is a format's name, or `parquet`: a file, or a folder of files, with columns named like an event's fields;
    `parquet:s` has times in seconds.
    """
    stage, (name, _, unit) = out / _STAGE, name_of(form).partition(":")
    shutil.rmtree(stage, ignore_errors=True)
    bad = BadRows(numbered=numbered(form))
    try:
        stage.mkdir(parents=True)
        if name == PARQUET:
            rows = scan(data, unit or "ms", bad, stage)
        else:
            rows = pl.scan_parquet(_staged(data, form, stage, bad, progress))
        rows = rows.select("n", *COLUMNS)
        time = pl.col("timestamp")
        strange = ((time < EARLY) | (time >= LATE)).sum()
        found = rows.select(pl.len(), time.min(), time.max().alias("end"), strange.alias("strange"))
        events, begin, end, odd = _collect(found).row(0)
        if not events:
            raise no_events(bad)
        progress(f"{events:,} events: items, categories and types")
        partitions = -(-events // each)
        _partition(rows, _tables(rows, out), partitions, stage)
        for partition in range(partitions):
            progress(f"{events:,} events: partition {partition + 1} of {partitions}")
            _sort(stage, partition, out)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{data} cannot be prepared: {error}", f"give the path of a log, and its --format (here {name_of(form)})"
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    if form != "sessions":
        bad.saw(begin, end, odd)
    facts = Facts(
        path=data.name, format=name_of(form), timed=form != "sessions", events=events, partitions=partitions,
        begin=begin, end=end, bad=dict(bad.count),
    )  # fmt: skip
    replace_file(out / FACTS, msgspec.json.format(msgspec.json.encode(facts), indent=1))
    return facts, bad


def _staged(data: Path, form: Form, stage: Path, bad: BadRows, progress: Callable[[str], None]) -> list[Path]:
    """Write a file's events as Parquet, some rows at a time."""

    def good(rows: Iterable[Event | BadRow]) -> Iterator[tuple[int, str, str, str, str | None, int, float | None]]:
        for n, row in enumerate(rows):
            if isinstance(row, BadRow):
                bad.add(row)
            else:
                yield n, row.user_id, row.type, row.item_id, row.category_id or None, row.timestamp, row.price

    paths: list[Path] = []
    events = good(read_log(data, strict(form)))
    while rows := list(islice(events, _ROWS)):
        paths.append(stage / f"rows-{len(paths):05}.parquet")
        pl.DataFrame(rows, _SCHEMA, orient="row").write_parquet(paths[-1])
        progress(f"{rows[-1][0] + 1:,} rows read")
    if not paths:
        raise no_events(bad)
    return paths


def _tables(rows: pl.LazyFrame, out: Path) -> dict[str, pl.DataFrame]:
    """Write and return the distinct items, categories and types in the order of their first appearance."""
    tables = {}
    for name in _TABLES:
        key = "type" if name == "type" else f"{name}_id"
        found = rows.filter(pl.col(key).is_not_null()).group_by(name=key).agg(pl.col("n").min())
        table = _collect(found).sort("n").select("name")
        if name == "type":
            known = pl.DataFrame({"name": KNOWN_TYPES})
            table = pl.concat([known, table.join(known, on="name", how="anti", maintain_order="left")])
        if name == "item":
            table = table.join(_prices(rows), on="name", how="left", maintain_order="left")
        tables[name] = table.with_row_index(name)
        table.write_parquet(out / f"{name}.parquet")
    return tables


def _prices(rows: pl.LazyFrame) -> pl.DataFrame:
    """Return the first price in time of each item that has one, and since when (ms) it is known."""
    told = rows.filter(pl.col("price").is_finite())
    earliest = told.group_by("item_id").agg(pl.col("timestamp").min())
    told = told.join(earliest, on=["item_id", "timestamp"], how="semi")
    first = told.group_by("item_id").agg(pl.col("n").min()).select("n")
    return _collect(told.join(first, on="n", how="semi").select("price", priced="timestamp", name="item_id"))


def _partition(rows: pl.LazyFrame, tables: dict[str, pl.DataFrame], partitions: int, stage: Path) -> None:
    """Replace names by their places, and deal the rows out by the hash of the user."""
    for name, table in tables.items():
        key = "type" if name == "type" else f"{name}_id"
        # The number must not take the name's place before it is looked up.
        numbered = table.lazy().select(pl.col("name").alias(key), pl.col(name).cast(pl.Int32).alias(f"_{name}"))
        rows = rows.join(numbered, on=key, how="left")
    shopper = pl.col("user_id").hash()
    dealt = rows.select(
        "n", shopper.alias("shopper"), pl.col("timestamp").alias("time"),
        *(pl.col(f"_{name}").alias(name) for name in _TABLES), (shopper % partitions).cast(pl.Int32).alias("part"),
    )  # fmt: skip
    target = pl.PartitionBy(stage, key="part", include_key=False)
    dealt.sink_parquet(target, row_group_size=_GROUP, maintain_order=False, engine="streaming", mkdir=True)


def _sort(stage: Path, partition: int, out: Path) -> None:
    """Write a partition by user in the order of their first events, then by time, then as in the log."""
    paths = sorted((stage / f"part={partition}").glob("*.parquet"))
    columns = ("user", "item", "category", "type", "time")
    empty = pl.DataFrame(
        schema={"n": pl.Int64, "shopper": pl.UInt64, "time": pl.Int64, **dict.fromkeys(_TABLES, pl.Int32)}
    )
    frame = pl.read_parquet(paths, hive_partitioning=False) if paths else empty
    frame = frame.with_columns(pl.col("n").min().over("shopper").alias("first")).sort("first", "time", "n")
    frame = frame.with_columns((pl.col("first").rle_id()).alias("user"), pl.col("category").fill_null(-1))
    frame.select(columns).write_parquet(_file(out, partition))
    for path in paths:
        path.unlink()


def _file(folder: Path, partition: int) -> Path:
    return folder / f"partition-{partition:05}.parquet"


def _collect(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect(engine="streaming")
