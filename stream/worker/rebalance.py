"""Sessions of an assignment come back, and a membership is proven, before anything is scored.

The same happens after each lost producer, after an outage, and after an abort that leaves the membership in doubt.
What is not in the changelog is undone in memory; after any other abort that is all. While Kafka is away it waits, for
as long as it takes.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from stream.core.errors import AbortedError, FencedError, UnreachableError
from stream.kafka.client.errors import Kind
from stream.kafka.client.reachability import Reachability
from stream.kafka.exactly_once.changelog import Progress, Recovery
from stream.kafka.exactly_once.producing import DaemonThread, OverdueError, Producing
from stream.kafka.exactly_once.transaction import Aborted, ProducerLostError, Stand
from stream.kafka.group.membership import Membership, Ownership, PartitionState
from stream.worker.telemetry import Telemetry

log = logging.getLogger(__name__)
_ABORTS, _ABORTS_SECONDS = 5, 600.0  # more aborted transactions in so long a time end the process
_REFUSED = (Kind.REFUSED, Kind.FAULT)  # Kafka would refuse the same again, as far as its error says
_IN_DOUBT = (*_REFUSED, Kind.MEMBERSHIP)  # whether we may write is proven by a recovery
_HEARTBEAT_SECONDS, _LOOK_SECONDS = 3.0, 0.2
_PROGRESS_SECONDS = 2.0  # between two lines of a recovery's progress
_REST_SECONDS = (0.5, 10.0)  # between two attempts: at first, and at most
_REBALANCE_SECONDS = 90.0  # Kafka's bound of a rebalance is 60; then what was kept is caught up


class Rebalancer:
    """Recover what a rebalance brings, what an abort takes, and what an outage leaves; or roll an abort back."""

    def __init__(
        self,
        producing: Producing,
        recovery: Recovery,
        ownership: Ownership,
        telemetry: Telemetry,
        seek: Callable[[dict[int, int]], Awaitable[None]],
        fail: Callable[[BaseException], None],
        kafka: Reachability,
        on_scorer: Callable[..., Awaitable[Any]],
        moved: Callable[[], None],
    ) -> None:
        """`on_scorer` calls on the thread that scores; `moved` is called whenever a recovery gets on."""
        self.producing, self.recovery = producing, recovery
        self.ownership, self.telemetry = ownership, telemetry
        self.seek, self.fail = seek, fail
        self.stopping = False
        self.waiting = ""  # what for, between two attempts
        self._kafka, self._on_scorer, self._moved = kafka, on_scorer, moved
        self._proven: Membership | None = None  # the last one whose partitions were recovered
        self._thread = DaemonThread("recovery")
        self._aborts: deque[float] = deque(maxlen=_ABORTS)

    @property
    def recovering(self) -> bool:
        """Tell whether partitions are assigned whose recovery is not done."""
        return self.ownership.current is not None and not self.recovered and not self.stopping

    @property
    def recovered(self) -> bool:
        """Tell whether all partitions of the current membership are recovered, and it was proven."""
        return self._proven is not None and self.ownership.current is self._proven

    def why_not(self) -> str:
        """Return why nothing is scored; a rebalance that leaves a worker all it had is no reason while it lasts."""
        membership = self.ownership.current
        if self.stopping:
            return "stopping"
        if self.recovered:
            return ""
        keeps = self._proven is not None and (membership is None or membership.whole)
        if keeps and time.monotonic() - self.ownership.dropped_at < _REBALANCE_SECONDS:
            return ""
        return "not assigned" if membership is None else self.waiting or "recovering"

    def _note_abort(self, error: Aborted) -> None:
        self.telemetry.transactions.labels("aborted").inc()
        log.warning("a transaction was aborted, its partitions are restored: %s", error)
        if not (error.replaced or error.why in _REFUSED):
            return
        now = time.monotonic()
        if len(self._aborts) == _ABORTS and now - self._aborts[0] < _ABORTS_SECONDS:
            if error.replaced:
                raise FencedError(
                    f"another process runs as {self.producing.name} ({error})",
                    "stop the other process, or give one of them another --name; nothing is lost",
                )
            raise AbortedError(
                f"more than {_ABORTS} transactions were aborted within {_ABORTS_SECONDS:.0f} s, the last one: {error}",
                "look at the brokers' health; a restart goes on from the last commit",
            )
        self._aborts.append(now)

    async def begin_again(self, membership: Membership, error: Aborted | ProducerLostError | None) -> None:
        """Restore what a transaction held that was aborted, or whose end is not known; a failure ends the process.

        What is not in the changelog is undone in memory. An abort is over with that where nothing else is wrong; else
        sessions are caught up. Without an error an outage has ended: producer and membership are proven anew before
        events come, since librdkafka hangs on a coordinator that it remembers.
        """
        self._moved()
        try:
            if error:
                self._note(error)
            else:
                self.producing.give_up()
            certain = isinstance(error, Aborted) and error.why not in _IN_DOUBT
            owned, renewed = membership.owned, self.ownership.renew(membership)
            if renewed is None:
                return
            self._proven = renewed if certain else None
            membership.owned = {}  # no other round begins in them
            await self._on_scorer(_take_back, list(owned.values()))
            if self.ownership.current is not renewed:
                return
            if certain:
                await self._go_on(renewed, owned)
            else:
                renewed.kept.update(owned)
                await self._until_recovered(renewed, set(owned))
        except Exception as failure:
            self.fail(failure)

    async def place_again(self, membership: Membership) -> None:
        """Recover where partitions stand, their clean sessions kept; a failure ends the process."""
        self._moved()
        try:
            partitions = set(membership.owned)
            if renewed := self.ownership.renew(membership, keep=True):
                await self._until_recovered(renewed, partitions)
        except Exception as failure:
            self.fail(failure)

    async def _go_on(self, membership: Membership, owned: dict[int, PartitionState]) -> None:
        """Go on from where sessions stand; nothing is read."""
        await self.seek({number: held.part.position for number, held in owned.items()})
        membership.owned.update(owned)
        self.telemetry.transactions.labels("rolled_back").inc()
        log.info("rolled back to positions %s", {number: held.part.position for number, held in owned.items()})

    async def recover(self, partitions: set[int]) -> None:
        """Recover the partitions of a new assignment; a failure ends the process."""
        try:
            if membership := self.ownership.current:
                self.telemetry.rebalances.inc()
                self.telemetry.own(partitions)
                await self._until_recovered(membership, partitions)
        except Exception as error:
            self.fail(error)

    async def _until_recovered(self, membership: Membership, partitions: set[int]) -> None:
        """Recover, again after each abort and outage, until it is done or the membership ended."""
        rest = _REST_SECONDS[0]
        while not self.stopping:
            try:
                await self._kafka.wait(partial(self._wanted, membership))
                if not self._wanted(membership):
                    return
                if self.producing.lost and partitions:
                    await self.producing.renew()
                return await self._recover(membership, partitions)
            except Aborted as error:
                self._note(error)
                # A heartbeat will tell whose the membership is, or that it is over: until then the same happens again.
                await self._rest(membership, _HEARTBEAT_SECONDS if error.replaced else rest)
            except (ProducerLostError, UnreachableError) as error:
                self._note(error)
                self.recovery.reopen()
                await self._rest(membership, rest)
            except OverdueError as error:
                self._leave(error)
                await self._rest(membership, rest)
            rest = min(2 * rest, _REST_SECONDS[1])
            renewed = self.ownership.renew(membership)
            if renewed is None:
                return
            membership = renewed

    def _note(self, error: Aborted | ProducerLostError | UnreachableError) -> None:
        self._moved()
        if isinstance(error, Aborted):
            return self._note_abort(error)
        self._tell(error)

    def _tell(self, error: Exception) -> None:
        self.waiting = f"Kafka does not do what is asked: {error}"
        log.warning("%s; the partitions are recovered", error)

    def _leave(self, error: OverdueError) -> None:
        """Leave a call to its thread with all that it works on; no progress, so that one that hangs again is found."""
        self._tell(error)
        self._thread.leave(self.recovery)
        self._thread, self.recovery = DaemonThread("recovery"), self.recovery.anew()

    async def _rest(self, membership: Membership, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._wanted(membership) and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _LOOK_SECONDS))

    def _wanted(self, membership: Membership) -> bool:
        return self.ownership.current is membership and not self.stopping

    async def _recover(self, membership: Membership, partitions: set[int]) -> None:
        """Recover, then commit the positions: this proves membership and producer before anything is scored."""
        began = time.monotonic()
        self.telemetry.recovering.set(1)
        found: dict[int, PartitionState] | None = {}
        if partitions:
            await self.producing.claim(min(partitions))
            found = await self._thread.finish(self.recovery.deadline, self._recover_all, partitions, membership)
        if found is None:
            log.info("recovery dropped: its membership ended, or the worker stops")
            return
        if found:
            stands = {number: Stand.of(held) for number, held in found.items()}
            await self.producing.commit([], stands, membership)
        for number, held in found.items():
            held.confirm()
            self.telemetry.lost.labels(number).inc(held.lost)
            held.lost = 0
        # What is owned is fetched: first the consumer must stand where the sessions do.
        await self.seek({number: held.part.position for number, held in found.items()})
        membership.owned.update(found)
        self.telemetry.recovering.set(0)
        self.telemetry.recovery.observe(time.monotonic() - began)
        self._proven, self.waiting = membership, ""

    def _recover_all(self, partitions: set[int], membership: Membership) -> dict[int, PartitionState] | None:
        kept = {number: membership.kept.pop(number, None) for number in sorted(partitions)}
        remaining: dict[int, int] = {}
        told = time.monotonic()

        def wanted() -> bool:
            return self._wanted(membership)

        def progress(at: Progress) -> None:
            nonlocal told
            if not wanted():
                return
            self._moved()
            remaining[at.partition] = max(at.end - at.at, 0)
            self.telemetry.recovered_offsets.labels(at.partition).set(remaining[at.partition])
            if (now := time.monotonic()) - told > _PROGRESS_SECONDS:
                told = now
                log.info("recovering: %d changelog records remain", sum(remaining.values()))

        return self.recovery.recover(kept, wanted, progress)


def _take_back(owned: list[PartitionState]) -> None:
    for held in owned:
        held.take_back()
