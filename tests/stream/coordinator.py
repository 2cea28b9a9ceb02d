"""A group's coordinator that answers what it is told to, without a broker."""

from collections.abc import Coroutine
from typing import Any

import pytest


class Coordinator:
    """Stand in for aiokafka's client; `asked` is the last request, encoded and decoded like its answer."""

    def __init__(self, *answer: Any) -> None:
        self.cluster, self.answer = self, answer
        self.asked: Any = None

    def brokers(self):
        return ["one"]

    def broker_metadata(self, _node):
        return "one"

    async def coordinator_lookup(self, _kind, _group):
        return 1

    async def send(self, _node, request, group):
        self.asked = request.prepare({13: (0, 5), 15: (0, 6)})  # what brokers understand of LeaveGroup, DescribeGroups
        found = self.asked.RESPONSE_TYPE(0, *self.answer)
        return type(found).decode(found.encode())


def answer(question: Coroutine[Any, Any, Any]) -> Any:
    """Run a question to its end, without a loop: nothing is waited for."""
    with pytest.raises(StopIteration) as done:
        question.send(None)
    return done.value.value
