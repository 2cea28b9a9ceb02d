"""Logs: every row becomes events or a reason; nothing is dropped in silence."""

import gzip
import io
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.core.errors import DataError
from stream.core.events import Event
from stream.core.formats import FORMATS, LONGEST, BadRow, BadRows, raw_lines, read
from tests.fakes import NOON

ROCKET = "timestamp,visitorid,event,itemid,transactionid\n"
TAOBAO = "user_id,item_id,category_id,behavior,timestamp\n"
REES46 = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
REES46_ROW = "2019-10-01 00:00:00 UTC,view,1,2,"


def _read(text: str | bytes, form: str) -> list[Event | BadRow]:
    raw = text.encode() if isinstance(text, str) else text
    return list(read(io.BytesIO(raw), form))


def _bad(rows: list[Event | BadRow]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, BadRow)]


def test_retailrocket():
    rows = _read(ROCKET + "1430622120563,683727,view,422926,\n1430622120564,1,transaction,2,77\n", "retailrocket")
    assert rows[0] == Event("retailrocket-2", "683727", "view", "422926", 1430622120563)
    assert rows[1].type == "transaction"


@pytest.mark.parametrize("header", [TAOBAO, ""])
def test_taobao_with_or_without_header(header: str):
    rows = _read(header + "1,2268318,2520377,pv,1511544070\n1,5,6,buy,1511544071\n", "taobao")
    assert rows[0].category_id == "2520377"
    assert rows[0].timestamp == 1511544070000
    assert [row.type for row in rows] == ["view", "transaction"]


def test_taobao_rows_outside_its_nine_days_are_counted():
    assert _bad(_read(TAOBAO + "1,2,3,pv,1511544070\n1,2,3,pv,1505117799\n", "taobao")) == [(3, "out_of_period")]


def test_rees46():
    row = "2019-10-01 00:00:00 UTC,purchase,44600062,2103,appliances.iron,shiseido,35.79,541312140,72d76fde\n"
    (event,) = _read(REES46 + row, "rees46")
    assert event == Event(
        "rees46-2", "541312140", "transaction", "44600062", 1569888000000, "2103", 35.79, None, "72d76fde"
    )


def test_sessions_take_their_line_as_time():
    rows = _read("1 2 1\n3 4\n", "sessions")
    assert [(r.user_id, r.item_id, r.timestamp) for r in rows] == [
        *[("session-1", item, 1) for item in "121"],
        *[("session-2", item, 2) for item in "34"],
    ]
    assert len({r.event_id for r in rows}) == 5


@pytest.mark.parametrize(
    ("form", "good", "bad", "reason"),
    [
        ("retailrocket", ROCKET + "1,2,view,3,\n", "1,2,view\n", "missing_field"),
        ("retailrocket", ROCKET + "1,2,view,3,\n", "1,2,view,3,4,5\n", "extra_field"),
        ("retailrocket", ROCKET + "1,2,view,3,\n", "x,2,view,3,\n", "wrong_type"),
        ("retailrocket", ROCKET + "1,2,view,3,\n", "1,2,wish,3,\n", "unknown_type"),
        ("retailrocket", ROCKET + "1,2,view,3,\n", "1,,view,3,\n", "missing_field"),
        ("retailrocket", ROCKET + "1,2,view,3,\n", "-1,2,view,3,\n", "wrong_type"),
        ("retailrocket", ROCKET + "1,2,view,3,\n", f"1,{'u' * 300},view,3,\n", "wrong_type"),
        ("rees46", REES46 + "2019-10-01 00:00:00 UTC,view,1,2,,,3.5,4,5\n", "soon,view,1,2,,,3.5,4,5\n", "wrong_type"),
        ("events", '{"event_id":"e","user_id":"u","type":"v","item_id":"i","timestamp":1}\n', "{\n", "not_json"),
    ],
)  # fmt: skip
def test_a_bad_row_is_reported_with_line_and_reason(form: str, good: str, bad: str, reason: str):
    rows = _read(good + bad + good.splitlines()[-1] + "\n", form)
    line = good.count("\n") + 1
    assert _bad(rows) == [(line, reason)]
    assert len([r for r in rows if isinstance(r, Event)]) >= 2


def test_bytes_that_are_no_text_are_a_bad_row():
    raw = (ROCKET + "1,2,view,3,\n").encode() + b"1,\xff,view,3,\n"
    assert _bad(_read(raw, "retailrocket")) == [(3, "not_utf8")]


def test_gzip_is_recognised_by_its_bytes():
    assert len(_read(gzip.compress(b"1 2 3\n"), "sessions")) == 3


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "sessions"])
def test_a_wrong_format_names_what_was_expected(form: str):
    with pytest.raises(DataError) as caught:
        _read("a;b;c\n" * 200, form)
    assert FORMATS[form].expects in caught.value.remedy


