"""Contracts with what is private: the group metadata's bytes, and what is touched of faust and aiokafka."""

import asyncio
import inspect
import time

import aiokafka
import pytest
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.drivers import aiokafka as driver

from stream.kafka.client.admin import group_metadata
from stream.kafka.fetch.fetches import FetchedRecord, FetchResult, Reader


def _joined(address: str, topic: str, group: str, **more: object) -> Consumer:
    consumer = Consumer({"bootstrap.servers": address, "group.id": group, "session.timeout.ms": 6000, **more})
    consumer.subscribe([topic])
    deadline = time.monotonic() + 30
    while not consumer.assignment():
        consumer.poll(0.2)
        assert time.monotonic() < deadline
    return consumer


@pytest.mark.parametrize("instance", [None, "worker-1"])
def test_the_bytes_are_those_of_librdkafkas_own_consumer(shop, instance):
    place = shop()
    more = {"group.instance.id": instance} if instance else {}
    consumer = _joined(place.address, place.settings.events_topic, place.group, **more)
    theirs = consumer.consumer_group_metadata()
    member = consumer.memberid()
    generation = int.from_bytes(theirs[7:11], "little", signed=True)
    consumer.close()
    assert group_metadata(place.group, generation, member, instance) == theirs
    assert generation >= 1


@pytest.mark.parametrize(("generation", "member"), [(-1, "m"), (-1, ""), (3, "")])
def test_what_is_no_membership_is_never_written(generation, member):
    with pytest.raises(ValueError, match="not a member"):
        group_metadata("g", generation, member, None)


@pytest.mark.parametrize("instance", [None, "worker"])
def test_what_a_broker_takes(shop, instance):
    """Send offsets of a live member of aiokafka's with right and wrong metadata: only the right one passes."""
    place = shop()
    asyncio.run(_send_all(place, instance))


async def _send_all(place, instance):
    topic = place.settings.events_topic
    consumer = aiokafka.AIOKafkaConsumer(
        topic,
        bootstrap_servers=place.address,
        group_id=place.group,
        group_instance_id=instance,
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=1000,
    )
    await consumer.start()
    try:
        while not consumer.assignment():
            await consumer.getmany(timeout_ms=200)
        coordinator = consumer._coordinator
        generation, member = coordinator.generation, coordinator.member_id
        assert coordinator._group_instance_id == instance
        producer = Producer({"bootstrap.servers": place.address, "transactional.id": place.group})
        await asyncio.to_thread(producer.init_transactions, 20)

        async def send(metadata):
            producer.begin_transaction()
            producer.produce(place.settings.scores_topic, b"x")
            try:
                offsets = [TopicPartition(topic, 0, 1)]
                await asyncio.to_thread(producer.send_offsets_to_transaction, offsets, metadata, 10)
                await asyncio.to_thread(producer.commit_transaction, 10)
            except KafkaException as error:
                await asyncio.to_thread(producer.abort_transaction, 10)
                return error.args[0].name()
            return "accepted"

        def raw(g, m, i=instance):
            right = group_metadata(place.group, 1, "m", i)
            return right.replace((1).to_bytes(4, "little"), g.to_bytes(4, "little", signed=True), 1).replace(
                b"\0m\0", b"\0" + m.encode() + b"\0", 1
            )

        assert raw(generation, member) == group_metadata(place.group, generation, member, instance)
        assert await send(raw(generation, member)) == "accepted"
        for stale in (generation - 1, generation + 1, -1):
            assert await send(raw(stale, member)) == "ILLEGAL_GENERATION"
        unknown = "FENCED_INSTANCE_ID" if instance else "UNKNOWN_MEMBER_ID"
        assert await send(raw(generation, "nobody")) == unknown
        assert await send(raw(generation, "")) == unknown
        # Why nothing reads the coordinator at commit time: what it shows after a lost membership is not fenced.
        assert await send(raw(-1, "", None)) == "accepted"
    finally:
        await consumer.stop()


def test_the_attributes_that_are_touched_are_there(shop):
    place = shop()
    asyncio.run(_look(place))


async def _look(place):
    consumer = aiokafka.AIOKafkaConsumer(
        place.settings.events_topic, bootstrap_servers=place.address, group_id=place.group
    )
    for name in ("_isolation_level", "_partition_assignment_strategy", "_fetch_max_wait_ms", "_max_poll_records"):
        assert hasattr(consumer, name), name
    await consumer.start()
    try:
        for name in ("generation", "member_id", "_group_instance_id", "check_errors"):
            assert hasattr(consumer._coordinator, name), name
        while not consumer.assignment():
            await consumer.getmany(timeout_ms=200)
        tp = next(iter(consumer.assignment()))
        await consumer.position(tp)
        state = consumer._subscription.subscription.assignment.state_value(tp)
        assert isinstance(state, TopicPartitionState)
        assert state.has_valid_position
        assert state.position == 0
        for name in ("lso", "highwater", "timestamp"):
            assert hasattr(state, name), name
    finally:
        await consumer.stop()


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (driver.AIOKafkaConsumerThread, "_fetch_records", ["consumer", "active_partitions", "timeout", "max_records"]),
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["transport"]),
        (driver.AIOKafkaConsumerThread, "_seek_wait", ["consumer", "partitions"]),
        (driver.AIOKafkaConsumerThread, "_ensure_consumer", []),
        (fetcher.FetchResult, "getall", ["max_records"]),
        (fetcher.FetchResult, "check_assignment", ["tp"]),
        (fetcher.FetchResult, "_update_position", []),
        (driver.ConsumerRebalanceListener, "on_partitions_revoked", ["revoked"]),
        (driver.ConsumerRebalanceListener, "on_partitions_assigned", ["assigned"]),
        (driver.Consumer, "_new_consumer_thread", []),
        (driver.Consumer, "_to_message", ["tp", "record"]),
        (FaustConsumer, "_wait_next_records", ["timeout"]),
        (FaustConsumer, "getmany", ["timeout"]),
        (FaustConsumer, "perform_seek", []),
        (FaustConsumer, "force_commit", ["topics", "start_new_transaction"]),
        (FaustConsumer, "_add_gap", ["tp", "offset_from", "offset_to"]),
        (FaustConsumer, "verify_event_path", ["now", "tp"]),
    ],
)
def test_the_methods_that_are_touched_are_there(owner, name, parameters):
    assert list(inspect.signature(getattr(owner, name)).parameters)[1:] == parameters


