"""Messages of formats 0 and 1, compressed or not, and broken ones."""

import gzip
import struct
import zlib

import pytest

from tests.kafka.built import Fetching, flipped, message

VALUES = [b"%d" % n for n in range(5)]


@pytest.mark.parametrize(("magic", "codec"), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)])
@pytest.mark.parametrize("position", [7, 9])
def test_all_are_read_from_the_position_on(magic: int, codec: int, position: int):
    found = Fetching().one(message(7, VALUES, magic, codec), position)
    assert [(r.offset, r.value, r.key) for r in found] == [
        (7 + n, b"%d" % n, b"k%d" % n) for n in range(position - 7, 5)
    ]
    assert [r.timestamp for r in found] == [1000 + r.offset - 7 if magic else -1 for r in found]


def _wrapped(inner: bytes, attributes: int = 1, offset: int = 4) -> bytes:
    value = gzip.compress(inner)
    body = struct.pack(">bbqii", 1, attributes, 99, -1, len(value)) + value
    return struct.pack(">qiI", offset, len(body) + 4, zlib.crc32(body)) + body


def test_where_the_broker_stamps_the_time_is_that_of_the_outer_message():
    found = Fetching().one(_wrapped(message(0, VALUES, 1), 1 | 8))
    assert [(r.offset, r.timestamp, r.timestamp_type) for r in found] == [(n, 99, 1) for n in range(5)]


@pytest.mark.parametrize(
    "inner",
    [
        message(0, VALUES, 1)[:-3],
        struct.pack(">qi", 0, -12) + bytes(30),  # aiokafka's compiled reader never returns from this one
        struct.pack(">qi", 0, -(2**31)) + bytes(30),
        struct.pack(">qi", 0, 2**31 - 1) + bytes(30),
        _wrapped(message(0, VALUES, 1)),  # twice compressed
        b"\0" * 5,
    ],
)
def test_a_broken_one_is_told_for_its_offset(inner: bytes):
    (found,) = Fetching().one(_wrapped(inner, offset=0))
    assert (found.offset, found.fault.reason, found.fault.facts["cause"]) == (0, "unreadable", "structure")


@pytest.mark.parametrize("magic", [0, 1])
def test_a_wrong_checksum_is_told_and_what_follows_is_read(magic: int):
    good = [message(n, [b"v"], magic) for n in range(3)]
    raws = [good[0], flipped(good[1], 20), good[2]]
    found = Fetching(high=3).log(raws, [0, 1, 2, 3])
    assert [(r.offset, r.fault.facts["cause"] if r.fault else "") for r in found] == [(0, ""), (1, "crc"), (2, "")]
