"""Stdout, which a terminal shows to people."""

import io
import sys
from typing import IO, Any, BinaryIO, cast

from stream.core.printable import printable_lines


class _Shown(io.RawIOBase):
    """A terminal that shows what it would obey: JSON stays JSON."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__()
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, raw: Any) -> int:
        self._out.write(printable_lines(bytes(raw).decode(errors="backslashreplace")).encode())
        return len(raw)

    def flush(self) -> None:
        self._out.flush()


def stdout() -> IO[bytes]:
    """Return stdout; on a terminal, what that would obey is written in escapes."""
    out = sys.stdout.buffer
    return cast(IO[bytes], _Shown(out)) if sys.stdout.isatty() else out
