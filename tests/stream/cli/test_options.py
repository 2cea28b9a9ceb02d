"""What the commands write for people."""

from collections.abc import Callable
from typing import Any

import pytest

from stream.cli.options import counted, known, report, terminal
from stream.core.errors import SettingError
from stream.formats.registry import BadRow, BadRows

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


@pytest.mark.parametrize(
    ("first", "last", "days"),
    [
        (1430622120563, 1442539015000, ["from 2015-05-03 to 2015-09-18"]),
        (
            1430622120,
            1442539015000,
            ["from 1970-01-17 to 2015-09-18", "1 time is before 1990 or after 2100: these look like seconds"],
        ),
        (1430622120, 1442539015, ["from 1970-01-17 to 1970-01-17", "these look like seconds"]),
        (
            1430622120 * 10**6,
            1442539015 * 10**6,
            ["from the year 47304", "these look like microseconds"],
        ),
        (1, 40, ["from 1970-01-01 to 1970-01-01", "these are before 1990 in every unit: write them in milli"]),
        (20191001, 20191104, ["from 1970-01-01 to 1970-01-01", "these look like days or times without signs"]),
        (1430622120563, 20191001000234, ["from 2015-05-03 to 2609-10-", "2 times are before 1990 or after 2100"]),
    ],
)
def test_the_days_of_a_log_are_said_and_what_its_times_look_like(
    first: int, last: int, days: list[str], capsys: pytest.CaptureFixture[str]
):
    bad = BadRows()
    for time in (last, first, (first + last) // 2):
        bad.saw(time, time)
    report(bad, terminal())
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(days)
    assert all(line.startswith(day) for line, day in zip(said, days, strict=True))


def test_what_a_terminal_would_obey_is_shown_in_escapes(capsys: pytest.CaptureFixture[str]):
    bad = BadRows()
    bad.add(BadRow(2, "missing_field", "x", "no user: is it user\x1b[2J\x1b]0;x\x07?"))
    bad.add(BadRow(3, "price\x1b[2J", "x", lost=False))
    report(bad, terminal())
    said = capsys.readouterr().err
    assert "\x1b" not in said and "\x07" not in said and said.count(r"\u001b") == 3


@pytest.mark.parametrize("form", ["xml", "taobao:s", "events:h"])
def test_what_is_no_format_is_refused_with_those_that_are(form: str):
    with pytest.raises(SettingError, match=f"there is no format '{form}'") as caught:
        known(form)
    assert "events, retailrocket take the unit" in caught.value.remedy
    with pytest.raises(SettingError, match="there is no format"):
        known(f"{form}:h", "parquet")
    with pytest.raises(SettingError, match="prepared first"):
        known("parquet")
    assert [known(name, "parquet") for name in ("parquet", "parquet:s", "events:ns")] == [
        "parquet",
        "parquet:s",
        "events:ns",
    ]
