"""Inflated within a bound, whoever compressed it."""

import gzip
import struct
import subprocess
import sys

import cramjam
import pytest
from aiokafka import codec as theirs

from stream.core.errors import SettingError
from stream.kafka.fetch import inflate as module
from stream.kafka.fetch.inflate import Broken, Inflated, inflate

DATA = b"".join(b'{"event_id":"e%d","type":"view"}' % (n * 7919 % 10007) for n in range(3000))
LZ4 = cramjam.lz4.Compressor(content_checksum=True, block_linked=True)
LZ4.compress(DATA)
WAYS = {
    "gzip": (1, theirs.gzip_encode(DATA)),
    "gzip, two members": (1, gzip.compress(DATA[:999]) + gzip.compress(DATA[999:])),
    "snappy, Java's frame": (2, theirs.snappy_encode(DATA)),
    "snappy, one block": (2, bytes(cramjam.snappy.compress_raw(DATA))),
    "lz4": (3, theirs.lz4_encode(DATA)),
    "lz4, with checksums and linked blocks": (3, bytes(LZ4.finish())),
    "lz4, two frames": (3, theirs.lz4_encode(DATA[:999]) + theirs.lz4_encode(DATA[999:])),
    "zstd": (4, theirs.zstd_encode(DATA)),
    "zstd, without its size": (4, b""),
    "zstd, two frames": (4, theirs.zstd_encode(DATA[:999]) + theirs.zstd_encode(DATA[999:])),
}
_stream = cramjam.zstd.Compressor()
_stream.compress(DATA)
WAYS["zstd, without its size"] = (4, bytes(_stream.finish()))


@pytest.mark.parametrize("way", WAYS)
def test_it_comes_back_behind_the_head(way: str):
    codec, data = WAYS[way]
    assert inflate(codec, memoryview(data), len(DATA), b"head") == b"head" + DATA
    with pytest.raises(Inflated):
        inflate(codec, memoryview(data), len(DATA) - 1)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_cut_off_is_broken(way: str):
    codec, data = WAYS[way]
    for end in (1, len(data) // 2, len(data) - 1):
        with pytest.raises(Broken):
            inflate(codec, memoryview(data)[:end], 1 << 26)


@pytest.mark.parametrize("data", [b"", b"\x82SNAPPY\0" + struct.pack(">iii", 1, 1, -5) + b"x" * 40, b"\xff" * 99])
@pytest.mark.parametrize("codec", range(8))
def test_what_is_no_such_thing_is_broken(codec: int, data: bytes):
    if codec == 2 and data[:1] == b"\xff":
        data = b"\x80" * 10
    if (codec, data[1:7]) != (2, b"SNAPPY") or len(data) > 20:
        with pytest.raises(Broken):
            inflate(codec, memoryview(data), 1 << 26)


def test_a_length_beyond_the_bound_reserves_nothing():
    snappy = b"\xff\xff\xff\xff\x0f" + b"x"  # says that it inflates to 4 GiB
    with pytest.raises(Inflated):
        inflate(2, memoryview(snappy), 1 << 26)
    huge = gzip.compress(bytes(400_000_000), 1)
    with pytest.raises(Inflated):
        inflate(1, memoryview(huge), 1 << 26)


def test_a_long_ratio_is_read_at_the_second_try():
    assert inflate(4, memoryview(theirs.zstd_encode(bytes(30_000_000))), 1 << 25) == bytes(30_000_000)


def test_a_missing_library_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    module.require()
    code = "import sys; sys.modules['cramjam'] = None\nfrom stream.kafka.fetch.inflate import require\nrequire()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "SettingError" in ended.stderr
    monkeypatch.setattr(module, "_why", "No module named 'cramjam'")
    with pytest.raises(SettingError, match="cramjam is not installed"):
        module.require()
