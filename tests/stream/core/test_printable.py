"""Text of others on a terminal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.errors import DataError
from stream.core.printable import printable, printable_lines

EVIL = ["\x1b]0;title\x07", "\x1b[2J", "\x9b2J", "\r", "\b", "\u202e", "\u200b", "\ud83d", "\u2028", "\t", "\n"]


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_terminal_would_obey_is_written_in_escapes(evil: str):
    assert printable(f"café{evil}").isprintable()
    assert json.loads(f'"{printable(evil)}"') == evil


@given(st.text())
def test_what_can_be_shown_stays_and_the_rest_can_be_read(text: str):
    assert printable(text).isprintable()
    assert not text.isprintable() or printable(text) == text
    if "\\" not in text and '"' not in text:
        assert json.loads(f'"{printable(text)}"') == text


def test_lines_stay_lines():
    assert printable_lines("a\x1b\nb") == "a\\u001b\nb"


def test_no_message_reaches_the_terminal_as_it_came():
    assert str(DataError("no \x1b[2J here", "look\rthere")) == "no \\u001b[2J here\n  look\\u000dthere"
