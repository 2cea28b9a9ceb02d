"""Lines of text, whatever compression, encoding and line ends a file has."""

import bz2
import codecs
import gzip
import io
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from stream.core.errors import DataError
from stream.formats.plain import raw_lines, text_lines

TEXT = "naïve,1\ncafé,2\n日本,3\n"


def _zip(raw: bytes, *names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, raw)
    return out.getvalue()


def _tar(raw: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("log.csv")
        member.size = len(raw)
        archive.addfile(member, io.BytesIO(raw))
    return out.getvalue()


def _text(raw: bytes) -> str:
    text = "".join(text_lines(io.BytesIO(raw)))
    assert b"\n".join(raw_lines(io.BytesIO(raw))) == text.rstrip("\n").encode(errors="surrogateescape")
    return text


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda raw: lzma.compress(raw, lzma.FORMAT_ALONE),
    "zip": lambda raw: _zip(raw, "2019-Nov.csv"),
    "zip with a Mac's folder": lambda raw: _zip(raw, "a/", "__MACOSX/a/._log.csv", "a/log.csv"),
    "gzip in zip": lambda raw: _zip(gzip.compress(raw), "log.csv.gz"),
    "two gzips": lambda raw: gzip.compress(raw[:9]) + gzip.compress(raw[9:]),
}


@pytest.mark.parametrize("kind", PACKED)
def test_compression_is_known_by_its_bytes(kind: str):
    assert _text(PACKED[kind](TEXT.encode() * 5_000)) == TEXT * 5_000


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_of_unicode_are_known_by_their_bytes(encoding: str, packed: bool):
    text = "time,user,item\n" * 10 + TEXT * 9_000
    raw = text.encode(encoding)
    assert _text(gzip.compress(raw) if packed else raw) == text


def test_utf_16_of_the_other_order_is_known_by_its_mark():
    assert _text(codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be")) == TEXT


def test_text_that_is_no_utf_8_is_cp1252():
    assert _text("name,9 €\ncafé “x”\n".encode("cp1252")) == "name,9 €\ncafé “x”\n"


@pytest.mark.parametrize("raw", [b"caf\xe9\x81\n", b"1,\xff\n", TEXT.encode() + b"caf\xe9\n"])
def test_a_byte_that_is_no_text_stays_one(raw: bytes):
    """Damage in UTF-8, and what cp1252 has no letter for, is not guessed at."""
    assert _text(raw).encode(errors="surrogateescape") == raw


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_line_ends_of_old_macs_are_read(encoding: str):
    assert _text(TEXT.replace("\n", "\r").encode(encoding)) == TEXT


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "text",
    ["a,b\r1,2\r3,4\r\n", "a,b\r1,2\r3,4\r\n\r", 'a,b\r1,"x\ny"\r3,4\r', "a,b\r1,2\r3,4\n", 'a,"b\n"\r1,"x\ny\n\nz"\r'],
)
def test_line_feeds_in_a_file_of_an_old_mac_end_no_more_than_their_lines(encoding: str, text: str):
    found = "".join(text_lines(io.BytesIO(text.encode(encoding))))
    assert found.rstrip("\n") == text.replace("\r", "\n").rstrip("\n")


@pytest.mark.parametrize("text", ["a,b\r\r\n1,2\r\r\n", 'a,b\n1,"x\ry"\n2,3\n', "a,b\r\n1,2\n"])
def test_returns_in_other_files_end_no_lines(text: str):
    assert "".join(text_lines(io.BytesIO(text.encode()))) == text


def test_a_broken_letter_of_utf_16_harms_its_line_alone():
    raw = "a\n".encode("utf-16") + b"\x3d\xd8" + "b\nc\n".encode("utf-16-le")
    lines = list(text_lines(io.BytesIO(raw)))
    assert (lines[0], lines[2]) == ("a\n", "c\n")
    assert not lines[1].isprintable()


OTHER = {
    "a Parquet file": b"PAR1\x15\x04" + bytes(50),
    "a Parquet file in gzip": gzip.compress(b"PAR1\x15\x04" + bytes(50)),
    "a Parquet file in a ZIP archive": _zip(b"PAR1\x15\x04" + bytes(50), "a.parquet"),
    "a ZIP archive in a ZIP archive": _zip(_zip(b"x", "a.csv"), "a.zip"),
    "a ZIP archive in gzip": gzip.compress(_zip(b"x", "a.csv")),
    "an ORC file": b"ORC\x0a" + bytes(50),
    "an OpenDocument workbook": _zip(b"x", "mimetype", "content.xml"),
    "an old Excel workbook": b"\xd0\xcf\x11\xe0" + bytes(50),
    "an Excel workbook": _zip(b"x", "[Content_Types].xml", "xl/sheet1.xml"),
    "a Zstandard file": b"\x28\xb5\x2f\xfd\x04",
    "a 7z archive": b"7z\xbc\xaf\x27\x1c\0",
    "a tar archive": _tar(TEXT.encode()),
    "tar archive": gzip.compress(_tar(TEXT.encode())),
    "a Python pickle": b"\x80\x04\x95",
    "a ZIP archive of 2 files: 'a.csv', 'b.csv'": _zip(b"x", "a.csv", "b.csv"),
    "a ZIP archive of 0 files": _zip(b"x"),
    "no text: it begins with the bytes 01 00 00 02": b"\x01\0\0\x02" * 9,
    "a table whose cells the byte 1 separates": b"user\x01item\x01time\n1\x012\x013\n" * 9,
    "no text: it begins with the bytes cd": random.Random(0).randbytes(5_000),
}


@pytest.mark.parametrize("what", OTHER)
def test_what_is_no_log_is_called_by_its_name(what: str):
    for read in (text_lines, raw_lines):
        with pytest.raises(DataError, match=f"this is {what}" if what[0] in "an" else what) as caught:
            list(read(io.BytesIO(OTHER[what])))
        assert caught.value.remedy


def test_a_zip_in_a_pipe_is_told():
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with pytest.raises(DataError, match="ZIP archive, which no pipe can carry"):
        list(text_lines(Pipe(PACKED["zip"](b"1 2 3\n"))))


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zip"])
@pytest.mark.parametrize("left", [0.5, 0.999])
def test_a_truncated_file_is_an_error(kind: str, left: float):
    whole = PACKED[kind]("".join(f"{n} {n * n}\n" for n in range(50_000)).encode())
    with pytest.raises(DataError, match="cannot be read to its end"):
        list(raw_lines(io.BytesIO(whole[: int(left * len(whole))])))


def test_a_zip_that_python_cannot_open_is_told():
    """Set the flag of a password, then the number of a method that Windows writes for large files."""
    whole = PACKED["zip"](b"1 2 3\n")
    at = whole.index(b"PK\x01\x02")
    for place, byte in ((8, 1), (10, 9)):
        raw = bytearray(whole)
        raw[at + place] = byte
        with pytest.raises(DataError, match="this is a ZIP archive: ") as caught:
            list(text_lines(io.BytesIO(bytes(raw))))
        assert "unzip it" in caught.value.remedy
