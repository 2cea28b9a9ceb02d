"""Ctrl-C: the first is held back and told, the second interrupts, and afterwards all is as before."""

import os
import signal

import pytest

from models.training.interrupts import held_back


def test_the_first_is_told_and_the_second_interrupts():
    former = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), held_back() as stopped:
        assert not stopped()
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped()
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is former


def test_where_it_is_not_wanted_nothing_is_held_back():
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    try:
        with pytest.raises(KeyboardInterrupt), held_back(False):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, former)
