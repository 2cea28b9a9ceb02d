"""Arrays in pages of their own: they grow where they lie, and leave no holes where everything else is allocated."""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COMING = 1 << 23  # bytes: sessions of a chunk, several times


class GrowableArrays:
    """An array of zeros that grows; what was never touched takes no memory."""

    def __init__(self, dtype: np.dtype[Any], length: int) -> None:
        self._dtype = dtype
        self._pages = _pages(length * dtype.itemsize)
        self.array: NDArray[Any] = self._whole(length)

    def grow(self, length: int) -> None:
        """Make it longer, without a copy unless somebody holds a part of it; such a part stays as it is then."""
        size = length * self._dtype.itemsize
        del self.array
        try:
            self._pages.resize(size)
        except (BufferError, SystemError):  # SystemError: a system whose pages do not move
            pages = _pages(size)
            pages[: len(self._pages)] = self._pages[:]
            self._pages = pages
        self.array = self._whole(length)

    def _whole(self, length: int) -> NDArray[Any]:
        return np.frombuffer(self._pages, self._dtype, length)


def _pages(size: int) -> mmap.mmap:
    # No huge ones: they spare 0.05 us an event, and where memory is in pieces each new one waits until it is moved.
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def keep_blocks() -> None:
    """Let glibc keep what is freed for the next chunk; pages given back and touched anew took a tenth of its time.

    It learns from the largest block that was ever freed how large those are that come and go.
    """
    np.empty(_COMING, np.uint8)
