"""Ctrl-C at a place where nothing is half done."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def held_back(wanted: bool = True) -> Iterator[Callable[[], bool]]:
    """Hold Ctrl-C back, and yield what tells whether it came; a second one interrupts at once, as without this."""
    came = False

    def note(_number: int, _frame: Any) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if not wanted or threading.current_thread() is not threading.main_thread():  # others cannot set handlers
        yield lambda: False
        return
    former = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, former)
