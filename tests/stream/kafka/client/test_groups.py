"""A group described, without a broker: what is asked in bytes, and what is said where nobody answers."""

import time

import pytest
from aiokafka import errors
from confluent_kafka.admin import AclOperation

from stream.kafka.client.groups import Group, _ask, describe
from stream.settings import load
from tests.stream.coordinator import Coordinator, answer


def coordinator(code: int, allowed: int, *members: tuple[str, str | None, str]) -> Coordinator:
    described = [(*member, "/host", b"", b"") for member in members]
    return Coordinator([(code, "shop", "Stable", "consumer", "range", described, allowed)])


def asked(client: Coordinator) -> Group:
    found: Group = answer(_ask(client, "shop"))
    return found


def test_members_and_what_is_allowed_are_told():
    client = coordinator(0, 1 << 3 | 1 << 8, ("a-1", "w0", "forecart"), ("b-2", None, "console"))
    assert asked(client) == Group([("w0", "forecart"), (None, "console")], {AclOperation.READ, AclOperation.DESCRIBE})
    assert (client.asked.API_KEY, client.asked.API_VERSION) == (15, 4)
    assert client.asked.encode() == b"\0\0\0\1\0\4shop\1"


def test_a_broker_that_does_not_say_what_is_allowed_allows_nothing_that_is_known():
    assert asked(coordinator(0, -(2**31))) == Group([], set())


def test_an_error_is_raised():
    with pytest.raises(errors.GroupAuthorizationFailedError):
        asked(coordinator(30, 0))


def test_where_nobody_answers_it_ends_in_time():
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="the coordinator of group shop"):
        describe(load(bootstrap_servers="127.0.0.1:1"), "shop", 0.5)
    assert time.monotonic() - began < 5
