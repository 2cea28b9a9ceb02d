"""What the commands write for people."""

from collections.abc import Callable
from typing import Any

import pytest

from stream.core.formats import BadRow, BadRows
from stream.options import counted, report, terminal

ROW = "1,[/foo],[red]view[/],3"


def _report(console: Any) -> None:
    bad = BadRows()
    bad.add(BadRow(2, "wrong_type", ROW))
    report(bad, console)


@pytest.mark.parametrize("write", [_report, lambda console: console.print(f"wrong: {ROW}")])
def test_what_stands_in_a_row_is_no_markup(write: Callable[[Any], None], capsys: pytest.CaptureFixture[str]):
    write(terminal())
    assert ROW in capsys.readouterr().err


@pytest.mark.parametrize("every", [0.0, 60.0])
def test_what_grows_is_said_now_and_then_where_there_is_no_terminal(every: float, capsys: pytest.CaptureFixture[str]):
    with counted("events published", terminal(), every) as say:
        for n in (1_000, 2_000):
            say(n)
    assert capsys.readouterr().err.splitlines() == (
        [] if every else ["1,000 events published", "2,000 events published"]
    )
