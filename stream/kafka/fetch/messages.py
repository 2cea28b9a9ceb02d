"""The message formats 0 and 1, from before Kafka 0.11: brokers still serve what old segments hold.

aiokafka's compiled reader of them trusts the lengths of inner messages: a wrong one lets it loop for ever, or read
outside of its memory. So they are read here.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

LEAST = {0: 26, 1: 34}  # bytes of a message, by format
_LOG_HEAD, _CRC, _MAGIC, _ATTRIBUTES, _TIME = 12, 12, 16, 17, 18
_CODEC, _APPEND_TIME = 0x07, 0x08
_LZ4 = 3


class Message(NamedTuple):
    """A message as written; `timestamp` in ms, -1 where it has none."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def sound(raw: memoryview) -> bool:
    """Tell whether the checksum fits."""
    return zlib.crc32(raw[_MAGIC:]) == int.from_bytes(raw[_CRC:_MAGIC], "big")


def read(raw: memoryview, inflate: Callable[[int, memoryview], memoryview]) -> Iterator[Message]:
    """Yield the message, or those that are compressed within it; raise ValueError where there are none.

    `inflate` is given a codec and data.
    """
    outer, codec = _message(raw)
    if not codec:
        yield outer
        return
    if outer.value is None or codec > _LZ4:
        raise ValueError("a compressed message has no value, or an impossible codec")
    inner = list(_cut(inflate(codec, memoryview(outer.value))))
    # In format 1 offsets count from the first message within, and the outer one is the last one's.
    base = outer.offset - int.from_bytes(inner[-1][:8], "big", signed=True) if raw[_MAGIC] and inner else 0
    for one in inner:
        message, nested = _message(one)
        if nested:
            raise ValueError("a compressed message is compressed once more")
        offset = base + message.offset
        if outer.timestamp_type:
            yield message._replace(offset=offset, timestamp=outer.timestamp, timestamp_type=outer.timestamp_type)
        else:
            yield message._replace(offset=offset)


def _cut(data: memoryview) -> Iterator[memoryview]:
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 8 : at + _LOG_HEAD], "big", signed=True)
        end = at + _LOG_HEAD + length
        if length < LEAST[0] - _LOG_HEAD or end > len(data):
            raise ValueError("a message within is cut off")
        yield data[at:end]
        at = end


def _message(raw: memoryview) -> tuple[Message, int]:
    """Return a message, and the codec of its value."""
    magic, attributes = raw[_MAGIC], raw[_ATTRIBUTES]
    if magic not in LEAST or len(raw) < LEAST[magic]:
        raise ValueError("a message has an unknown format, or is cut off")
    (offset,) = struct.unpack_from(">q", raw)
    (timestamp,) = struct.unpack_from(">q", raw, _TIME) if magic else (-1,)
    key, at = _field(raw, _TIME + 8 * magic)
    value, at = _field(raw, at)
    if at != len(raw):
        raise ValueError("a message is longer than its fields")
    kind = int(bool(magic and attributes & _APPEND_TIME))
    return Message(offset, timestamp, kind, key, value), attributes & _CODEC


def _field(raw: memoryview, at: int) -> tuple[bytes | None, int]:
    size = int.from_bytes(raw[at : at + 4], "big", signed=True)
    begin, end = at + 4, at + 4 + max(size, 0)
    if size < -1 or end > len(raw):
        raise ValueError("a message's field is cut off")
    return (None if size < 0 else bytes(raw[begin:end])), end
