"""A group as its coordinator tells of it: who its members are, and what we may do with it.

aiokafka asks. librdkafka's administrator ends the process by a failed assertion where a coordinator goes away
meanwhile. aiokafka's own DescribeGroups has no instance ids; version 4 (KIP-345) is understood by every broker since
Kafka 2.4.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Bytes, Int16, Int32, Schema, String
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]

from stream.kafka.client.connection import aiokafka_options
from stream.settings import Settings

T = TypeVar("T")
_API_KEY, _VERSION = 15, 4
_UTF8 = String("utf-8")
_AGAIN = 0.2  # seconds until a coordinator that is not there yet is asked again


class Group(NamedTuple):
    """Members, each with its instance id, if it has one, and its client id; and the operations that we are allowed."""

    members: list[tuple[str | None, str]]
    authorized_operations: set[Any]


class _Described(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY, API_VERSION = _API_KEY, _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                *((name, _UTF8) for name in ("group", "state", "protocol_type", "protocol")),
                (
                    "members",
                    Array(
                        *((name, _UTF8) for name in ("member_id", "group_instance_id", "client_id", "client_host")),
                        ("metadata", Bytes),
                        ("assignment", Bytes),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
    )


class _DescribeStruct(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE = _API_KEY, _VERSION, _Described
    SCHEMA = Schema(("groups", Array(_UTF8)), ("include_authorized_operations", Boolean))


class _Describe(Request[_DescribeStruct]):  # type: ignore[misc]
    API_KEY = _API_KEY

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_DescribeStruct]) -> _DescribeStruct:
        return request_struct_class([self._group], True)


def describe(settings: Settings, group: str, seconds: float = 5.0) -> Group:
    """Return a group, without members where it is not there.

    Raises KafkaException where the coordinator refuses, TimeoutError where it does not answer within so many seconds.
    """
    try:
        with ThreadPoolExecutor(1) as thread:  # whoever asks may be on a loop of its own
            asking = within(settings, seconds, lambda client: _ask(client, group))
            return thread.submit(asyncio.run, asking).result()
    except (errors.KafkaError, OSError, NotImplementedError) as error:
        code = getattr(error, "errno", None)
        if isinstance(error, errors.KafkaError) and not error.retriable and isinstance(code, int) and code > 0:
            raise KafkaException(KafkaError(code)) from error
        raise TimeoutError(f"the coordinator of group {group} gives no answer: {error!r}") from error


async def within(settings: Settings, seconds: float, ask: Callable[[Any], Awaitable[T]]) -> T:
    """Ask over a connection of our own, again while an error passes; raise the last one after so many seconds."""
    client = AIOKafkaClient(**aiokafka_options(settings))
    said: Exception = TimeoutError("no answer")
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await ask(client)
                except errors.KafkaError as error:
                    if not error.retriable:
                        raise
                    said = error
                await asyncio.sleep(_AGAIN)
    except TimeoutError:
        raise said from None
    finally:
        await client.close()


async def send(client: Any, group: str, request: Any) -> Any:
    """Send a request to a group's coordinator; return its answer."""
    if not client.cluster.brokers():
        await client.bootstrap()
    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    # Where the coordinator is not known by now, its address comes with the metadata.
    if client.cluster.broker_metadata(node) is None:
        await client.force_metadata_update()
    return await client.send(node, request, group=ConnectionGroup.COORDINATION)


async def _ask(client: Any, group: str) -> Group:
    [(code, _, _, _, _, members, allowed)] = (await send(client, group, _Describe(group))).groups
    if code:
        raise errors.for_code(code)()
    operations = {AclOperation(n) for n in range(2, 13) if allowed >= 0 and allowed >> n & 1}
    return Group([(instance, name) for _, instance, name, *_ in members], operations)
