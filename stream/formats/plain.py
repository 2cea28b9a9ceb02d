"""A log's bytes as lines of text: without compression, byte order marks and foreign line ends, in whatever encoding.

Text that is no UTF-8 is read as Windows' cp1252, unless the log has shown to be UTF-8 before: then a byte that is
none is damage, and its row is bad. So is one with a byte that cp1252 has no letter for, or 0xFF, the filler of what
is no text.
"""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, cast

from stream.core.errors import DataError
from stream.formats.packed import readable, unpacked

LONGEST = 1_048_576  # bytes of a line, as of a record: what follows up to its end is skipped
SHOWN = 80  # characters of a bad row
LONG = "\ud800"  # before what is kept of a line that is too long: no bytes become it
_BLOCK = 1 << 16
_NO_CONTROL = bytes({*range(256)} - {*range(9), *range(14, 27), *range(28, 32), 127})
_RETURNED = re.compile(rb'(?:[^\r\n"]|"[^"]*")*\r(?!\r*\n)')  # a first line with a lone return behind it
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


Foreign = Callable[[int, str], None]


def text_lines(file: BinaryIO, foreign: Foreign = lambda *_: None) -> Iterator[str]:
    """Yield lines as text, with their ends; a byte that is no text becomes a lone surrogate, which no text has.

    Of a line that is longer than `LONGEST` the beginning is yielded, after `LONG`. `foreign` hears the number and text
    of each line that was read as cp1252. Raises DataError.
    """
    for text, cut in _texts(file, foreign):
        yield LONG + text[:SHOWN].partition("\r")[0] if cut else text


def raw_lines(file: BinaryIO, foreign: Foreign = lambda *_: None) -> Iterator[bytes]:
    """Yield lines as bytes of UTF-8 without their ends, `LONGEST` at most; raise DataError where they break off."""
    with readable():
        for text, _ in _texts(file, foreign):
            yield text.rstrip("\r\n").encode(errors="surrogateescape")


def _texts(file: BinaryIO, foreign: Foreign) -> Iterator[tuple[str, bool]]:
    """Yield lines as text, and whether one was too long and is cut."""
    plain, utf8 = _decoded(unpacked(file))
    mark = codecs.BOM_UTF8
    for number, (line, cut) in enumerate(_lines(plain), 1):
        raw, mark = line.removeprefix(mark), b""
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode(errors="surrogateescape")
            if not (utf8 or cut) and (guessed := _cp1252(raw)):
                foreign(number, text := guessed)
        else:
            utf8 = utf8 or not text.isascii()
        yield text, cut


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    while line := file.readline(LONGEST + 1):
        cut = rest = len(line) > LONGEST and line[-1:] != b"\n"
        while rest:
            tail = file.readline(LONGEST)
            rest = bool(tail) and tail[-1:] != b"\n"
        yield (line[:LONGEST] if cut else line), cut


def _cp1252(raw: bytes) -> str:
    """Return text of cp1252, nothing where it is none."""
    with suppress(UnicodeDecodeError):
        return "" if b"\xff" in raw else raw.decode("cp1252")
    return ""


def _decoded(file: BinaryIO) -> tuple[BinaryIO, bool]:
    """Return text of one byte a letter or UTF-8, with line feeds, and whether it is known to be UTF-8."""
    plain = cast(io.BufferedReader, file)
    head = plain.peek(_BLOCK)
    if encoding := _wide(head):
        decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        plain = _through(plain, lambda raw, final: decoder.decode(raw, final).encode(errors="surrogatepass"))
        head = plain.peek(_BLOCK)
    elif len(head.translate(None, _NO_CONTROL)) > len(head) / 20:
        raise _no_text(head)
    if _is_of_a_mac(head):
        plain = _through(plain, lambda raw, _: raw.replace(b"\r", b"\n"))
    return plain, bool(encoding)


def _no_text(head: bytes) -> DataError:
    if head.count(b"\x01") > len(head) / 40 and len(head.translate(None, _NO_CONTROL + b"\x01")) <= len(head) / 20:
        remedy = "write tabs in their place: tr '\\001' '\\t' < PATH"
        return DataError("this is a table whose cells the byte 1 separates, as Hive writes it", remedy)
    remedy = "check the path; text of another encoding is made UTF-8 by iconv -f ENCODING -t UTF-8 PATH"
    return DataError(f"this is no text: it begins with the bytes {head[:8].hex(' ')}", remedy)


def _is_of_a_mac(head: bytes) -> bool:
    """Tell whether carriage returns end lines, by the first one's end or by their number: line feeds are in cells."""
    inner = head.rstrip(b"\r\n")
    alone = inner.count(b"\r") - inner.count(b"\r\n")
    return alone > inner.count(b"\n") or bool(alone and _RETURNED.match(inner))


def _wide(head: bytes) -> str | None:
    """Return the encoding of text with two or four bytes a letter, by its mark or, without one, by its zeros."""
    if marked := next((name for mark, name in _MARKS if head.startswith(mark)), None):
        return marked
    if len(head) >= 4 and (wide := _of_four(head)):
        return wide
    first, second = head[0::2].count(0), head[1::2].count(0)
    if max(first, second) > len(head) / 4 and not min(first, second):
        return "utf-16-le" if second else "utf-16-be"
    return None


def _of_four(head: bytes) -> str | None:
    """Return the encoding of text with four bytes a letter, by the two of them that are nearly always zero."""
    zeros = [head[n::4].count(0) / len(head[n::4]) for n in range(4)]
    if min(zeros[2:]) > 0.9 and zeros[0] < 0.1:
        return "utf-32-le"
    return "utf-32-be" if min(zeros[:2]) > 0.9 and zeros[3] < 0.1 else None


class _Converted(io.RawIOBase):
    """A stream converted block by block."""

    def __init__(self, file: io.BufferedReader, convert: Callable[[bytes, bool], bytes]) -> None:
        super().__init__()
        self._file, self._convert, self._rest, self._ended = file, convert, b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest and not self._ended:
            block = self._file.read1(_BLOCK)
            self._ended = not block
            self._rest = self._convert(block, self._ended)
        n = min(len(buffer), len(self._rest))
        buffer[:n], self._rest = self._rest[:n], self._rest[n:]
        return n


def _through(file: io.BufferedReader, convert: Callable[[bytes, bool], bytes]) -> io.BufferedReader:
    return io.BufferedReader(_Converted(file, convert), _BLOCK)
