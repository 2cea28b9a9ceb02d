"""What people see of an explanation, and what programs get."""

import json
import re
import sys

import msgspec
import pytest

from stream.cli.display import show
from stream.core.events import Recommendation
from stream.explain.schema import Explanation, Share

ONE = Explanation(
    user_id="[red]u",
    event_id="e2",
    event_time=7000,
    model="m",
    method="leave one out",
    intent={"1h": 0.5, "24h": 0.75},
    explained={"1h": 0.4, "24h": 0.7},
    events=[
        Share(event_time=7000, type="view", contribution={"1h": 0.25, "24h": -0.125}, item_id="a", next_item=0.5),
        Share(event_time=2000, type="addtocart", contribution={}, next_item=0.25, at_least=True),
    ],
    fields={"item": {"1h": 0.0625, "24h": 0.0}},
    recommendation=Recommendation("b", 0.6),
)


@pytest.mark.parametrize("terminal", [False, True])
def test_programs_get_lines_of_json(terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    show([ONE, ONE], as_json=terminal)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    found = json.loads(lines[0])
    assert found["intent"] == {"1h": 0.5, "24h": 0.75}
    assert found["events"][1] == {
        "event_time": 2000, "type": "addtocart", "contribution": {}, "next_item": 0.25, "at_least": True
    }  # fmt: skip


def test_people_get_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show([ONE], as_json=False)
    shown = capsys.readouterr().out
    assert "[red]u after e2, by leave one out" in shown
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()]
    assert ["not explained", "+0.1000", "+0.0500"] in lines
    assert ["", "0", "view", "a", "+0.2500", "-0.1250", "+0.5000"] in lines
    assert ["", "5", "addtocart", "unknown", "", "", "≥ +0.2500"] in lines
    assert ["item", "+0.0625", "+0.0000"] in lines


EVIL = "\x1b]0;owned\x07\x9b2J\x1b[2J"


@pytest.mark.parametrize("as_json", [False, True])
def test_no_id_gives_the_terminal_an_order(as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    share = msgspec.structs.replace(ONE.events[0], event_id=f"e{EVIL}", item_id=f"i{EVIL}", type=f"t{EVIL}")
    one = msgspec.structs.replace(
        ONE, user_id=f"u{EVIL}", event_id=f"e{EVIL}", events=[share], recommendation=Recommendation(f"r{EVIL}", 0.5)
    )
    show([one, msgspec.structs.replace(one, event_id="")], as_json)
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)  # colours are our own
    assert all(line.isprintable() for line in shown.split("\n"))
    assert shown.count("[2J") >= 10
    if as_json:
        assert json.loads(shown.splitlines()[0])["user_id"] == f"u{EVIL}"
