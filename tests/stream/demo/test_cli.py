"""What the demo says, with a terminal and without."""

import io

import pytest
from rich.console import Console

from stream.demo.cli import View, said

EVIL = "\x1b]0;owned\x07\x9b2J"


def _score(user: str, item: str) -> dict[str, object]:
    items = [{"item_id": f"{item}-{n}"} for n in range(5)]
    return {"user_id": user, "intent": {"1h": 0.0312, "24h": 0.5}, "recommendations": items, "session": {"length": 2}}


def test_a_score_is_told_in_words():
    assert said(_score("u-1", "i")) == "u-1 buys within 1h: 3.1%; may look at next: i-0, i-1, i-2"


@pytest.mark.parametrize("terminal", [False, True])
def test_no_id_gives_the_terminal_an_order(terminal: bool):
    score = _score(f"u{EVIL}", f":warning:{EVIL}")
    out = io.StringIO()
    if terminal:
        view = View()
        view.add(score)
        Console(file=out, markup=False, emoji=False, width=200).print(view.render())
    else:
        out.write(said(score))
    shown = out.getvalue()
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "u\\u001b]0;owned\\u0007\\u009b2J" in shown
    assert ":warning:" in shown
