"""A batch in the bytes of a fetch: what its header says of it, and its records.

aiokafka's reader of records is used as it is, on batches whose checksum fits. Its own walk over a fetch is not: it
takes the format of the first batch for that of all.
"""

import struct
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.util import decode_varint_py

from stream.kafka.fetch import messages
from stream.kafka.fetch.inflate import SLACK, inflate

_START = struct.Struct(">qiib")  # offset, length, epoch or checksum, format: alike in formats 0, 1 and 2
_HEAD = struct.Struct(">qiibIhiqqqhii")
_COUNTED = 12  # bytes that come before what the length counts
_ATTRIBUTES = slice(21, 23)
_CODEC, _TRANSACTIONAL, _CONTROL = 0x07, 0x10, 0x20


class Batch(NamedTuple):
    """A batch as its header tells of it, whether that is true or not; `raw` are the bytes of it that came.

    `held` is how many records there are in it. In formats 0 and 1 `first` is as `last`, the offset of the last message.
    """

    raw: memoryview
    size: int
    magic: int
    first: int
    last: int
    held: int
    attributes: int = 0
    producer: int = -1

    @property
    def dense(self) -> bool:
        """Tell whether it has a record at each of its offsets: none was compacted away."""
        return self.magic == 2 and self.held == self.last - self.first + 1

    @property
    def control(self) -> bool:
        """Tell whether it is the end of a transaction."""
        return bool(self.attributes & _CONTROL)

    @property
    def transactional(self) -> bool:
        """Tell whether it is part of a transaction."""
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def whole(self) -> bool:
        """Tell whether all of it came, by a length that can be."""
        least = _HEAD.size if self.magic == 2 else messages.LEAST[self.magic]
        return least <= self.size == len(self.raw)

    def sound(self) -> bool:
        """Tell whether the checksum fits; it covers all but offset, length and format."""
        return DefaultRecordBatch(self.raw).validate_crc() if self.magic == 2 else messages.sound(self.raw)

    def records(self, limit: int) -> Iterator[Any]:
        """Return a sound batch's records; it inflates to `limit` bytes at most.

        Raises Inflated or Broken, and the iterator ValueError or one of aiokafka's errors, where it is broken inside.
        """
        if self.magic < 2:
            return messages.read(self.raw, lambda codec, data: inflate(codec, data, limit))
        codec = self.attributes & _CODEC
        if not codec:
            plain = memoryview(b"".join((self.raw, bytes(SLACK))))[:-SLACK]
        else:
            head, data = bytearray(self.raw[: _HEAD.size]), self.raw[_HEAD.size :]
            head[_ATTRIBUTES] = (self.attributes & ~_CODEC).to_bytes(2, "big", signed=True)
            # A batch without records may be a header alone, which still names a codec.
            plain = inflate(codec, data, limit, head) if data else memoryview(head)
        return _records(plain)


def cut(raw: memoryview, at: int) -> Batch | None:
    """Return the batch that begins at a place; None where there is no header of one."""
    if len(raw) - at < _START.size:
        return None
    offset, length, _, magic = _START.unpack_from(raw, at)
    size = _COUNTED + length
    if magic in messages.LEAST:
        return Batch(raw[at : at + max(size, 0)], size, magic, offset, offset, 1)
    if magic != 2 or len(raw) - at < _HEAD.size:
        return None
    *_, attributes, delta, _, _, producer, _, _, count = _HEAD.unpack_from(raw, at)
    return Batch(raw[at : at + max(size, 0)], size, magic, offset, offset + delta, count, attributes, producer)


class _Escaping(bytearray):
    """Bytes whose slices are decoded with escapes."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return _Escaping(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", _errors: str = "") -> str:
        return super().decode(encoding, "backslashreplace")


def _records(plain: memoryview) -> Iterator[Any]:
    """Read a batch that is not compressed; after a header's name that is no text, once more from its first record.

    The compiled reader raises MemoryError for a length near 2^63, which the other one finds to be wrong.
    """
    try:
        yield from DefaultRecordBatch(plain)
    except (UnicodeDecodeError, MemoryError):
        batch = _DefaultRecordBatchPy(plain)
        batch._buffer = _Escaping(batch._buffer)
        # By default it reads lengths with a compiled function that checks no bounds, wherever they lead.
        batch._read_msg = partial(batch._read_msg, decode_varint_py)
        yield from batch
