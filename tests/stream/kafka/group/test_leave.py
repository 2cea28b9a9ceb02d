"""Members that leave, without a broker: what is asked in bytes, and what is said where nobody answers."""

import time

import pytest
from aiokafka import errors

from stream.core.errors import BrokerError
from stream.kafka.group.leave import _ask, _Leave, leave
from stream.settings import load
from tests.stream.coordinator import Coordinator, answer


def coordinator(error_code, *members):
    return Coordinator(error_code, [("", *member) for member in members])


def asked(client, *names):
    return answer(_ask(client, "shop", names))


def test_the_request_is_version_3_of_leave_group():
    client = coordinator(0, ("w-1", 0), ("w-2", 25))
    assert asked(client, "w-1", "w-2") == {"w-1": True, "w-2": False}
    assert (client.asked.API_KEY, client.asked.API_VERSION) == (13, 3)
    assert client.asked.encode() == b"\0\4shop\0\0\0\2\0\0\0\3w-1\0\0\0\3w-2"


@pytest.mark.parametrize(
    ("code", "member", "error"), [(16, 0, "NotCoordinator"), (30, 0, "GroupAuthorization"), (0, 82, "")]
)
def test_another_error_is_raised(code, member, error):
    with pytest.raises(errors.KafkaError) as raised:
        asked(coordinator(code, ("w-1", member)), "w-1")
    assert error in type(raised.value).__name__


def test_a_broker_that_is_too_old_is_no_traceback():
    with pytest.raises(NotImplementedError):
        _Leave("shop", ["w-1"]).prepare({13: (0, 2)})


def test_where_nobody_answers_it_ends_in_time():
    began = time.monotonic()
    with pytest.raises(BrokerError, match="does not let members leave") as raised:
        leave(load(bootstrap_servers="127.0.0.1:1"), ["w-1"], 0.5)
    assert time.monotonic() - began < 5
    assert raised.value.exit_code == 69
