"""Raw bytes: an event, or the reason why not."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.events import REASONS, BadEvent, Event, decode, decode_all
from tests.fakes import NOON

GOOD = {"event_id": "e", "user_id": "u", "type": "view", "item_id": "i", "timestamp": NOON}


def _raw(**changes: object) -> bytes:
    return msgspec.json.encode({k: v for k, v in {**GOOD, **changes}.items() if v is not ...})


def _decode(raw: bytes | None) -> Event | BadEvent:
    return decode(raw, newest=NOON + 1, largest=4096)


def test_a_good_event_is_decoded_whole():
    raw = _raw(category_id="c", price=9.5, quantity=2, session_id="s", unknown_field=[1])
    assert _decode(raw) == Event("e", "u", "view", "i", NOON, "c", 9.5, 2, "s")


POISON = {
    "null": None,
    "empty": b"",
    "blank": b" \n",
    "truncated": _raw()[:-3],
    "text": b"hello",
    "not utf-8": _raw().replace(b'"u"', b'"\xff"'),
    "not utf-8 at all": b"\xff\xfe\x00",
    "magic byte": b"\x00\x00\x00\x00\x01" + _raw(),
    "deep": _raw()[:-1] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "array": b"[1]",
    "NaN": _raw().replace(str(NOON).encode(), b"NaN"),
    "NaN price": _raw()[:-1] + b',"price":NaN}',
    "infinite price": _raw()[:-1] + b',"price":1e999}',
    "huge number": _raw(timestamp=2**53),
    "negative time": _raw(timestamp=-1),
    "time as text": _raw(timestamp="now"),
    "fraction": _raw().replace(str(NOON).encode(), b"1.5"),
    "user is a number": _raw(user_id=7),
    "user is null": _raw(user_id=None),
    "user is empty": _raw(user_id=""),
    "no user": _raw(user_id=...),
    "no item": _raw(item_id=...),
    "id too long": _raw(event_id="x" * 300),
    "future": _raw(timestamp=NOON + 2),
    "oversized": _raw(session_id="s", padding="x" * 5000),
}
EXPECTED = {
    "null": "null",
    "empty": "empty",
    "blank": "empty",
    "truncated": "not_json",
    "text": "not_json",
    "not utf-8": "not_utf8",
    "not utf-8 at all": "not_utf8",
    "magic byte": "not_json",
    "deep": "oversized",
    "NaN": "not_json",
    "NaN price": "not_json",
    "no user": "missing_field",
    "no item": "missing_field",
    "future": "future",
    "oversized": "oversized",
}


@pytest.mark.parametrize("kind", POISON)
def test_poison_gets_its_reason(kind: str):
    assert _decode(POISON[kind]) == BadEvent(EXPECTED.get(kind, "wrong_type"))


def test_deep_nesting_does_not_end_the_process():
    assert decode(POISON["deep"], NOON, 10**6) == BadEvent("too_deep")


@given(st.binary(max_size=300))
def test_no_bytes_raise(raw: bytes):
    found = _decode(raw)
    assert isinstance(found, Event) or found.reason in REASONS


@given(
    st.dictionaries(st.sampled_from([*GOOD, "price", "x"]), st.one_of(st.none(), st.integers(), st.text(), st.floats()))
)
def test_no_json_object_raises(fields: dict[str, object]):
    found = _decode(msgspec.json.encode({**GOOD, **fields}))
    assert isinstance(found, Event) or found.reason in REASONS


CHUNKS = st.lists(
    st.sampled_from([_raw(), _raw(), _raw(timestamp=NOON + 1), _raw(timestamp=NOON + 2), _raw(event_id="e" * 200)])
    | st.sampled_from(list(POISON.values())),
    max_size=4,
)


@given(CHUNKS, st.sampled_from([100, 4096, 10**6]))
def test_a_chunk_in_one_go_is_what_each_record_is(raws: list[bytes | None], largest: int):
    newest = np.array([NOON + n for n in range(len(raws))])
    each = [decode(raw, limit, largest) for raw, limit in zip(raws, newest.tolist(), strict=True)]
    bad = any(isinstance(one, BadEvent) for one in each)
    assert decode_all(raws, newest, largest) == (None if bad else each)
