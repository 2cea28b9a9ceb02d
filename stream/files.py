"""Files that commands read and write: `-` is stdin or stdout, `.gz` is compressed."""

import gzip
import sys
from pathlib import Path
from typing import IO, BinaryIO, cast

from stream.core.errors import DataError
from stream.terminal import stdout


def source(path: Path) -> BinaryIO:
    """Open a file to read; raise DataError."""
    if str(path) == "-":
        return sys.stdin.buffer
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check the path") from error


def sink(path: Path) -> IO[bytes]:
    """Open a file to write; raise DataError."""
    if str(path) == "-":
        return stdout()
    try:
        return cast(IO[bytes], gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb"))
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}", "check the path") from error
