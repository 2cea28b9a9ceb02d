"""A small disk that can be filled and freed: a tmpfs of its own. Mounting one needs root."""

import errno
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_BLOCK = bytes(1 << 16)


class SmallDisk:
    """Mount so many MiB at a folder; a context manager."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self.folder, self._size = folder, mebibytes
        self._ballast = folder / "ballast"

    def __enter__(self) -> Self:
        """Mount it; where that is not allowed a person's machine skips, and CI fails."""
        self.folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._size}m", "tmpfs", str(self.folder)]
        if subprocess.run(command, capture_output=True).returncode:
            say = pytest.fail if os.environ.get("CI") else pytest.skip
            say("a tmpfs cannot be mounted here")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unmount it, whoever still has a file open there."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def fill(self) -> None:
        """Write until nothing more fits."""
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(_BLOCK)
            except OSError as error:
                assert error.errno == errno.ENOSPC, error

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink()
