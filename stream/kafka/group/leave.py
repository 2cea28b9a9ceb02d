"""Take members that will not come back out of the group: static ones do not leave by themselves when they end.

Neither client can send it: librdkafka's administrator removes no members, aiokafka knows LeaveGroup up to version 1,
which has no instance ids. Version 3 (KIP-345) is understood by every broker since Kafka 2.4.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import errors
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

from stream.core.errors import BrokerError
from stream.kafka.client.groups import send, within
from stream.settings import Settings

_API_KEY, _VERSION = 13, 3
_UTF8 = String("utf-8")
_MEMBER = ("member_id", _UTF8), ("group_instance_id", _UTF8)


class _Left(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY, API_VERSION = _API_KEY, _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32), ("error_code", Int16), ("members", Array(*_MEMBER, ("error_code", Int16)))
    )


class _LeaveStruct(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE = _API_KEY, _VERSION, _Left
    SCHEMA = Schema(("group", _UTF8), ("members", Array(*_MEMBER)))


class _Leave(Request[_LeaveStruct]):  # type: ignore[misc]
    API_KEY = _API_KEY

    def __init__(self, group: str, names: Sequence[str]) -> None:
        self._group, self._members = group, [("", name) for name in names]

    def build(self, request_struct_class: type[_LeaveStruct]) -> _LeaveStruct:
        return request_struct_class(self._group, self._members)


def leave(settings: Settings, names: Sequence[str], seconds: float = 15.0) -> dict[str, bool]:
    """Take workers out of the group by their names, and tell by name whether one was its member.

    Raises BrokerError where the group's coordinator refuses, or does not answer within so many seconds. Nothing tells a
    worker that still runs from one that has ended: it finds itself without partitions, recovers and joins anew.
    """
    try:
        return asyncio.run(within(settings, seconds, lambda client: _ask(client, settings.group, names)))
    except (errors.KafkaError, OSError, NotImplementedError) as error:  # the last: no version that both sides know
        raise BrokerError(
            f"the coordinator of group {settings.group} does not let members leave: {error!r}",
            "check the brokers and the rights (READ of the group); Kafka 2.4 or newer is needed",
        ) from error


async def _ask(client: Any, group: str, names: Sequence[str]) -> dict[str, bool]:
    said = await send(client, group, _Leave(group, names))
    _check(said.error_code)
    found: dict[str, bool] = {}
    for _member, name, code in said.members:
        if found.setdefault(name, code != errors.UnknownMemberIdError.errno):
            _check(code)
    return found


def _check(code: int) -> None:
    if code:
        raise errors.for_code(code)()
