"""A log without its compression, or said what it is instead of a log: both are told by the first bytes."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from stream.core.errors import DataError

_HEAD = 512  # bytes that are looked at: a tar archive has its mark in the first block
_LAYERS = 3  # of compression, one in another
_PARQUET = "prepare it: forecart prepare --format parquet --data PATH"
_TABLE = "write it as CSV or Parquet, and give that"
_UNPACK = "unpack it, and give the log that is in it"
_UNPACK_THEN = "unpack it first, and give the file that is in it"
_OTHER: tuple[tuple[bytes, int, str, str], ...] = (  # how it begins, from which byte on, what it is, what to do
    (b"PAR1\x15", 0, "a Parquet file", _PARQUET),
    (b"Obj\x01", 0, "an Avro file", _TABLE),
    (b"ORC", 0, "an ORC file", _TABLE),
    (b"ARROW1\0\0", 0, "an Arrow (Feather) file", _TABLE),
    (b"\x89HDF", 0, "an HDF5 file", _TABLE),
    (b"SQLite format 3\0", 0, "an SQLite database", _TABLE),
    (b"\xd0\xcf\x11\xe0", 0, "an old Excel workbook", "save it as CSV, and give that"),
    (b"\x80\x03", 0, "a Python pickle", _TABLE),
    (b"\x80\x04", 0, "a Python pickle", _TABLE),
    (b"\x80\x05", 0, "a Python pickle", _TABLE),
    (b"%PDF", 0, "a PDF document", _TABLE),
    (b"<!DOCTYPE", 0, "a web page", "download the log itself"),
    (b"<html", 0, "a web page", "download the log itself"),
    (b"ustar", 257, "a tar archive", "unpack it: tar -xf PATH, and give the log that is in it"),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", 0, "a RAR archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", 0, "a Zstandard file", "unpack it: zstd -d PATH"),
    (b"\x04\x22\x4d\x18", 0, "an LZ4 file", "unpack it: lz4 -d PATH"),
    (b"\xff\x06\x00\x00sNaPpY", 0, "a Snappy file", _UNPACK),
    (b"\x1f\x9d", 0, "a compress (.Z) file", "unpack it: uncompress PATH"),
)


@contextmanager
def readable() -> Iterator[None]:
    """Turn what a damaged file raises into a DataError."""
    try:
        yield
    except EOFError as error:
        raise DataError(
            f"the log cannot be read to its end: {error}", "it was cut off or damaged: copy it again, whole"
        ) from error
    except (OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataError(f"the log cannot be read to its end: {error}", "check that it is whole") from error


def unpacked(file: BinaryIO) -> BinaryIO:
    """Return a file without compression; raise DataError where that cannot be, or for what is plainly no log."""
    found, around = _buffered(file), ""
    for _ in range(_LAYERS):
        head = found.peek(_HEAD)[:_HEAD]
        if not (kind := packing(head)):
            break
        if around and kind == "ZIP":
            raise DataError(f"this is a ZIP archive in {around}", _UNPACK)
        found, around = _buffered(_PACKED[kind](found)), _CALLED.get(kind, kind)
    for mark, place, what, remedy in _OTHER:
        if _has(head, mark, place):
            raise DataError(
                f"this is {what}{around and f' in {around}'}, not a log",
                _UNPACK_THEN if around and remedy == _PARQUET else remedy,
            )
    return found


def packing(head: bytes) -> str:
    """Name the compression of a file that begins so, nothing where there is none."""
    return next((kind for mark, place, kind in _MARKS if _has(head, mark, place)), "")


def _has(head: bytes, mark: bytes, place: int) -> bool:
    return head.startswith(mark, place)


def _buffered(file: BinaryIO) -> io.BufferedReader:
    return file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, file), 1 << 16)


class _Whole(io.RawIOBase):
    """A decompressor whose early end names its kind."""

    def __init__(self, kind: str, file: io.BufferedIOBase) -> None:
        super().__init__()
        self._kind, self._file = kind, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            return self._file.readinto1(buffer)
        except EOFError as error:
            raise EOFError(f"its {self._kind} stream has none") from error


def _of(kind: str, open_: Callable[[BinaryIO], object]) -> Callable[[BinaryIO], BinaryIO]:
    return lambda file: cast(BinaryIO, _Whole(kind, cast(io.BufferedIOBase, open_(file))))


def _zipped(file: BinaryIO) -> io.BufferedIOBase:
    """Open the one file of a ZIP archive."""
    if not file.seekable():
        raise DataError(
            "this is a ZIP archive, which no pipe can carry", "give its path, or: unzip -p PATH | forecart …"
        )
    archive = zipfile.ZipFile(file)
    names = [each for each in archive.namelist() if not each.endswith("/") and not each.startswith("__MACOSX/")]
    if "[Content_Types].xml" in names:
        raise DataError("this is an Excel workbook, not a log", "save it as CSV, and give that")
    if "mimetype" in names and "content.xml" in names:
        raise DataError("this is an OpenDocument workbook, not a log", "save it as CSV, and give that")
    if len(names) != 1:
        held = ", ".join(map(repr, names[:5])) + (" …" if len(names) > 5 else "")
        raise DataError(f"this is a ZIP archive of {len(names)} files: {held}", "unzip it, and give one of them")
    try:
        return cast(io.BufferedIOBase, archive.open(names[0]))
    except (RuntimeError, NotImplementedError) as error:  # a password; a method that is not known
        raise DataError(f"this is a ZIP archive: {error}", "unzip it, and give the log that is in it") from error


_MARKS = (
    (b"\x1f\x8b", 0, "gzip"),
    (b"1AY&SY", 4, "bzip2"),
    (b"\xfd7zXZ\0", 0, "xz"),
    (b"\x5d\0\0", 0, "lzma"),
    (b"PK\x03\x04", 0, "ZIP"),
    (b"PK\x05\x06", 0, "ZIP"),  # an empty one
)
_CALLED = {"ZIP": "a ZIP archive"}
_PACKED: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "gzip": _of("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    "bzip2": _of("bzip2", bz2.BZ2File),
    "xz": _of("xz", lzma.LZMAFile),
    "lzma": _of("lzma", lzma.LZMAFile),
    "ZIP": _of("ZIP", _zipped),
}
