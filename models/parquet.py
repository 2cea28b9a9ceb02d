"""Rows of Parquet with columns that a mapping names, whatever their types."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import polars as pl

from stream.core.errors import DataError
from stream.core.mapped_log import MappedFormat
from stream.core.mapping import nearest
from stream.core.proposal import flat

_ROWS = 50_000  # at once


def rows(path: Path, form: MappedFormat) -> Iterator[tuple[Any, ...]]:
    """Yield the values of a file, or of a folder of files, in the order of the mapping's fields; raise DataError."""
    try:
        frame = pl.scan_parquet(path / "**/*.parquet" if path.is_dir() else path)
        schema = frame.collect_schema()
        columns = [_column(field, each, schema, form) for field, each in form.mapping.paths.items()]
        for block in frame.select(columns).collect_batches(chunk_size=_ROWS, maintain_order=True):
            yield from block.iter_rows()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}", "check the path and the mapping") from error


def first(path: Path, most: int) -> list[dict[str, object]]:
    """Return the first rows by the paths of their columns; raise DataError."""
    try:
        frame = pl.scan_parquet(path / "**/*.parquet" if path.is_dir() else path).head(most).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}", "check the path") from error
    return [flat(row) for row in frame.iter_rows(named=True)]


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
