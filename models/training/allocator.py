"""What the libraries below hold back of memory, kept small."""

import ctypes
import os
import sys
from collections.abc import Callable

_ARENA_MAX = -8  # of malloc.h


def spare() -> None:
    """Keep what the libraries below hold back small; it is half of all memory else.

    oneDNN keeps compiled products by shape, and batches have a thousand shapes. Gradients are made on a thread of
    its own, whose freed blocks would serve nobody else: all threads share one arena, where the C library is glibc.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
    if option := _glibc("mallopt"):
        option(_ARENA_MAX, 1)


def trim() -> None:
    """Give freed memory back to the system."""
    if call := _glibc("malloc_trim"):
        call(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """Return a function of the C library, where it has it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
