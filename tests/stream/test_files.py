"""Files and standard streams of the commands."""

import sys
from pathlib import Path

import pytest

from stream.files import sink


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_is_shown_what_it_would_obey(
    terminal: bool, monkeypatch, capsysbinary: pytest.CaptureFixture[bytes]
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    out = sink(Path("-"))
    out.write(b'{"user_id": "caf\xc3\xa9\xc2\x9b2J"}\n\x1b[2J\xff\n')
    out.flush()
    raw = b'{"user_id": "caf\xc3\xa9\xc2\x9b2J"}\n\x1b[2J\xff\n'
    shown = b'{"user_id": "caf\xc3\xa9\\u009b2J"}\n\\u001b[2J\\xff\n'
    assert capsysbinary.readouterr().out == (shown if terminal else raw)
