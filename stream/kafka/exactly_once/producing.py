"""The committer on a thread of its own; made anew once its producer is lost (rules 5 and 7 of the protocol).

librdkafka has calls that outlast their timeout. Such a call is left to its thread: the thread, its committer and its
producer are never used again, and whatever the call comes to later is fenced by the producer that follows.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from stream.core.errors import FencedError
from stream.kafka.client.deadline import Deadline
from stream.kafka.exactly_once.transaction import Committer, ProducerLostError, Stand
from stream.kafka.group.membership import Membership
from stream.scoring.scorer import ChunkResult

T = TypeVar("T")
_LOOK = 0.25  # seconds between two looks at a call that runs
_TURN_SECONDS, _TURNS = 60.0, 3  # who is fenced so often within so long gives way: two processes take no turns
_SETTLED_SECONDS = 10.0  # after an outage coordinators may fence for what was on its way then


class OverdueError(Exception):
    """Raised where a call outlasts its deadline; it is left to its thread, and what it works on is used no more."""


class DaemonThread:
    """Run calls one after the other on a thread that keeps no process from ending."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, call: Callable[..., T], *given: Any) -> "asyncio.Future[T]":
        """Queue a call; return what the running loop can wait for."""
        found: Future[T] = Future()
        self._calls.put((found, lambda: call(*given)))
        return asyncio.wrap_future(found)

    async def finish(self, deadline: Deadline, call: Callable[..., T], *given: Any) -> T:
        """Return what a call comes to; raise OverdueError once it is over the deadline that it keeps."""
        running = self.submit(call, *given)
        running.add_done_callback(lambda done: done.cancelled() or done.exception())  # also of one that is left alone
        while not (await asyncio.wait({running}, timeout=_LOOK))[0]:
            if deadline.over:
                raise OverdueError(f"{deadline.running} does not return")
        return running.result()

    def leave(self, last: object = None) -> None:
        """End the thread after what is queued; the last reference to `last` ends there."""
        self._calls.put((Future(), lambda: last))
        self._calls.put(None)

    def _run(self) -> None:
        while item := self._calls.get():
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            del future, call, item  # a producer that was given up goes with its last call


class Producing:
    """The committer of now: `lost` until the first `renew`, and again once its producer is.

    `steady_since` tells whether Kafka answered throughout since a time (monotonic seconds).
    """

    def __init__(self, name: str, make: Callable[[], Committer], steady_since: Callable[[float], bool]) -> None:
        self.name, self._make, self._steady_since = name, make, steady_since
        self._committer: Committer | None = None
        self._thread: DaemonThread | None = None
        self._fences: list[float] = []  # when producers of ours were fenced, monotonic seconds
        self._unsure: list[float] = []  # when initialisations of ours had no answer: each may fence one that follows
        self.made_at = 0.0  # when the producer of now was made, with the login of then

    @property
    def lost(self) -> bool:
        """Tell whether there is no producer to commit with."""
        return self._committer is None

    async def renew(self) -> None:
        """Initialise another producer of this name, which fences and settles what went before.

        Raises ProducerLostError where Kafka does not answer, BrokerError where it refuses.
        """
        self.give_up()
        self.made_at = time.monotonic()
        self._committer, self._thread = self._make(), DaemonThread("committer")
        try:
            await self._call(self._committer.start)
        except ProducerLostError:
            self._unsure.append(time.monotonic())
            raise

    async def claim(self, partition: int) -> None:
        """See `Committer.claim`."""
        await self._call(self._now().claim, partition)

    async def commit(self, works: Sequence[ChunkResult], stands: Mapping[int, Stand], membership: Membership) -> None:
        """See `Committer.commit`."""
        await self._call(self._now().commit, works, stands, membership)

    async def abort(self) -> None:
        """Abort what is open, on the way out."""
        if self._committer:
            await self._call(self._committer.abort)

    def abort_now(self) -> None:
        """Abort what is open from any thread, on the way out after a failure."""
        if self._committer:
            self._committer.abort()

    def _now(self) -> Committer:
        if self._committer is None:
            raise ProducerLostError("there is no producer")
        return self._committer

    async def _call(self, call: Callable[..., Any], *given: Any) -> None:
        committer, thread = self._committer, self._thread
        assert committer and thread
        try:
            await thread.finish(committer.deadline, call, *given)
        except OverdueError as error:
            self._give_up(committer)
            raise ProducerLostError(str(error)) from error
        except ProducerLostError as error:
            self._give_up(committer)
            if error.fenced:
                self._check_fence(error, committer)
            raise

    def _give_up(self, committer: Committer) -> None:
        if self._committer is committer:
            self.give_up()

    def _check_fence(self, error: ProducerLostError, committer: Committer) -> None:
        """Raise FencedError where nothing but another process of this name explains that we are fenced."""
        now = time.monotonic()
        self._fences = [*(when for when in self._fences if now - when < _TURN_SECONDS), now]
        self._unsure = [when for when in self._unsure if now - when < _TURN_SECONDS]
        steady = self._steady_since(min(committer.proved, now - _SETTLED_SECONDS))
        ours = bool(self._unsure)
        del self._unsure[:1]
        if not committer.outlived and (len(self._fences) >= _TURNS or (steady and not ours)):
            raise FencedError(
                f"another process runs as {self.name} ({error})",
                "stop the other process, or give one of them another --name; nothing is lost",
            ) from error

    def give_up(self) -> None:
        """Leave the producer to its thread; the next one of its name fences it."""
        thread, committer = self._thread, self._committer
        self._committer = self._thread = None
        if thread:
            thread.leave(committer)