@pytest.mark.parametrize("left", [0.5, 0.9999, 5])
def test_a_truncated_gzip_is_an_error(left: float):
    whole = gzip.compress("".join(f"{n} {n + 1}\n" for n in range(10_000)).encode())
    cut = whole[: int(left if left > 1 else left * len(whole))]
    with pytest.raises(DataError, match="its gzip stream has none"):
        _read(cut, "sessions")
    with pytest.raises(DataError, match="its gzip stream has none"):
        list(raw_lines(io.BytesIO(cut)))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("form", "header", "good"), [
    ("sessions", "", "1 2 3"),
    ("retailrocket", ROCKET, "1,2,view,3,"),
    ("events", "", '{"event_id":"e","user_id":"u","type":"v","item_id":"i","timestamp":1}'),
])  # fmt: skip
def test_a_line_without_end_is_a_bad_row_and_fills_no_memory(packed: bool, form: str, header: str, good: str):
    raw = (header + good + "\n" + "x" * (40 * LONGEST) + "\n" + good + "\n").encode()
    raw = gzip.compress(raw) if packed else raw
    tracemalloc.start()
    try:
        rows = _read(raw, form)
        lines = list(raw_lines(io.BytesIO(raw)))
        assert tracemalloc.get_traced_memory()[1] < 10 * LONGEST
    finally:
        tracemalloc.stop()
    line = 3 if header else 2
    assert _bad(rows) == [(line, "oversized")]
    assert [row.text[:3] for row in rows if isinstance(row, BadRow)] == ["xxx"]
    assert len([row for row in rows if isinstance(row, Event)]) == (6 if form == "sessions" else 2)
    assert [len(line) for line in lines[-2:]] == [LONGEST, len(good)]


def test_a_line_as_long_as_is_allowed_is_whole():
    assert list(raw_lines(io.BytesIO(b"x" * LONGEST + b"\n" + b"y"))) == [b"x" * LONGEST, b"y"]
    assert list(raw_lines(io.BytesIO(b"x" * (LONGEST + 9)))) == [b"x" * LONGEST]
    assert [len(line) for line in raw_lines(io.BytesIO(b"x" * (2 * LONGEST) + b"\r\n\n"))] == [LONGEST, 0]


def test_a_damaged_gzip_is_an_error():
    """Damage the body: what the unpacking then raises is of the library beneath gzip."""
    whole = bytearray(gzip.compress("".join(f"{n} {n * n}\n" for n in range(10_000)).encode()))
    whole[len(whole) // 2 :] = b"\xff" * (len(whole) - len(whole) // 2)
    with pytest.raises(DataError, match="cannot be read"):
        _read(bytes(whole), "sessions")
    with pytest.raises(DataError, match="cannot be read"):
        list(raw_lines(io.BytesIO(whole)))


@pytest.mark.parametrize(
    ("form", "header", "good", "stray"),
    [
        ("retailrocket", ROCKET, "1,2,view,3,\n", '1,2,view,"3,\n'),
        ("taobao", TAOBAO, "1,2,3,pv,1511544070\n", '1,2,"3,pv,1511544070\n'),
        ("rees46", REES46, f"{REES46_ROW},,3.5,4,5\n", f'{REES46_ROW},"b,3.5,4,5\n'),
    ],
)  # fmt: skip
def test_a_stray_quote_swallows_no_rows(form: str, header: str, good: str, stray: str):
    rows = _read(header + good + stray + good * 3 + "broken\n" + good, form)
    assert len([row for row in rows if isinstance(row, Event)]) == 6
    assert _bad(rows) == [(7, "missing_field")]


def test_a_wrong_format_tells_its_rows_by_reason_and_line():
    with pytest.raises(DataError, match="3 rows left out: not_json, first in line 1: 'a;b"):
        _read("a;b\na;b\na;b\n", "events")


events = st.builds(
    Event,
    *[st.text(min_size=1, max_size=20)] * 4,
    st.integers(1, NOON),
    category_id=st.one_of(st.none(), st.text(max_size=9)),
    price=st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
)


@given(st.lists(events, min_size=1, max_size=20))
@example([Event("1", "\ufffd", "view", "i", NOON)])
def test_canonical_events_survive_a_file(written: list[Event]):
    raw = b"".join(msgspec.json.encode(event) + b"\n" for event in written)
    assert _read(raw, "events") == written


def test_bad_rows_are_counted_by_reason():
    bad = BadRows()
    for n in (3, 7):
        bad.add(BadRow(n, "wrong_type", "x"))
    assert bad.lines() == ["2 rows left out: wrong_type, first in line 3: 'x'"]


@pytest.mark.parametrize(
    ("path", "form", "good", "bad"),
    [
        ("retailrocket/events_sample_5000_visitors.csv.gz", "retailrocket", 9_385, 0),
        ("taobao_userbehavior/events.csv.gz", "taobao", 77_884, 34),
        ("rees46_head/2019-10-01_head.csv.gz", "rees46", 17_434, 1),  # its last row is cut off
    ],
)
def test_real_logs(real_data: Path, path: str, form: str, good: int, bad: int):
    with (real_data / path).open("rb") as file:
        rows = list(read(file, form))
    assert sum(isinstance(row, Event) for row in rows) == good
    assert len(_bad(rows)) == bad


@pytest.mark.parametrize("name", FORMATS)
def test_a_blank_line_is_no_row(name: str):
    """It is skipped, and lines are counted on."""
    head = ",".join(FORMATS[name].header) + "\n" if FORMATS[name].header else ""
    bad = "[" if name != "sessions" else "a,b"
    with pytest.raises(DataError, match=f"first 1 rows .*\n  1 row left out: .* first in line {3 + bool(head)}"):
        _read(head + "\n  \n" + bad + "\n\r\n", name)
