"""Sessions of an assignment come back, and a membership is proven, before anything is scored.

The same happens after each aborted transaction, whose sessions are forgotten; too many of those end the process.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from stream.core.errors import AbortedError, FencedError
from stream.kafka.commit import Aborted, Committer, Stand
from stream.kafka.membership import Membership, Owned, Ownership
from stream.kafka.recovery import Progress, Recovery
from stream.telemetry import Telemetry

log = logging.getLogger(__name__)
_ABORTS, _ABORTS_SECONDS = 5, 600.0  # more aborted transactions in so long a time end the process
_HEARTBEAT_SECONDS = 3.0
_PROGRESS_SECONDS = 2.0  # between two lines of a recovery's progress


class Threads(NamedTuple):
    """Ways to call on the scorer's thread, and on the committer's."""

    scorer: Callable[..., Awaitable[Any]]
    committer: Callable[..., Awaitable[Any]]


class Restorer:
    """Recover what a rebalance brings or an abort takes, on the committer's thread; roll back on the scorer's."""

    def __init__(
        self,
        committer: Committer,
        recovery: Recovery,
        ownership: Ownership,
        telemetry: Telemetry,
        seek: Callable[[dict[int, int]], Awaitable[None]],
        fail: Callable[[BaseException], None],
        threads: Threads,
        moved: Callable[[], None],
    ) -> None:
        """`moved` is called whenever a recovery gets on."""
        self.committer, self.recovery = committer, recovery
        self.ownership, self.telemetry = ownership, telemetry
        self.seek, self.fail = seek, fail
        self.recovered = self.stopping = False
        self._threads, self._on, self._moved = threads, threads.committer, moved
        self._late = 0  # rounds that took too long, since one got through
        self._aborts: deque[float] = deque(maxlen=_ABORTS)

    def got_through(self) -> None:
        """Note that a round is in the changelog."""
        self._late = 0

    def _note_abort(self, error: Aborted) -> None:
        self.telemetry.transactions.labels("aborted").inc()
        log.warning("a transaction was aborted, its partitions are restored: %s", error)
        if error.acknowledged and error.late and self._late < _ABORTS:
            self._late += 1  # the next round is smaller
            return
        now = time.monotonic()
        if len(self._aborts) == _ABORTS and now - self._aborts[0] < _ABORTS_SECONDS:
            if error.replaced:
                raise FencedError(
                    f"another process runs as {self.committer.name} ({error})",
                    "stop the other process, or give one of them another --name; nothing is lost",
                )
            raise AbortedError(
                f"more than {_ABORTS} transactions were aborted within {_ABORTS_SECONDS:.0f} s, the last one: {error}",
                "look at the brokers' health; a restart goes on from the last commit",
            )
        self._aborts.append(now)

    async def begin_again(self, membership: Membership, error: Aborted) -> None:
        """Restore what an aborted transaction held; a failure ends the process."""
        try:
            self._note_abort(error)
            partitions = set(membership.owned)
            if renewed := self.ownership.renew(membership):
                if error.acknowledged:
                    await self._roll_back(membership, renewed)
                else:
                    await self._until_recovered(renewed, partitions)
        except Exception as failure:
            self.fail(failure)

    async def _roll_back(self, old: Membership, new: Membership) -> None:
        """Undo what is not in the changelog, on the thread that scores, and go on from there; nothing is read."""
        owned, old.owned = old.owned, {}  # no other round begins in them
        await self._threads.scorer(_take_back, list(owned.values()))
        if self.ownership.current is not new:
            return
        await self.seek({number: held.part.position for number, held in owned.items()})
        new.owned.update(owned)
        self.telemetry.transactions.labels("rolled_back").inc()
        log.info("rolled back to positions %s", {number: held.part.position for number, held in owned.items()})

    async def recover(self, partitions: set[int]) -> None:
        """Recover the partitions of a new assignment; a failure ends the process."""
        try:
            if membership := self.ownership.current:
                self.telemetry.rebalances.inc()
                self.telemetry.forget_partitions(partitions)
                await self._until_recovered(membership, partitions)
        except Exception as error:
            self.fail(error)

    async def _until_recovered(self, membership: Membership, partitions: set[int]) -> None:
        """Recover, again after each abort, until it is done or the membership ended."""
        while True:
            try:
                return await self._recover(membership, partitions)
            except Aborted as error:
                self._note_abort(error)
                if error.replaced:  # a heartbeat will tell whose the membership is
                    await asyncio.sleep(_HEARTBEAT_SECONDS)
            renewed = self.ownership.renew(membership)
            if renewed is None:
                return
            membership = renewed

    async def _recover(self, membership: Membership, partitions: set[int]) -> None:
        """Recover, then commit the positions: this proves membership and producer before anything is scored."""
        self.recovered, began = False, time.monotonic()
        self.telemetry.recovering.set(1)
        found: dict[int, Owned] | None = {}
        if partitions:
            await self._on(self.committer.claim, min(partitions))
            found = await self._on(self._recover_all, partitions, membership)
        if found is None:
            log.info("recovery dropped: its membership ended, or the worker stops")
            return
        if found:
            stands = {number: Stand.of(held) for number, held in found.items()}
            await self._on(self.committer.commit, [], stands, membership)
        # What is owned is fetched: first the consumer must stand where the sessions do.
        await self.seek({number: held.part.position for number, held in found.items()})
        membership.owned.update(found)
        self.telemetry.recovering.set(0)
        self.telemetry.recovery.observe(time.monotonic() - began)
        self.recovered = self.ownership.current is membership

    def _recover_all(self, partitions: set[int], membership: Membership) -> dict[int, Owned] | None:
        kept = {number: membership.kept.pop(number, None) for number in sorted(partitions)}
        remaining: dict[int, int] = {}
        told = time.monotonic()

        def wanted() -> bool:
            return self.ownership.current is membership and not self.stopping

        def progress(at: Progress) -> None:
            nonlocal told
            self._moved()
            remaining[at.partition] = max(at.end - at.at, 0)
            self.telemetry.recovered_offsets.labels(at.partition).set(remaining[at.partition])
            if (now := time.monotonic()) - told > _PROGRESS_SECONDS:
                told = now
                log.info("recovering: %d changelog records remain", sum(remaining.values()))

        return self.recovery.recover(kept, wanted, progress)


def _take_back(owned: list[Owned]) -> None:
    for held in owned:
        held.take_back()
