"""Logs: every row becomes events or a reason; nothing is dropped in silence."""

import csv
import gzip
import io
import re
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.core.errors import DataError
from stream.core.events import Event
from stream.formats.plain import LONGEST, raw_lines
from stream.formats.registry import FORMATS, BadRow, BadRows, named, numbered, read
from stream.formats.values import ODD_ID
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


ids = st.text(min_size=1, max_size=20).filter(lambda text: not re.search(ODD_ID, text))
events = st.builds(
    Event,
    *[ids] * 4,
    st.integers(1, NOON),
    category_id=st.one_of(st.none(), st.just(""), ids),
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


def test_text_of_another_encoding_is_told():
    rows = "".join(f"{REES46_ROW},Помада,3,{user},5\n" for user in (1, 2))
    for encoding in ("cp1251", "gbk", "cp1252"):
        text = (REES46 + rows).replace("Помада", "Crème") if encoding == "cp1252" else REES46 + rows
        bad = BadRows()
        for row in _read(text.encode(encoding), "rees46"):
            if isinstance(row, BadRow):
                bad.add(row)
        assert not bad and bad.values == {"cp1252": 2}
        assert (
            "iconv -f ENCODING -t utf-8" in bad.lines()[0]
            and "2 rows read as cp1252, first in line 2" in bad.lines()[0]
        )


@pytest.mark.parametrize(
    "line", ["1;2;3", '"1 2 3"', "'1 2 3'", "1 -1 2 -1 -2", "[1 2 3]", "1|2", "1,2", "{1 2}", "(1 2)"]
)
def test_a_row_of_another_format_is_no_session(line: str):
    (bad, *_) = [row for row in _read(f"1 2\n{line}\n", "sessions") if isinstance(row, BadRow)]
    assert (bad.line, bad.reason) == (2, "extra_field") and bad.hint


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
    bad = "{" if name != "sessions" else "a,b"
    with pytest.raises(DataError, match=f"first 1 rows .*\n  1 row left out: .* first in line {3 + bool(head)}"):
        _read(head + "\n  \n" + bad + "\n\r\n", name)


COSMETICS = [  # time, type, item, category, code, brand, price, user, session
    ["2019-11-01 00:00:02 UTC", "view", "5802432", "1487580009286598681", "", "naïve", "0.32", "562076640", "09fafd6c"],
    ["2019-11-01 00:00:09 UTC", "cart", "5844397", "1487580006317032337", "", "", "-79.37", "553329724", ""],
    ["2019-11-01 00:00:10 UTC", "purchase", "5837166", "1783999064103190764", "a,b", "pnb", "0.00", "556138645", "57"],
]  # fmt: skip


def _written(**options: object) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", **options).writerows([REES46.rstrip().split(","), *COSMETICS])
    return out.getvalue()


@pytest.mark.parametrize(
    "raw",
    [
        _written().encode(),
        _written(quoting=csv.QUOTE_ALL).encode("utf-16"),
        _written(delimiter=";").replace("0.32", "0,32").replace("-79.37", "-79,37").encode("utf-8-sig"),
        _written(delimiter="\t").replace("\n", "\r").encode("cp1252"),
        _written().replace(" UTC", "+00:00").encode(),
        _written().replace("2019-11-01 00", "2019-11-01T03").replace(" UTC", "+0300").encode(),
        _written().replace("5802432", "5802432.0").encode(),
        "".join(f"{n},{line}\n" for n, line in enumerate(_written().splitlines())).replace("0,", ",", 1).encode(),
    ],
)
def test_a_table_is_read_however_it_was_written(raw: bytes):
    events = [row for row in _read(raw, "rees46") if not isinstance(row, BadRow) or row.lost]
    assert events == _read(_written(), "rees46")
    assert [(e.user_id, e.item_id, e.category_id, e.price) for e in events if isinstance(e, Event)] == [
        ("562076640", "5802432", "1487580009286598681", 0.32),
        ("553329724", "5844397", "1487580006317032337", -79.37),
        ("556138645", "5837166", "1783999064103190764", 0.0),
    ]
    assert events[0].timestamp == 1572566402000


def test_a_price_that_cannot_be_read_costs_no_event_and_is_told():
    rows = [f"{REES46_ROW},,{price},4,5\n" for price in ('"1,299.00"', "free", "nan", "", "1e309", "EUR 9.99")]
    found = _read(REES46 + "".join(rows), "rees46")
    assert [row.price for row in found if isinstance(row, Event)] == [1299.0, None, None, None, None, 9.99]
    bad = BadRows()
    for row in found:
        if isinstance(row, BadRow):
            bad.add(row)
    assert not bad
    assert bad.lines() == ["2 rows read without price, first in line 3: 'free' ('free' is no number)"]


def test_a_shop_without_prices_and_sessions_has_a_log_too():
    (event,) = _read("event_time,event_type,product_id,user_id\n2019-10-01 00:00:00 UTC,view,1,4\n", "rees46")
    assert (event.item_id, event.price, event.category_id, event.session_id) == ("1", None, None, None)


def test_an_id_that_lost_digits_is_told_with_its_column():
    good = f"{REES46_ROW},,3,4,5\n"
    for column, wrong in (("product_id", ",1,2,"), ("user_id", ",4,5")):
        rows = _read(REES46 + good + good.replace(wrong, wrong.replace(wrong[1], "2.1e+18", 1)), "rees46")
        (bad,) = (row for row in rows if isinstance(row, BadRow))
        assert bad.hint.startswith(f"{column}: 2.1e+18 was an id once, and is a float")
        assert "'Int64'" in bad.hint


@pytest.mark.parametrize(
    ("form", "row"), [("rees46", REES46 + f"{REES46_ROW},,3,4,5\n"), ("taobao", "1,1,2,pv,1511544070\n")]
)
def test_a_category_that_lost_digits_costs_no_event(form: str, row: str):
    told, event = _read(row.replace(",1,2,", ",1,2.1e+18,"), form)
    assert isinstance(told, BadRow)
    assert isinstance(event, Event)
    assert (told.reason, told.lost, event.category_id) == ("category_id", False, None)


@pytest.mark.parametrize(
    ("form", "good", "wrong", "said"),
    [
        ("rees46", f"{REES46}{REES46_ROW},,3.5,4,5\n", f"{REES46_ROW},,3.5,4,5,6\n", "10 cells, and 9 columns"),
        ("rees46", REES46, f"{REES46_ROW},,3.5,4,5\n".replace("view", "View"), "'View' is none of view, cart"),
        ("rees46", REES46, "'2019-10-01','view','1','2','','b','3','4','5'\n", "single quotes are part of a cell"),
        (
            "taobao",
            TAOBAO,
            "1,2,3,pv,1511544070000\n",
            "the data set is of 2017-11-25 to 2017-12-03; another log takes",
        ),
    ],
)
def test_a_row_that_is_refused_says_why(form: str, good: str, wrong: str, said: str):
    try:
        rows = _read(good + wrong, form)
        assert any(isinstance(row, BadRow) and said in row.hint for row in rows)
    except DataError as error:
        assert said in str(error)


def test_a_unit_of_time_can_be_named():
    for unit, time in (("s", "1430622120"), ("us", "1430622120000000"), ("ns", "1430622120000000000")):
        (event,) = _read(f"{ROCKET}{time},683727,view,422926,\n", f"retailrocket:{unit}")
        raw = b'{"event_id":"e","user_id":"u","type":"v","item_id":"i","timestamp":%s}' % time.encode()
        (other,) = _read(raw, f"events:{unit}")
        assert event.timestamp == other.timestamp == 1430622120000
    with pytest.raises(DataError, match="these look like nanoseconds: name the unit"):
        _read(f"{ROCKET}1430622120000000000,683727,view,422926,\n", "retailrocket")


@pytest.mark.parametrize("form", ["retailrocket:h", "taobao:s", "sessions:s", "none", "none:s"])
def test_what_is_no_format_has_no_name(form: str):
    with pytest.raises(KeyError):
        named(form)


def test_a_file_of_events_may_have_times_and_numbers_as_text():
    (event,) = _read(
        '{"event_id":"e","user_id":"u","type":"v","item_id":"i","timestamp":"2015-05-03T05:02:00+02:00",'
        '"price":"1,299.00"}',
        "events",
    )
    assert event == Event("e", "u", "v", "i", 1430622120000, price=1299.0)


WRITTEN = {"event_id": "e", "user_id": "u", "type": "v", "item_id": "i", "timestamp": 1430622120000}


@pytest.mark.parametrize("ids", [{"user_id": 7}, {"item_id": 1002.0}, {"event_id": 5}, {"category_id": 21.0}])
def test_a_file_of_events_may_have_numbers_for_ids(ids: dict[str, float]):
    (event,) = _read(msgspec.json.encode(WRITTEN | ids), "events")
    (name, value) = ids.popitem()
    assert getattr(event, name) == str(int(value))


@pytest.mark.parametrize(
    ("wrong", "reason", "said"),
    [
        ({"item_id": [1]}, "wrong_type", "item_id: [1] is no id"),
        ({"user_id": 1.5}, "wrong_type", "user_id: 1.5 is no id"),
        ({"user_id": ""}, "wrong_type", "user_id: Expected `str` of length >= 1"),
        ({"timestamp": [2026]}, "wrong_type", "timestamp: '[2026]' is no time"),
        ({"item_id": None, "itemId": "i"}, "missing_field", "no item_id: is it itemId?"),
        ({"event_id": None}, "missing_field", "takes a --mapping"),
    ],
)
def test_a_bad_event_of_a_file_names_its_field(wrong: dict[str, object], reason: str, said: str):
    rows = _read(msgspec.json.encode(WRITTEN) + b"\n" + msgspec.json.encode(WRITTEN | wrong), "events")
    assert isinstance(bad := rows[1], BadRow)
    assert bad.reason == reason
    assert said in bad.hint


@pytest.mark.parametrize("spare", [{"category_id": [1]}, {"price": [1]}, {"quantity": True}, {"session_id": 1.5}])
def test_a_value_that_an_event_may_lack_costs_no_event(spare: dict[str, object]):
    told, event = _read(msgspec.json.encode(WRITTEN | spare), "events")
    (name,) = spare
    assert isinstance(told, BadRow)
    assert (told.reason, told.lost) == (name, False)
    assert getattr(event, name) is None


@pytest.mark.parametrize("layout", ["[\n{0},\n{0}\n]\n", "{0},\n{0},\n", "[{0}, \n {0}]"])
def test_an_array_with_an_event_a_line_is_read(layout: str):
    raw = layout.replace("{0}", msgspec.json.encode(WRITTEN).decode())
    assert _read(raw, "events") == [msgspec.convert(WRITTEN, Event)] * 2


@pytest.mark.parametrize("n", [3, 30_000])
def test_an_array_in_one_line_is_called_so(n: int):
    with pytest.raises(DataError, match="an array: write an object a line"):
        _read(msgspec.json.encode([WRITTEN] * n), "events")


@pytest.mark.parametrize(
    ("form", "row", "said"),
    [
        ("retailrocket", f"{ROCKET}1430622120,1,view,2,\n", "as --format retailrocket:s"),
        ("retailrocket:us", f"{ROCKET}1430622120000,1,view,2,\n", "as --format retailrocket:s"),
        ("events", '{"event_id":"e","user_id":"u","type":"v","item_id":"i","timestamp":1430622120}', "events:s"),
        ("rees46", REES46 + f"{REES46_ROW},,3.5,4,5\n".replace("2019-10-01 00:00:00 UTC", "1430622120"), "`unit: s`"),
    ],
)
def test_a_unit_is_named_as_the_format_takes_it(form: str, row: str, said: str):
    (event,) = _read(row, form)
    assert isinstance(event, Event)
    bad = BadRows(numbered=numbered(form))
    bad.saw(event.timestamp, event.timestamp)
    assert said in bad.days()[1]


@pytest.mark.parametrize("time", ["10/01/2019", "2019-10-01 00:02:34 EST", "2019-10-01T00:02:34[Europe/Berlin]"])
def test_a_time_of_another_pattern_takes_a_mapping(time: str):
    with pytest.raises(DataError, match="is no time: a mapping can name its pattern"):
        _read(REES46 + f"{REES46_ROW},,3.5,4,5\n".replace("2019-10-01 00:00:00 UTC", time), "rees46")
