"""Recovery against a real changelog: it waits for what is open, and refuses what does not fit."""

import threading
import time
from typing import Any
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest
from confluent_kafka import OFFSET_INVALID, IsolationLevel, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic

from stream.bundle.onnx import load
from stream.core.errors import PositionError, StuckError
from stream.core.session import FORMAT
from stream.kafka.client.admin import admin, consumer
from stream.kafka.client.offsets import log_offsets
from stream.kafka.exactly_once.changelog import POSITION, Recovery
from stream.kafka.exactly_once.transaction import Committer
from stream.kafka.group.membership import PartitionState
from stream.scoring.rehydrate import Rehydrator
from stream.scoring.scorer import Partition
from stream.state.position import Position
from stream.state.sessions import SessionStore
from tests.fakes import NOON
from tests.kafka.shop import BUNDLE, Shop, wait_for

LOADED = Rehydrator(load(BUNDLE))


@pytest.fixture
def place(shop) -> Shop:
    return shop(partitions=1)


def _recovery(place: Shop, **changes: object) -> Recovery:
    settings = place.settings.model_copy(update=changes)
    return Recovery(settings, admin(settings), LOADED)


def _recover(place: Shop, **changes: object) -> PartitionState:
    recovery = _recovery(place, **changes)
    try:
        found = recovery.recover({0: None}, lambda: True)
        assert found
        return found[0]
    finally:
        recovery.close()


def _session(last: int) -> bytes:
    one = np.zeros((), LOADED.layout)
    one["format"], one["ring"], one["model"], one["last"] = FORMAT, 8, LOADED.manifest.fingerprint, last
    return bytes(one.tobytes())


def _write(place: Shop, *records: tuple[bytes, bytes | None], producer: Producer | None = None) -> None:
    out = producer or place.producer()
    for key, value in records:
        out.produce(place.settings.changelog, value, key, 0)
    assert out.flush(10) == 0


def _position(place: Shop, offset: int, topic_id: str | None = None) -> tuple[bytes, bytes]:
    return POSITION, msgspec.json.encode(Position(topic_id or _recovery(place).topics().events, offset, NOON))


def _transactional(place: Shop, timeout_ms: int = 60_000) -> Producer:
    out = place.producer(**{"transactional.id": f"tx-{place.group}", "transaction.timeout.ms": timeout_ms})
    out.init_transactions(20)
    out.begin_transaction()
    return out


def test_an_empty_changelog_begins_at_the_input_s_beginning(place: Shop):
    place.send([(b"u", b"{}")] * 3)
    assert _recover(place).part.position == 0
    assert _recover(place, start="latest").part.position == 3


def test_the_last_record_of_a_shopper_counts(place: Shop):
    place.send([(b"u", b"{}")] * 9)
    _write(place, (b"ua", _session(1)), (b"ub", _session(2)), _position(place, 4), (b"ua", _session(3)), (b"ub", None))
    found = _recover(place)
    assert (found.part.position, found.part.clock) == (4, NOON)
    assert list(found.part.store) == ["a"]
    assert found.part.store.get("a")["last"] == 3
    assert found.changelog == 5


@pytest.mark.parametrize("commit", [True, False])
def test_it_waits_for_an_open_transaction(place: Shop, commit: bool):
    """Rule 2: the last stable offset hides exactly what it must wait for."""
    place.send([(b"u", b"{}")] * 9)
    _write(place, (b"ua", _session(1)), _position(place, 2))
    out = _transactional(place)
    _write(place, (b"ua", _session(2)), _position(place, 5), producer=out)
    found: list[PartitionState] = []
    waiting = threading.Thread(target=lambda: found.append(_recover(place)))
    waiting.start()
    time.sleep(3)
    assert not found
    (out.commit_transaction if commit else out.abort_transaction)(10)
    waiting.join(20)
    assert found[0].part.position == (5 if commit else 2)
    assert found[0].part.store.get("a")["last"] == (2 if commit else 1)