def test_a_fetch_out_of_range_raises_and_names_the_offset(shop):
    """aiokafka resets nothing, and a partition without an offset is an error that passes with the first seek."""
    place = shop(partitions=1)
    place.send([(b"k", b"v")] * 3)
    asyncio.run(_stray(place))


async def _stray(place):
    consumer = aiokafka.AIOKafkaConsumer(
        place.settings.events_topic, bootstrap_servers=place.address, group_id=place.group, auto_offset_reset="none"
    )
    await consumer.start()
    try:
        tp = aiokafka.TopicPartition(place.settings.events_topic, 0)
        while tp not in consumer.assignment():
            await asyncio.sleep(0.1)
        with pytest.raises(NoOffsetForPartitionError):
            await consumer.getmany(timeout_ms=20_000)
        consumer.seek(tp, 99)
        with pytest.raises(OffsetOutOfRangeError) as caught:
            await consumer.getmany(timeout_ms=20_000)
        assert caught.value.args[0] == {tp: 99}
        consumer.seek(tp, 1)
        assert [record.offset for record in (await consumer.getmany(timeout_ms=20_000))[tp]] == [1, 2]
    finally:
        await consumer.stop()


def test_the_acknowledgements_that_are_cleared_are_there():
    """Read the sources: the attributes are set up in constructors that want a running app."""
    for owner, names in (
        (FaustConsumer, ("_acked", "_acked_index", "_read_offset")),
        (driver.AIOKafkaConsumerThread, ("tp_last_committed_at",)),
    ):
        written = inspect.getsource(owner)
        for name in names:
            assert f"self.{name}" in written, name


def test_the_bounds_of_a_fetch_are_read_at_each_request():
    asked = inspect.getsource(fetcher.Fetcher._get_actions_per_node)
    handed_on = inspect.getsource(aiokafka.AIOKafkaConsumer.start)
    for name in ("_fetch_max_bytes", "_max_partition_fetch_bytes"):
        assert f"self.{name}" in asked and f"{name[1:]}=self.{name}" in handed_on, name


def test_what_stands_in_for_aiokafkas_takes_what_it_is_given():
    given = list(inspect.signature(fetcher.PartitionRecords.__init__).parameters)[1:]
    assert given[:4] == ["tp", "records", "aborted_transactions", "fetch_offset"]
    assert list(inspect.signature(fetcher.FetchResult.__init__).parameters)[1:] == [
        *("tp", "assignment", "partition_records", "backoff")
    ]
    used = inspect.getsource(fetcher.FetchResult._update_position) + inspect.getsource(FetchResult.getall)
    assert "_partition_records.next_fetch_offset" in used
    assert "_topic_partition" in inspect.getsource(fetcher.FetchResult.__init__)
    theirs = inspect.getsource(fetcher.Fetcher)  # it looks the three up by name, and passes them by place
    for call in ("MemoryRecords(part_data[-1])", "records.has_next()", "= PartitionRecords(", "= FetchResult("):
        assert call in theirs, call
    assert "type(res_or_error) is FetchResult" in theirs


def test_a_fetch_is_read_by_our_own_reader(shop, monkeypatch):
    """Fetch through aiokafka's own path: a renamed hook would fall back to its reader in silence."""
    place = shop()
    place.send([(b"k", b"v")])
    for name in ("MemoryRecords", "PartitionRecords", "FetchResult"):
        monkeypatch.setattr(fetcher, name, getattr(fetcher, name))
    asyncio.run(_fetch_one(place))


async def _fetch_one(place):
    consumer = aiokafka.AIOKafkaConsumer(
        place.settings.events_topic, bootstrap_servers=place.address, auto_offset_reset="earliest"
    )
    marks = []

    def high(tp):
        marks.append(consumer._subscription.subscription.assignment.state_value(tp).highwater)
        return marks[-1]

    Reader(1 << 20, high).install()
    await consumer.start()
    try:
        found = {}
        async with asyncio.timeout(20):
            while not found:
                found = await consumer.getmany(timeout_ms=500)
        ((record,),) = found.values()
        assert isinstance(record, FetchedRecord)
        assert (record.key, record.value, record.offset) == (b"k", b"v", 0)
        assert marks == [1]
        assert await consumer.position(next(iter(found))) == 1
    finally:
        await consumer.stop()
