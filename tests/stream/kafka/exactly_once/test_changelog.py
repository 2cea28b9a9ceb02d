"""Records of the changelog that are none, read by a recovery with a reader that gives what it is told to."""

import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from stream.core import session
from stream.core.errors import PositionError
from stream.kafka.exactly_once import changelog
from stream.kafka.exactly_once.changelog import POSITION, Recovery
from stream.kafka.group.membership import PartitionState
from stream.scoring.rehydrate import Rehydrator
from stream.scoring.scorer import Partition
from stream.settings import Settings
from stream.state.position import Position
from stream.state.sessions import SessionStore
from tests.stream.scoring.test_rehydrate import NOON, _bundle, _packed

BUNDLE = _bundle()
GOOD = _packed(BUNDLE, [(0, "a", NOON, 1)])


def _message(offset: int, key: bytes, value: bytes | None) -> Any:
    facts = {"error": None, "partition": 3, "offset": offset, "key": key, "value": value}
    return SimpleNamespace(**{name: (lambda found=found: found) for name, found in facts.items()})


def _take(
    monkeypatch: pytest.MonkeyPatch, *records: tuple[bytes, bytes | None], passed_over: Any = print
) -> changelog._Part:
    reader = Mock()
    reader.consume.return_value = [_message(70 + n, *record) for n, record in enumerate(records)]
    monkeypatch.setattr(changelog, "consumer", lambda *_, **__: reader)
    owned = PartitionState(Partition(3, SessionStore(session.record(BUNDLE.manifest))))
    part = changelog._Part(owned, 70, Position("t", 0))
    Recovery(Settings(), Mock(), Rehydrator(BUNDLE, passed_over))._take({3: part})
    return part


def test_good_records_are_taken_up(monkeypatch: pytest.MonkeyPatch):
    part = _take(monkeypatch, (b"ua", GOOD), (POSITION, b'{"topic_id": "t", "offset": 5}'), (b"wname", None))
    assert list(part.owned.part.store) == ["a"]
    assert part.position.offset == 5


@pytest.mark.parametrize(
    "record",
    [
        (b"usecret", b"\x09junk"),
        (b"usecret", GOOD[:-1]),
        (b"usecret", GOOD + GOOD),
        (b"usecret\xff", GOOD),
        (POSITION, b"secret"),
        (POSITION, b'{"x":' + b"[" * 5000),
        (POSITION, b'{"offset": 5}'),
    ],
)
def test_a_record_that_is_none_is_named_by_its_place_and_not_by_its_shopper(
    monkeypatch: pytest.MonkeyPatch, record: tuple[bytes, bytes]
):
    with pytest.raises(PositionError, match="forecart-changelog partition 3, offset 71") as caught:
        _take(monkeypatch, (b"ua", GOOD), record, (b"ub", GOOD))
    assert "secret" not in str(caught.value)
    assert "--group" in caught.value.remedy


def test_an_item_s_record_that_is_none_is_passed_over_and_counted(monkeypatch: pytest.MonkeyPatch, caplog):
    counted: list[int] = []
    item = b'{"category": 0, "count": 1.5, "last": 9}'
    broken = [(b"inew", b"{"), (b"i\xff", item), (b"iother", b'{"category": "x"}')]
    part = _take(monkeypatch, (b"ua", GOOD), *broken, (b"inew", item), (b"ub", GOOD), passed_over=counted.append)
    assert sorted(part.owned.part.store) == ["a", "b"]
    assert part.owned.part.newcomers.names == ["new"]
    assert counted == [3]
    assert "passed over 3 records of unseen items" in caplog.text


@pytest.mark.parametrize("name", ["close", "described", "committed", "log_offsets", "assign", "consume", "position"])
def test_no_call_of_a_recovery_is_without_a_deadline(monkeypatch: pytest.MonkeyPatch, name: str):
    """Whichever of librdkafka's calls does not return, another thread sees it."""
    returns, reader = threading.Event(), Mock()
    reader.consume.return_value, reader.position.return_value = [], [SimpleNamespace(partition=0, offset=5)]
    calls = {"described": Mock(), "log_offsets": Mock(return_value={0: 5}), "group_offsets": reader.committed}
    reader.committed.return_value = []
    calls["described"].return_value = dict.fromkeys("ab", SimpleNamespace(id="t", partitions=1))
    for call, stub in {**calls, "consumer": Mock(return_value=reader), "admin": Mock()}.items():
        monkeypatch.setattr(changelog, call, stub)
    for seconds in (
        "exactly_once.changelog._ASK_SECONDS",
        "exactly_once.changelog._CALL_SECONDS",
        "client.deadline._OVERDUE_SECONDS",
    ):
        monkeypatch.setattr(f"stream.kafka.{seconds}", 0.05)
    (calls.get(name) or getattr(reader, name)).side_effect = lambda *_, **__: returns.wait(20)
    one = Recovery(Settings(), Mock(), Rehydrator(BUNDLE))
    one.reopen()
    threading.Thread(target=lambda: _recover(one), daemon=True).start()
    until, seen = time.monotonic() + 10, ""
    while not (name in seen or seen.startswith("the call for")) and time.monotonic() < until:
        time.sleep(0.01)
        running = one.deadline.running  # a machine that stands still for a moment lets another call be overdue
        seen = running if one.deadline.over else ""
    returns.set()
    assert name in seen or seen.startswith("the call for")


def _recover(one: Recovery) -> None:
    with suppress(Exception):  # what a call comes to that was left alone is nobody's
        one.recover({0: None}, lambda: True)
