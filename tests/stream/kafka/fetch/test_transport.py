"""How what was fetched is cut, by records and by bytes, and that all of it reaches the engine."""

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from unittest.mock import Mock, patch

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError
from faust.types import TP

from stream.core.errors import BrokerError
from stream.kafka.fetch import transport
from stream.kafka.fetch.fetches import FetchedRecord
from stream.kafka.fetch.transport import LOGIN, BatchConsumer, Thread, _Fetched, parts
from stream.kafka.group.membership import Mark, Ownership
from stream.records import DATED

PARTITION = TP("t", 0)


def _records(*sizes: int) -> list[FetchedRecord]:
    return [FetchedRecord("t", 0, n, 0, 0, None, None, (), size) for n, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([5, 5, 5], [([0, 1], 10), ([2], 5)]),
        ([1, 1, 1, 1, 1], [([0, 1, 2], 3), ([3, 4], 2)]),
        ([99, 1, 99, 99], [([0], 99), ([1], 1), ([2], 99), ([3], 99)]),
        ([4, 6, 1], [([0, 1], 10), ([2], 1)]),
    ],
)
def test_records_are_cut_by_number_and_bytes(sizes: list[int], expected: object):
    assert [([r.offset for r in part], held) for part, held in parts(_records(*sizes), 3, 10)] == expected


def test_what_is_read_again_after_a_recovery_is_delivered_however_far_was_read_before(monkeypatch):
    """Faust notes how far it has delivered only once a message is: then a recovery may have gone back already."""
    ownership = Ownership("g", 100)
    membership = ownership.take(1, "m", None, {0})
    consumer, fetched = object.__new__(BatchConsumer), _Fetched({PARTITION: (3, 5, _records(1, 1))})
    fetched.membership = membership
    consumer._thread = SimpleNamespace(ownership=ownership, hand_on=lambda _positions: None)
    consumer._read_offset = defaultdict(lambda: None, {PARTITION: 856})
    consumer._wait_next_records = lambda _timeout: asyncio.sleep(0, (fetched, set()))
    consumer._to_message = lambda _tp, record: Mock(offset=record.offset)
    monkeypatch.setattr(BatchConsumer, "flow_active", True)
    monkeypatch.setattr(BatchConsumer, "should_stop", False)

    async def delivered() -> list[object]:
        return [consumer._read_offset[tp] async for tp, _ in consumer.getmany(1.0)]

    assert asyncio.run(delivered()) == [None]


def test_a_renewed_login_is_what_the_next_connection_takes():
    """The names are private to aiokafka's client, which hands them to each connection."""

    async def renewed() -> list[object]:
        client = AIOKafkaClient(
            security_protocol="SASL_PLAINTEXT", sasl_plain_username="shop", sasl_plain_password="old"
        )
        assert all(hasattr(client, f"_{name}") for name in LOGIN)
        thread = Thread.__new__(Thread)
        thread._consumer = SimpleNamespace(_client=client)
        thread.renew({"sasl_plain_username": "shop", "sasl_plain_password": "new"})
        made: dict[str, object] = {}

        async def create(*_: object, **given: object) -> None:
            made.update(given)
            raise OSError("nobody there")

        with patch("aiokafka.client.create_conn", create), pytest.raises(KafkaConnectionError):
            await client.bootstrap()
        return [made["sasl_plain_password"], made["ssl_context"]]

    assert asyncio.run(renewed()) == ["new", None]


def test_a_group_that_turns_us_away_ends_the_worker_though_nothing_is_fetched():
    failed: list[BaseException] = []
    thread = Thread.__new__(Thread)
    thread.app = SimpleNamespace(engine=SimpleNamespace(fail=failed.append))
    refusing = Mock(side_effect=GroupAuthorizationFailedError("shop"))
    thread._see_refusals(SimpleNamespace(_coordinator=SimpleNamespace(check_errors=refusing)))
    [error] = failed
    assert isinstance(error, BrokerError)
    assert "GroupAuthorizationFailedError" in error.message


def test_a_consumer_without_a_connection_for_a_minute_asks_the_bootstrap_servers(monkeypatch):
    """By a clock that the test moves: aiokafka itself never returns to them."""
    seconds, connected, asked = [1000.0], [True], []
    monkeypatch.setattr(transport, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    monkeypatch.setattr(transport, "_LOOK_SECONDS", 0.001)

    async def bootstrap() -> None:
        asked.append(seconds[0])
        if len(asked) == 1:
            raise KafkaConnectionError("nobody there")

    client = Mock(bootstrap=bootstrap, _conns={0: Mock(connected=lambda: connected[0])})
    thread = Thread.__new__(Thread)
    thread._ensure_consumer = lambda: SimpleNamespace(_client=client, _coordinator=Mock())

    async def main() -> None:
        looking = asyncio.create_task(thread._see_to_connections())
        for passed, link in ((0, True), (900, True), (59, False), (2, False)):
            seconds[0], connected[0] = seconds[0] + passed, link
            await asyncio.sleep(0.03)
            assert bool(asked) is (passed == 2)
        looking.cancel()

    asyncio.run(main())
    assert asked == [1961.0, 1961.0]  # again after no answer, then no more: a minute begins anew
    client.force_metadata_update.assert_called_once_with()


def test_what_an_answer_tells_is_held_to_what_is_scored():
    ownership = Ownership("g", 100)
    membership = ownership.take(1, "m", None, {0})
    membership.owned[0] = SimpleNamespace(part=SimpleNamespace(position=3))
    thread = SimpleNamespace(ownership=ownership)
    records = [FetchedRecord("t", 0, 3, DATED + 7, 0, None, None, (), 1)]
    Thread._note(thread, 0, Mark(9, 9, 9, high=9, answered=DATED + 20), records)
    assert ownership.marks[0].since == DATED + 7  # read, not scored
    membership.owned[0].part.position = 9
    Thread._note(thread, 0, Mark(9, 9, 9, high=9, answered=DATED + 30), None)
    assert ownership.marks[0].since == DATED + 30


def test_a_record_without_a_time_does_not_make_a_lag_old():
    thread = SimpleNamespace(ownership=Ownership("g", 100))
    for stamp in (-1, 0, 1_700_000_000):  # none, and seconds
        Thread._note(thread, 0, Mark(9, 9, 9, high=9), [FetchedRecord("t", 0, 3, stamp, 0, None, None, (), 1)])
        assert thread.ownership.marks[0].since == 0
