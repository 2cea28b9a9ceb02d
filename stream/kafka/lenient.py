"""Fetched batches whose header names are no text: aiokafka's reader refuses them, and with them the whole partition.

Kafka takes any bytes for a header's name, so one record would stop a worker again and again. Such a batch is read
once more, in Python, with escapes for what is no UTF-8.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH, _HEAD = slice(8, 12), 12  # where a batch tells its length, and the bytes that are not counted in it


class _Escaping(bytearray):
    """Bytes whose slices are decoded with escapes."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return _Escaping(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", _errors: str = "") -> str:
        return super().decode(encoding, "backslashreplace")


class _Batch:
    """A batch of aiokafka's, and the bytes that it is read from."""

    def __init__(self, batch: Any, raw: bytes) -> None:
        self._batch, self._raw = batch, raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._batch
        except UnicodeDecodeError:  # records that went before come again, and the fetcher passes over them
            yield from _read(self._raw)


class Records:
    """`MemoryRecords` whose batches can be read again."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at, self._records = raw, 0, MemoryRecords(raw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> _Batch:
        """Return the next batch, of which `has_next` told."""
        begin = self._at
        head = self._raw[begin : begin + _HEAD]
        self._at += _HEAD + int.from_bytes(head[_LENGTH], "big")
        return _Batch(self._records.next_batch(), self._raw[begin : self._at])


def install() -> None:
    """Let aiokafka's fetcher read with `Records`."""
    fetcher.MemoryRecords = Records


def _read(raw: bytes) -> Iterator[Any]:
    batch = _DefaultRecordBatchPy(raw)
    batch._maybe_uncompress()
    batch._buffer = _Escaping(batch._buffer)
    return iter(batch)
