"""Rounds: the batches at hand are scored and committed together while the next ones arrive.

What came in during a round is the next round: alone and at once when the topic is idle, many chunks when it is
behind. One thread scores while another commits the round before; the event loop stays free for heartbeats. A round
begins as late as it can without the commit before it having to wait: the more it takes along, the fewer commits lie
before what comes next.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from stream.core.errors import FaultError, StuckError
from stream.core.linger import Linger, Load
from stream.kafka.client.reachability import Reachability
from stream.kafka.exactly_once.changelog import Recovery
from stream.kafka.exactly_once.producing import Producing
from stream.kafka.exactly_once.transaction import Aborted, ProducerLostError, Stand
from stream.kafka.group.membership import Batch, Membership, Ownership, PartitionState, apart, joined
from stream.scoring.scorer import ChunkResult, Scorer
from stream.scoring.undo import noting
from stream.worker.observation import count_round, refresh_gauges
from stream.worker.rebalance import Rebalancer
from stream.worker.telemetry import Telemetry

log = logging.getLogger(__name__)
T = TypeVar("T")
_STRAY_SECONDS = 0.05  # between two looks whether all that was read is committed
_DRAIN_SECONDS = 9.0  # for the running round on the way out: with the abort after it, below 15


@dataclass(slots=True)
class _Scored:
    """A round: what it comes to, where it leaves each partition, how much it is, and for what it had no room."""

    works: list[ChunkResult] = field(default_factory=list)
    stands: dict[int, Stand] = field(default_factory=dict)
    load: Load = field(default_factory=Load)
    rest: list[Batch] = field(default_factory=list)

    def add(self, batches: list[tuple[Batch, PartitionState]], works: list[ChunkResult]) -> None:
        """Add a group of batches that was scored."""
        self.works += works
        self.stands |= {batch.partition: Stand.of(held) for batch, held in batches}
        read = sum(batch.bytes for batch, _ in batches)
        self.load = self.load.plus(Load(sum(w.records for w in works), read, sum(w.bytes for w in works)))


class Engine:
    """Take batches, score them in rounds, commit each round; its restorer recovers what a rebalance brings."""

    def __init__(
        self,
        scorer: Scorer,
        producing: Producing,
        recovery: Recovery,
        ownership: Ownership,
        telemetry: Telemetry,
        pace: Linger,
        seek: Callable[[dict[int, int]], Awaitable[None]],
        fail: Callable[[BaseException], None],
        kafka: Reachability,
    ) -> None:
        self.scorer, self.producing, self.kafka = scorer, producing, kafka
        self.ownership, self.telemetry, self.fail = ownership, telemetry, fail
        self.moved = time.monotonic()
        self._pace = pace
        self._adapt()
        self._pending: list[Batch] = []
        self._came, self._room = asyncio.Event(), asyncio.Event()
        self._scoring = ThreadPoolExecutor(1, "scorer")
        self._outages = 0  # how many were met, of those that ended
        self._last: asyncio.Task[None] | None = None  # the newest commit
        self._straying: asyncio.Task[None] | None = None
        self._flying = 0  # rounds that are being scored or committed
        self._idle = asyncio.Event()
        self._idle.set()
        on_scorer = partial(self._in, self._scoring)
        self.restorer = Rebalancer(producing, recovery, ownership, telemetry, seek, fail, kafka, on_scorer, self._move)

    def _adapt(self) -> None:
        """Tell the fetches what the next rounds have room for."""
        owners, pace = self.ownership, self._pace
        owners.chunk, owners.part, owners.fetch = pace.chunk, pace.part, pace.fetch

    @property
    def at_work(self) -> bool:
        """Tell whether batches wait or a round runs."""
        return bool(self._pending) or not self._idle.is_set()

    def _move(self) -> None:
        self.moved = time.monotonic()

    async def take(self, batch: Batch) -> None:
        """Accept a batch, once there is room for it; drop it where the worker stops."""
        while self._pace.full(self._waiting()) and not self.restorer.stopping:
            self._room.clear()
            await self._room.wait()
        if self.restorer.stopping:
            return
        if not self.at_work:
            self._move()
        self._pending.append(batch)
        self._came.set()

    def close(self) -> None:
        """Begin nothing more, and let go of what waits for room: in an outage there would be none."""
        self.restorer.stopping = True
        self._room.set()

    async def run(self) -> None:
        """Run rounds for ever; whatever goes wrong ends the process."""
        try:
            while True:
                await self._came.wait()
                self._came.clear()
                if self._outages != self.kafka.outages:
                    await self._after_outage()
                if not self._pending:
                    continue
                if (spare := self._spare()) > 0:
                    asyncio.get_running_loop().call_later(spare, self._came.set)
                    continue
                batches = self._next()
                self._room.set()
                membership = self.ownership.current
                if membership and not self.restorer.stopping:
                    await self._round(batches, membership)
        except Exception as error:
            self.fail(error)

    def meet_outage(self) -> None:
        """Look whether an outage has ended, before events come."""
        self._came.set()

    async def _after_outage(self) -> None:
        """Recover after an outage, unless the producer of now began after it and with the login of now."""
        self._outages = self.kafka.outages
        if self._last:
            await self._last
        membership = self.ownership.current
        works = self.producing.made_at > max(self.kafka.since, self.kafka.renewed_at)
        if not membership or not self.restorer.recovered or works:
            return
        self._flying += 1
        self._idle.clear()
        try:
            await self.restorer.begin_again(membership, None)
        finally:
            self._land()

    def _land(self) -> None:
        self._flying -= 1
        if not self._flying:
            self._idle.set()

    def _waiting(self) -> Load:
        return Load(sum(len(batch.records) for batch in self._pending), sum(batch.bytes for batch in self._pending))

    def _spare(self) -> float:
        """Return for how long (seconds) the running commit outlasts the scoring of what waits; 0 where none runs."""
        return (
            self._pace.spare(time.monotonic(), self._waiting().events) if self._last and not self._last.done() else 0.0
        )

    def _next(self) -> list[Batch]:
        taken = self._pace.fits(Load(len(batch.records), batch.bytes) for batch in self._pending)
        batches, self._pending = self._pending[:taken], self._pending[taken:]
        if self._pending:
            self._came.set()
        return batches

    def stray(self, membership: Membership, handed: Mapping[int, int]) -> None:
        """Find out where partitions go on whose next offset the input does not have; `handed` is what came of them."""
        self._straying = asyncio.create_task(self._place_again(membership, handed))

    async def _place_again(self, membership: Membership, handed: Mapping[int, int]) -> None:
        """Score and commit what was read, then recover: it tells what is lost from what is damaged."""

        def pending() -> bool:
            owned = membership.owned
            return self.at_work or any(n in owned and owned[n].part.position < at for n, at in handed.items())

        while self.ownership.current is membership and pending():
            await asyncio.sleep(_STRAY_SECONDS)
        await self.restorer.place_again(membership)

    async def settle(self) -> None:
        """Wait for what is being scored or committed: on revocation, and before the end."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Finish the running round, begin no other, give up a recovery, leave nothing open.

        What an outage keeps from ending is left to the next start.
        """
        began = time.monotonic()
        self.close()
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self.settle()
                await self.producing.abort()
        except (TimeoutError, ProducerLostError):
            if not self.kafka.steady_since(began):
                return log.warning("Kafka is away: what is open is settled by the next start")
            self.fail(
                StuckError(f"what was running did not end within {_DRAIN_SECONDS:.0f} s", "a restart goes on from it")
            )

    async def _round(self, batches: list[Batch], membership: Membership) -> None:
        """Score, while the round before is being committed; then commit, while the next one is being scored."""
        self._flying += 1
        self._idle.clear()
        scored = await self._in(self._scoring, self._score_all, batches, membership)
        self._move()
        if scored.rest:
            self._pending = scored.rest + self._pending
            self._came.set()
        if self._last:
            await self._last
        self._last = asyncio.create_task(self._commit(scored, membership))

    async def _commit(self, scored: _Scored, membership: Membership) -> None:
        works, stands = scored.works, scored.stands
        try:
            if works and self.ownership.current is not membership:
                self.telemetry.transactions.labels("dropped").inc()
                log.info("a round was dropped: its membership ended")
            elif works:
                began = time.perf_counter()
                self.ownership.rest_until = self._pace.commits(time.monotonic())
                await self.producing.commit(works, stands, membership)
                self._pace.committed(scored.load, self.telemetry.observe_stage("commit", began) - began)
                self._adapt()
                for stand in stands.values():
                    stand.held.confirm()
                    stand.held.rounds.popleft()
                count_round(self.telemetry, self.scorer.manifest, works)
        except (Aborted, ProducerLostError) as error:
            self._pace.aborted(scored.load)
            self._adapt()
            await self.restorer.begin_again(membership, error)
        except Exception as error:
            self.fail(error)
        finally:
            self._move()
            self._came.set()
            self._land()

    @staticmethod
    def _in(thread: ThreadPoolExecutor, call: Callable[..., T], *given: Any) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(thread, call, *given)

    def _score_all(self, batches: list[Batch], membership: Membership) -> _Scored:
        """Score batches in groups, until the round is full."""
        began, found = time.perf_counter(), _Scored()
        chunk, part = self.ownership.chunk, self.ownership.part
        # A user's last event of a round is told in one chunk of its partition.
        whole = joined(batches, sys.maxsize) if self.scorer.clock.last else joined(batches, chunk, part)
        groups = apart(whole, chunk, part)
        for group in groups:
            fit = []
            for batch in group:
                if held := self._begin(batch, membership, batch.partition not in found.stands):
                    fit.append((batch, held))
            found.add(fit, self._score(fit))
            if found.load.bytes >= self._pace.room:
                break
        found.rest = [batch for group in groups for batch in group]
        if found.works:
            scored = self.telemetry.observe_stage("score", began)
            self._pace.scored(found.load, scored - began)
            self._adapt()
        return found

    @staticmethod
    def _begin(batch: Batch, membership: Membership, first: bool) -> PartitionState | None:
        """Return what a batch is scored into, counted before it is; None where that is another membership's.

        Who takes a partition over takes it from its membership, then looks at the count: one of the two sees the other.
        """
        held = membership.owned.get(batch.partition)
        if not held or batch.membership is not membership or batch.end <= held.part.position:
            return None
        if first:
            held.begin()
        if membership.owned.get(batch.partition) is held:
            return held
        if first:
            held.rounds.pop()
        return None

    def _score(self, batches: list[tuple[Batch, PartitionState]]) -> list[ChunkResult]:
        """Score batches of different partitions, from where their sessions stand."""
        chunks = []
        for batch, held in batches:
            part, records = held.part, batch.records
            if batch.start > part.position:
                raise FaultError(
                    f"partition {part.number}: a batch begins at {batch.start}, expected was {part.position}",
                    "a restart goes on from the last commit; please report it",
                )
            if batch.start < part.position:
                records = [record for record in records if record.offset >= part.position]
            chunks.append((part, records))
        with ExitStack() as notes:
            for (_, held), (part, records) in zip(batches, chunks, strict=True):
                held.rounds[-1].undos.append(notes.enter_context(noting(part, len(records))))
            works = self.scorer.process_all(chunks, int(time.time() * 1000)) if chunks else []
        for batch, held in batches:
            held.part.position = batch.end
        return works

    def refresh(self) -> None:
        """Bring the gauges up to date, when they are scraped."""
        refresh_gauges(self.telemetry, self.ownership)
        # Without work it moves with each fetch that is tried: an idle worker is not a stuck one.
        moved = self.moved if self.at_work else max(self.moved, self.ownership.fetched_at)
        self.telemetry.progress.set(time.time() - (time.monotonic() - moved))
        self.telemetry.reachable.set(self.kafka.reachable)

    def live(self, limit: float) -> str:
        """Return why the worker is not live: a batch waits, or no fetch is tried, for `limit` seconds.

        A recovery may stand still for its own patience beyond that. An unreachable Kafka is no reason: fetches are
        tried and bring nothing, rounds and recoveries wait for it.
        """
        now, membership = time.monotonic(), self.ownership.current
        stood, longest = now - max(self.moved, self.ownership.taken_at), limit + self.restorer.recovery.patience
        if self.restorer.recovering and stood > longest and self.kafka.steady_since(now - longest):
            return f"recovering, but nothing moved for {stood:.0f} s"
        if self.at_work and now - self.moved > limit and self.kafka.steady_since(now - limit):
            return f"no progress for {now - self.moved:.0f} s with work at hand"
        if membership and membership.owned and now - self.ownership.fetched_at > limit:
            return f"nothing was asked of Kafka for {now - self.ownership.fetched_at:.0f} s"
        return ""

    def ready(self) -> str:
        """Return why the worker is not ready: Kafka answers, partitions are assigned and recovered, model loaded."""
        return self.kafka.why_not() or self.restorer.why_not()