def test_a_transaction_that_hangs_ends_it_with_the_partition(place: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stream.kafka.exactly_once.changelog._PATIENCE", -7.0)
    out = _transactional(place)
    _write(place, (b"ua", _session(2)), producer=out)
    with pytest.raises(StuckError, match="partition 0 stands at 0 of 1"):
        _recover(place)
    out.abort_transaction(10)


def test_what_was_kept_and_is_not_in_the_changelog_is_read_anew(place: Shop, caplog: pytest.LogCaptureFixture):
    """A transaction that was acknowledged to us has been undone; another of our records lies where it was."""
    place.send([(b"u", b"{}")] * 9)
    _write(place, (b"ua", _session(1)), _position(place, 2))
    kept = _recover(place)
    out = _transactional(place)
    _write(place, (b"ua", _session(2)), _position(place, 5), producer=out)
    out.abort_transaction(10)
    _write(place, (b"ub", _session(3)))
    kept.part.position, kept.changelog = 5, 4
    kept.part.store.records["last"][kept.part.store.slots(["a"])] = 2
    recovery = _recovery(place)
    found = recovery.recover({0: kept}, lambda: True)[0]
    recovery.close()
    assert found is not kept
    assert (found.part.position, [found.part.store.get(u)["last"] for u in "ab"]) == (2, [1, 3])
    assert "is not in the changelog" in caplog.text


def test_a_new_producer_leaves_nothing_open_and_nothing_to_read(shop):
    place = shop(partitions=3)
    committer, names = Committer(place.settings, "w0"), place.settings
    committer.start()
    assert committer.born > 0
    client = admin(names)
    for topic in (names.scores_topic, names.dead_letters_topic, names.changelog):
        # The record, and the marker that ends what may have been open before it.
        wait_for(lambda t=topic: set(log_offsets(client, t, range(3)).values()) == {2}, 20, "all are closed")
        assert set(log_offsets(client, topic, range(3), isolation=IsolationLevel.READ_COMMITTED).values()) == {2}
        assert place.read(topic) == []


def test_it_is_dropped_when_the_membership_ends(place: Shop):
    _write(place, *[(b"u%d" % n, _session(1)) for n in range(100)])
    recovery = _recovery(place)
    assert recovery.recover({0: None}, lambda: False) is None
    recovery.close()


def test_a_kept_partition_is_caught_up_from_where_it_was(place: Shop):
    place.send([(b"u", b"{}")] * 9)
    _write(place, (b"ua", _session(1)), (b"ub", _session(1)), _position(place, 2))
    kept = _recover(place)
    _write(place, (b"ub", _session(7)), _position(place, 6))
    recovery = _recovery(place)
    kept.part.store.records["last"][kept.part.store.slots(["a"])] = 99  # what is not in the new part stays
    found = recovery.recover({0: kept}, lambda: True)[0]
    assert found is kept
    assert found.part.position == 6
    assert [found.part.store.get(u)["last"] for u in "ab"] == [99, 7]
    kept.read_at -= 90_000
    again = recovery.recover({0: kept}, lambda: True)[0]
    assert again is not kept
    assert again.part.store.get("a")["last"] == 1
    recovery.close()


@pytest.mark.parametrize("low", [1000, 2000])
def test_a_changelog_without_position_but_with_committed_offsets_is_refused(place: Shop, low: int):
    """Also where all that was committed has been deleted: this is no first start."""
    place.send([(b"u", b"{}")] * 3000)
    _commit(place, 1000)
    _delete_records(place, low)
    with pytest.raises(PositionError, match=f"{place.group} is at 1000, but .* holds no position") as caught:
        _recover(place)
    assert "--delete-offsets" in caught.value.remedy


@pytest.mark.parametrize("kept", [False, True])
def test_a_recovery_that_was_overtaken_is_no_damage(place: Shop, kept: bool, monkeypatch: pytest.MonkeyPatch):
    """A worker stands still before it places its positions; another commits, and retention deletes what was scored."""
    place.send([(b"u", b"{}")] * 9)
    _write(place, _position(place, 2))
    _commit(place, 2)
    recovery = _recovery(place)
    held = recovery.recover({0: None}, lambda: True)[0] if kept else None
    read = recovery._read

    def overtaken(*given: Any) -> bool:
        found = read(*given)
        _write(place, _position(place, 7))
        _commit(place, 7)
        _delete_records(place, 6)
        return found

    monkeypatch.setattr(recovery, "_read", overtaken)
    found = recovery.recover({0: held}, lambda: True)
    recovery.close()
    assert found[0].part.position == 2  # its commit is refused: the broker knows who is a member


def test_what_is_no_longer_wanted_is_not_refused(place: Shop, monkeypatch: pytest.MonkeyPatch):
    """A membership that ends while its positions are placed is dropped in silence: another one may be right."""
    place.send([(b"u", b"{}")] * 5)
    _write(place, _position(place, 9))
    recovery, wanted = _recovery(place), [True]
    read = recovery._read
    monkeypatch.setattr(recovery, "_read", lambda *given: (read(*given), wanted.clear())[0])
    assert recovery.recover({0: None}, lambda: bool(wanted)) is None
    recovery.close()


def test_a_changelog_or_a_count_that_is_another_is_refused(place: Shop):
    place.send([(b"u", b"{}")] * 5)
    topics = _recovery(place).topics()
    for other, text in (
        (topics._replace(changelog="x"), "deleted and made again"),
        (topics._replace(partitions=2), "with 2"),
    ):
        _write(place, (POSITION, msgspec.json.encode(Position.of(other, 2, NOON))))
        with pytest.raises(PositionError, match=text):
            _recover(place)


@pytest.mark.parametrize(("offset", "committed", "message"), [(9, None, "the input ends at 5"), (2, 4, "is at 4")])
def test_a_position_that_does_not_fit_is_refused(place: Shop, offset: int, committed: int | None, message: str):
    place.send([(b"u", b"{}")] * 5)
    _write(place, _position(place, offset))
    if committed is not None:
        _commit(place, committed)
    with pytest.raises(PositionError, match=message):
        _recover(place)


def test_a_committed_offset_before_the_position_is_only_a_hint(place: Shop):
    place.send([(b"u", b"{}")] * 5)
    _write(place, _position(place, 4))
    _commit(place, 1)
    assert _recover(place).part.position == 4


def test_a_topic_that_was_made_again_is_refused(place: Shop):
    place.send([(b"u", b"{}")] * 5)
    _write(place, _position(place, 2))
    client = admin(place.settings)
    name = place.settings.events_topic
    client.delete_topics([name])[name].result(10)
    deadline = time.monotonic() + 10
    while name in client.list_topics(timeout=5).topics and time.monotonic() < deadline:
        time.sleep(0.2)
    client.create_topics([NewTopic(name, 1, 1)])[name].result(10)
    time.sleep(0.5)
    place.send([(b"u", b"{}")] * 5)
    with pytest.raises(PositionError, match="deleted and made again"):
        _recover(place)


def test_input_that_was_deleted_unread_stops_or_is_told(place: Shop, caplog: pytest.LogCaptureFixture):
    place.send([(b"u", b"{}")] * 8)
    _write(place, _position(place, 2))
    _delete_records(place, 6)
    with pytest.raises(PositionError, match="4 records were deleted before they were scored"):
        _recover(place)
    assert _recover(place, on_lost="continue").part.position == 6
    assert "going on behind the gap" in caplog.text


def test_partitions_are_recovered_together_each_from_its_own(shop):
    """One is kept, one is anew, one is empty; each has its own sessions and position."""
    place = shop(partitions=3)
    topic = _recovery(place).topics().events
    out = place.producer()
    for number in range(3):
        for _ in range(9):
            out.produce(place.settings.events_topic, b"{}", b"u", number)
    for number, last in ((0, 1), (1, 2)):
        out.produce(place.settings.changelog, _session(last), b"u%d" % number, number)
        out.produce(place.settings.changelog, msgspec.json.encode(Position(topic, 4 + number, NOON)), POSITION, number)
    assert out.flush(10) == 0
    recovery, told = _recovery(place), []
    first = recovery.recover({0: None}, lambda: True)
    found = recovery.recover({0: first[0], 1: None, 2: None}, lambda: True, told.append)
    recovery.close()
    assert found[0] is first[0]
    assert {n: (held.part.position, list(held.part.store)) for n, held in found.items()} == {
        **{0: (4, ["0"]), 1: (5, ["1"]), 2: (0, [])}
    }
    told = [(at.partition, at.at, at.end, at.users) for at in told]
    assert told[:3] == [(0, 1, 2, 1), (1, 0, 2, 0), (2, 0, 0, 0)]  # first what lies before it, of each
    assert sorted(told[3:]) == [(0, 2, 2, 1), (1, 2, 2, 1)]


def test_an_error_of_no_partition_passes(place: Shop):
    """Where the broker is away for a moment, the reader is told of it without a partition."""
    _write(place, (b"ua", _session(1)), _position(place, 0))
    recovery = _recovery(place)
    reader, errors = recovery._reader, [Mock(**{"error.return_value": KafkaError(KafkaError._ALL_BROKERS_DOWN)})]
    errors[0].partition.return_value = errors[0].offset.return_value = None

    class Reader:
        def consume(self, *given):
            return [errors.pop()] if errors else reader.consume(*given)

        def __getattr__(self, name):
            return getattr(reader, name)

    recovery._reader = Reader()
    reached = recovery._take({})
    assert (reached, errors) == ({}, [])
    recovery.close()


def test_a_partition_without_an_offset_is_asked_again(place: Shop):
    """While a partition has no leader, librdkafka gives -1001 and no error: nothing would be read."""
    _write(place, (b"ua", _session(1)), _position(place, 0))
    recovery = _recovery(place)
    blind = Mock(wraps=recovery._admin)
    blind.list_offsets.side_effect = lambda asked, **_: {
        tp: Mock(**{"result.return_value.offset": OFFSET_INVALID}) for tp in asked
    }
    recovery._admin = blind
    found = recovery.recover({0: None}, lambda: True)
    recovery.close()
    assert found and len(found[0].part.store) == 1
    assert blind.list_offsets.called


def _delete_records(place: Shop, before: int) -> None:
    tp = TopicPartition(place.settings.events_topic, 0, before)
    client = admin(place.settings)
    client.delete_records([tp])[tp].result(10)


def _commit(place: Shop, offset: int) -> None:
    reader = consumer(place.settings, **{"group.id": place.group})
    reader.commit(offsets=[TopicPartition(place.settings.events_topic, 0, offset)], asynchronous=False)
    reader.close()


def test_sessions_are_found_in_a_changelog_of_several_reads(place: Shop):
    """Write more records than one read takes, and compacted keys."""
    place.send([(b"u", b"{}")] * 3)
    _write(place, *[(b"u%d" % (n % 4000), _session(n)) for n in range(25_000)], _position(place, 3))
    found = _recover(place)
    assert len(found.part.store) == 4000
    assert found.part.store.get("3999")["last"] == 23_999
    assert isinstance(found.part, Partition)
    assert isinstance(found.part.store, SessionStore)


def test_the_offsets_that_a_worker_commits_tell_their_partition_count(shop):
    """A worker of new partitions alone finds no position: the group's offsets tell that there were fewer."""
    place = shop(partitions=2)
    place.send([(b"u%d" % n, b"{}") for n in range(20)])
    worker = place.start("w0")
    place.await_outcomes(40)
    worker.terminate()
    assert worker.wait(20) == 0
    client = admin(place.settings)
    for topic in (place.settings.events_topic, place.settings.changelog):
        client.create_partitions([NewPartitions(topic, 4)])[topic].result(10)
    wait_for(lambda: _recovery(place).topics().partitions == 4, 20, "both have grown")
    recovery = _recovery(place)
    for number in (0, 3):
        with pytest.raises(PositionError, match=r"have 4 partitions, .* written with 2") as caught:
            recovery.recover({number: None}, lambda: True)
        assert "forecart topics grow" in caught.value.remedy
    recovery.close()
