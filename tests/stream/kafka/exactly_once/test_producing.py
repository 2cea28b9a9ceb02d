"""A producer that is lost is followed by another one; who is fenced ends only where nothing else explains it."""

import asyncio
import threading
import time
from unittest.mock import patch

import pytest

from stream.core.errors import FencedError
from stream.kafka.client.deadline import Deadline
from stream.kafka.exactly_once.producing import DaemonThread, Producing
from stream.kafka.exactly_once.transaction import ProducerLostError


class Committer:
    """Do as told."""

    def __init__(self) -> None:
        self.proved, self.outlived, self.deadline = 1.0, False, Deadline()
        self.error: Exception | None = None
        self.hangs = threading.Event()
        self.hangs.set()

    def start(self) -> None:
        pass

    def claim(self, _partition: int) -> None:
        with self.deadline.of("commit_transaction", 0.0):
            self.hangs.wait(20)
        if self.error:
            raise self.error


class Made:
    """Make committers, and remember them."""

    def __init__(self, steady: bool = True) -> None:
        self.all: list[Committer] = []
        self.producing = Producing("w0", self.make, lambda _when: steady)

    def make(self) -> Committer:
        self.all.append(Committer())
        return self.all[-1]

    def lose(self, fenced: bool, outlived: bool = False) -> None:
        """Initialise a producer, and let its next call lose it."""

        async def main() -> None:
            await self.producing.renew()
            self.all[-1].error, self.all[-1].outlived = ProducerLostError("told to", fenced), outlived
            await self.producing.claim(0)

        asyncio.run(main())


def test_a_lost_producer_is_used_no_more():
    made = Made()
    with pytest.raises(ProducerLostError):
        made.lose(fenced=False)
    assert made.producing.lost
    with pytest.raises(ProducerLostError, match="there is no producer"):
        asyncio.run(made.producing.claim(0))


def test_a_call_past_its_deadline_is_left_to_its_thread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stream.kafka.exactly_once.producing._LOOK", 0.01)
    monkeypatch.setattr("stream.kafka.client.deadline._OVERDUE_SECONDS", 0.05)
    made = Made()

    async def main() -> None:
        await made.producing.renew()
        first = made.all[0]
        first.hangs.clear()
        with pytest.raises(ProducerLostError, match="commit_transaction does not return"):
            await made.producing.claim(0)
        await made.producing.renew()
        await made.producing.claim(0)
        first.hangs.set()

    asyncio.run(main())
    assert len(made.all) == 2


@pytest.mark.parametrize(
    ("steady", "outlived", "error"),
    [(True, False, FencedError), (False, False, ProducerLostError), (True, True, ProducerLostError)],
)
def test_who_is_fenced_ends_where_nothing_but_another_process_explains_it(steady, outlived, error):
    made = Made(steady)
    with pytest.raises(error):
        made.lose(fenced=True, outlived=outlived)


def test_two_processes_take_no_turns():
    made = Made(steady=False)
    for _ in range(2):
        with pytest.raises(ProducerLostError):
            made.lose(fenced=True)
    with pytest.raises(FencedError, match="another process runs as w0"):
        made.lose(fenced=True)


def test_an_outage_explains_a_fence_for_a_while_after_it():
    """A coordinator that has come back still ends what was on its way then, though a producer was made since."""
    made, returned = Made(), time.monotonic()
    made.producing._steady_since = lambda when: when > returned
    for _ in range(2):
        with pytest.raises(ProducerLostError):
            made.lose(fenced=True)


def test_what_was_given_up_ends_on_its_own_thread():
    ended: list[str] = []

    class Last:
        def __del__(self) -> None:
            ended.append(threading.current_thread().name)

    thread = DaemonThread("own")
    thread.leave(Last())
    deadline = threading.Event()
    while not ended and not deadline.wait(0.01):
        pass
    assert ended == ["own"]


def test_an_initialisation_of_ours_that_had_no_answer_explains_one_fence():
    made = Made()
    with patch.object(Committer, "start", side_effect=ProducerLostError("no answer")), pytest.raises(ProducerLostError):
        asyncio.run(made.producing.renew())
    with pytest.raises(ProducerLostError):
        made.lose(fenced=True)
    with pytest.raises(FencedError):
        made.lose(fenced=True)
