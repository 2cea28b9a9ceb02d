"""Topics in a shop's own shape: a chunk at once is what its records are one by one."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.events import BadEvent, Event
from stream.formats.mapped import Mapped
from stream.formats.mapping import Mapping

NOON = 1_772_625_600_000
FLAT = {"user": "who", "item": "what", "time": "at", "type": "kind"}
FULL = FLAT | {"category": "group", "price": "cost", "quantity": "n", "event_id": "id", "session": "visit"}
NESTED = {"user": "customer.id", "item": "product.sku", "time": "meta.sent.at", "type": "kind", "price": "product.cost"}
TYPES = {"view": "page_view", "purchase": ["buy", 3]}


def mapped(columns: dict[str, str], types: Any = TYPES, **time: str) -> Mapped:
    said = {"format": "json", "columns": columns, "types": types, "time": time or {"unit": "ms"}}
    return Mapped(msgspec.convert(said, Mapping))


def one(shape: Mapped, record: object, newest: int = 2**53) -> Event | BadEvent:
    return shape.one(json.dumps(record).encode(), newest, 999, "0-7")


def at_once(shape: Mapped, records: list[Any], newest: int = 2**53) -> list[Any] | None:
    raws = [json.dumps(record).encode() for record in records]
    return shape.all(raws, np.full(len(raws), newest), 999, lambda: [f"0-{n}" for n in range(len(raws))])


def told(event: Any) -> tuple[object, ...]:
    return tuple(getattr(event, name) or None for name in Event.__struct_fields__)


RECORD = {"who": "u", "what": "i", "at": NOON, "kind": "page_view"}


def test_a_record_is_an_event_with_the_type_as_the_shop_names_it():
    assert one(mapped(FLAT), RECORD) == Event("0-7", "u", "page_view", "i", NOON)
    more = {"group": "g", "cost": 2.5, "n": 2, "id": "e-1", "visit": "s", "price": 9, "category_id": "no"}
    assert one(mapped(FULL), RECORD | more) == Event("e-1", "u", "page_view", "i", NOON, "g", 2.5, 2.0, "s")


def test_nested_fields_are_read():
    record = {"customer": {"id": 7, "age": 3}, "product": {"sku": "A"}, "meta": {"sent": {"at": NOON}}, "kind": 3}
    assert one(mapped(NESTED), record) == Event("0-7", "7", "3", "A", NOON)
    (event,) = at_once(mapped(NESTED), [record]) or [None]
    assert told(event) == told(Event("0-0", "7", "3", "A", NOON))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"who": None}, "missing_field"),
        ({"who": ""}, "missing_field"),
        ({"who": True}, "wrong_type"),
        ({"who": "x" * 257}, "wrong_type"),
        ({"who": 1.5}, "wrong_type"),
        ({"at": None}, "missing_field"),
        ({"at": 0}, "wrong_type"),
        ({"at": "noon"}, "wrong_type"),
        ({"cost": "cheap"}, "wrong_type"),
        ({"cost": {"eur": 1}}, "wrong_type"),
        ({"at": NOON + 9}, "future"),
        ({"who": "x" * 999}, "oversized"),
    ],
)
def test_what_is_no_event_says_why(change: dict[str, object], reason: str):
    shape = mapped(FLAT | {"price": "cost"})
    assert one(shape, RECORD | change, NOON + 1) == BadEvent(reason)
    assert at_once(shape, [RECORD, RECORD | change], NOON + 1) is None


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "null"),
        (b"", "empty"),
        (b" ", "empty"),
        (b"{", "not_json"),
        (b'{"who":"\xff"}', "not_utf8"),
        (b"[]", "wrong_type"),
    ],
)
def test_what_is_no_json_object_says_why(raw: bytes | None, reason: str):
    shape = mapped(FLAT)
    assert shape.one(raw, 2**53, 999, "0-0") == BadEvent(reason)
    assert shape.all([raw, json.dumps(RECORD).encode()], np.full(2, 2**53), 999, list) is None


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"who": 7}, "user_id", "7"),
        ({"what": 1002.0}, "item_id", "1002"),
        ({"cost": "1,299.00"}, "price", 1299.0),
        ({"cost": None}, "price", None),
        ({"at": f"{NOON}"}, "timestamp", NOON),
        ({"at": float(NOON)}, "timestamp", NOON),
    ],
)
def test_values_are_read_as_people_write_them(change: dict[str, object], field: str, value: object):
    assert getattr(one(mapped(FLAT | {"price": "cost"}), RECORD | change), field) == value


def test_times_are_read_in_their_unit():
    assert one(mapped(FLAT, unit="s"), RECORD | {"at": NOON / 1000 + 0.25}) == Event(
        "0-7", "u", "page_view", "i", NOON + 250
    )
    assert one(mapped(FLAT, format="iso"), RECORD | {"at": "2026-03-04T12:00:00Z"}) == one(mapped(FLAT), RECORD)


def test_a_topic_without_types_has_one():
    shape = mapped({name: FLAT[name] for name in ("user", "item", "time")}, types="purchase")
    assert one(shape, RECORD) == Event("0-7", "u", "transaction", "i", NOON)
    (event,) = at_once(shape, [RECORD]) or [None]
    assert event.type == "transaction" and shape.types(("view", "transaction")) == {"transaction": 1}


def test_a_column_can_be_two_fields():
    shape = mapped(FLAT | {"category": "what", "session": "who"})
    expected = Event("0-0", "u", "page_view", "i", NOON, "i", session_id="u")
    (event,) = at_once(shape, [RECORD]) or [None]
    assert told(event) == told(expected)


_IDS = st.one_of(st.text("abcé\ud83d\ude00 ", min_size=1, max_size=4), st.integers(-9, 10**12), st.just(None))
_TIMES = st.one_of(
    st.integers(1, 2**53 - 1), st.sampled_from(["2026-03-04T12:00:00Z", "2026-03-04T12:00:00.5+01:00", 12.5])
)
_RECORDS = st.fixed_dictionaries(
    {"who": _IDS, "what": _IDS, "at": _TIMES, "kind": st.sampled_from(["page_view", "buy", 3, "view"])},
    optional={"cost": st.one_of(st.none(), st.floats(-9, 9), st.just("9,99")), "group": _IDS, "id": _IDS},
)


@given(st.lists(_RECORDS, max_size=6), st.sampled_from(["ms", "s", "us", "ns", "iso"]), st.sampled_from([FLAT, FULL]))
def test_a_chunk_at_once_is_what_its_records_are(records: list[Any], time: str, columns: dict[str, str]):
    shape = mapped(columns, **({"format": time} if time == "iso" else {"unit": time}))
    single = [shape.one(json.dumps(r).encode(), 2**53, 999, f"0-{n}") for n, r in enumerate(records)]
    for _ in range(2):  # what a chunk was like must not tell in the next one
        found = at_once(shape, records)
        if found is not None:
            assert list(map(told, found)) == list(map(told, single))


def test_ids_that_are_numbers_are_read_at_once_too():
    shape = mapped(FULL)
    records = [RECORD | {"who": n, "what": n % 2 or "a", "id": f"e{n}", "group": None} for n in range(5)]
    for given_ in (records, [RECORD | {"id": "e"}] * 2, records):
        single = [shape.one(json.dumps(r).encode(), 2**53, 999, "") for r in given_]
        assert list(map(told, at_once(shape, given_) or [])) == list(map(told, single))
