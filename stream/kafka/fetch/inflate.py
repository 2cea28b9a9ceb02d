"""Compressed batches, inflated up to a bound; the only home of cramjam.

A batch of 1 MiB may hold gigabytes. All that is inflated goes into a buffer of a fixed size: what does not fit is told
as `Inflated`. Lengths that a batch states are hints, and never believed beyond the bound.
"""

import struct
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from stream.core.errors import SettingError

_why = ""
try:
    import cramjam
except ImportError as error:  # told by `require`, and not by a traceback of whatever imports this
    _why = str(error)

SNAPPY = 2
_STREAMS = {1: "gzip", 3: "lz4", 4: "zstd"}
_FULL = "failed to write whole buffer"  # what cramjam says where the output is longer than its buffer
SLACK = 64  # bytes behind a batch: aiokafka's compiled reader looks up to 20 bytes beyond the end of a broken one
_RATIO, _LEAST = 32, 65_536  # the first buffer: no page of it costs anything before it is written to
_XERIAL = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)  # Java's frame around blocks of snappy; librdkafka has none


class Inflated(Exception):
    """A batch inflates beyond its bound."""


class Broken(Exception):
    """Compressed data cannot be read."""


def require() -> None:
    """Raise SettingError where lz4, snappy and zstd cannot be read."""
    if _why:
        raise SettingError(
            f"compressed topics cannot be read: cramjam is not installed ({_why})",
            "pip install --constraint constraints.txt . installs it, where Forecart's source is",
        )


def inflate(codec: int, data: memoryview, limit: int, head: bytes | bytearray = b"") -> memoryview:
    """Return `head` and the inflated data behind it, of up to `limit` bytes; raise Inflated, Broken.

    `codec` is Kafka's: 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    """
    try:
        if codec == SNAPPY:
            return _snappy(data, limit, head)
        if codec in _STREAMS:
            return _stream(_module(_STREAMS[codec]).decompress_into, data, limit, head)
    except _errors() as error:
        raise Broken(str(error)) from error
    raise Broken(f"there is no codec {codec}")


def _stream(into: Callable[[Any, Any], int], data: memoryview, limit: int, head: bytes | bytearray) -> memoryview:
    for size in (min(limit, max(len(data) * _RATIO, _LEAST)), limit):
        room = _room(head, size)
        try:
            return room[: len(head) + into(data, room[len(head) :])]
        except _errors() as error:
            if str(error) != _FULL:
                raise
    raise Inflated


def _snappy(data: memoryview, limit: int, head: bytes | bytearray) -> memoryview:
    blocks = _blocks(data[len(_XERIAL) :]) if data[: len(_XERIAL)] == _XERIAL else [data]
    snappy = _module("snappy")
    sizes = [snappy.decompress_raw_len(block) for block in blocks]
    if sum(sizes) > limit:
        raise Inflated
    room, at = _room(head, sum(sizes)), len(head)
    for block, size in zip(blocks, sizes, strict=True):
        at += snappy.decompress_raw_into(block, room[at : at + size])
    return room[:at]


def _blocks(data: memoryview) -> list[memoryview]:
    found, at = [], 0
    while at < len(data):
        begin = at + 4
        at = begin + int.from_bytes(data[at:begin], "big")
        if at > len(data) or at == begin:
            raise Broken("a block of snappy is cut off")
        found.append(data[begin:at])
    return found


def _room(head: bytes | bytearray, size: int) -> memoryview:
    room = np.empty(len(head) + size + SLACK, np.uint8).data
    room[: len(head)] = head
    return room[:-SLACK]


def _module(name: str) -> ModuleType:
    found: ModuleType = getattr(cramjam, name)
    return found


def _errors() -> type[Exception]:
    kind: type[Exception] = cramjam.DecompressionError
    return kind
