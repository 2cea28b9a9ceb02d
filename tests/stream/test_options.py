"""What the commands write for people."""

from collections.abc import Callable
from typing import Any

import pytest

from stream.core.formats import BadRow, BadRows
from stream.options import report, terminal

ROW = "1,[/foo],[red]view[/],3"


def _report(console: Any) -> None:
    bad = BadRows()
    bad.add(BadRow(2, "wrong_type", ROW))
    report(bad, console)


@pytest.mark.parametrize("write", [_report, lambda console: console.print(f"wrong: {ROW}")])
def test_what_stands_in_a_row_is_no_markup(write: Callable[[Any], None], capsys: pytest.CaptureFixture[str]):
    write(terminal())
    assert ROW in capsys.readouterr().err
