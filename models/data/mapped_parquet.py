"""Rows of Parquet with columns that a mapping names, whatever their types."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import polars as pl

from models.data.columns import files, refuse_no_ids, refuse_times
from stream.core.errors import DataError
from stream.formats.mapped_log import MappedFormat
from stream.formats.mapping import nearest
from stream.formats.proposal import flat
from stream.formats.rows import TEXTS

_ROWS = 50_000  # at once
_SPARE = ("category_id", "price", "quantity", "session_id")  # a file may lack them where others have them
_FILES = 8  # of a folder that are looked at


def rows(path: Path, form: MappedFormat) -> Iterator[tuple[Any, ...]]:
    """Yield the values of a file, or of a folder of files, in the order of the mapping's fields; raise DataError."""
    try:
        paths = files(path)
        names = set[str]().union(*(pl.read_parquet_schema(each) for each in paths))
        for each in paths:
            yield from _rows(each, form, names)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}", "check the path and the mapping") from error


def _rows(path: Path, form: MappedFormat, names: set[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of one file; others of its folder, which has all `names`, may have other types and columns."""
    frame = pl.scan_parquet(path, hive_partitioning=False)
    schema = frame.collect_schema()
    columns = [
        pl.lit(None).alias(field) if field in _SPARE and each[0] in names - schema.keys()
        else _column(field, each, schema, form)
        for field, each in form.mapping.paths.items()
    ]  # fmt: skip
    chosen = frame.select(columns)
    ids = {form.mapping.column(field): field for field in form.mapping.paths if field in TEXTS}
    refuse_no_ids(chosen.select(pl.col(field).alias(name) for name, field in ids.items()), path, list(ids))
    refuse_times(chosen.collect_schema()["timestamp"], path, form.mapping.columns.time)
    for block in chosen.collect_batches(chunk_size=_ROWS, maintain_order=True):
        yield from block.iter_rows()


def first(path: Path, most: int) -> list[dict[str, object]]:
    """Return the first rows by the paths of their columns; raise DataError."""
    try:
        frames = [pl.scan_parquet(each, hive_partitioning=False).head(most).collect() for each in files(path)[:_FILES]]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}", "check the path") from error
    return [flat(row) for frame in frames for row in frame.iter_rows(named=True)][:most]


def _column(field: str, path: tuple[str, ...], schema: pl.Schema, form: MappedFormat) -> pl.Expr:
    """Return the column at a path; a name with dots is one column where there is such."""
    whole = ".".join(path)
    if whole in schema:
        return pl.col(whole).alias(field)
    found, kind = pl.col(path[0]), cast(Any, schema.get(path[0]))
    for name in path[1:]:
        kind = dict(kind).get(name) if isinstance(kind, pl.Struct) else None
        found = found.struct.field(name)
    if kind is None:
        near = nearest(whole, schema)
        meant = f": is it {' or '.join(near)}?" if near else ""
        raise DataError(
            f"the log has no column {whole}{meant}", f"its columns are {', '.join(schema)}; {form.name} names it"
        )
    return found.alias(field)
