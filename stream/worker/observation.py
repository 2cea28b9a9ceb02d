"""What a round adds to the counters, and what the gauges say when they are scraped."""

import time
from collections.abc import Sequence

from stream.core.manifest import Manifest
from stream.kafka.group.membership import Ownership
from stream.scoring.scorer import ChunkResult
from stream.worker.telemetry import Telemetry


def count_round(t: Telemetry, manifest: Manifest, works: Sequence[ChunkResult]) -> None:
    """Count a round that was committed."""
    now = time.time() * 1000
    t.transactions.labels("committed").inc()
    t.batch.observe(sum(w.records for w in works))
    for w in works:
        t.consumed.labels(w.partition).inc(w.records)
        t.published.labels(manifest.model).inc(len(w.scores))
        t.latency.observe((now - w.arrived).clip(0) / 1000)
        for i in manifest.published:
            t.scores.observe(w.intent[:, i], manifest.meaning.horizons[i])
        for reason, n in w.rejected.items():
            t.rejected.labels(reason).inc(n)
        t.foreign.inc(w.foreign)
        t.evicted.inc(w.evicted)
        t.displaced.inc(w.displaced)


def refresh_gauges(t: Telemetry, ownership: Ownership) -> None:
    """Bring the gauges of partitions and sessions up to date."""
    membership, now = ownership.current, time.time() * 1000
    owned = dict(membership.owned) if membership else {}
    for number, held in owned.items():
        mark, part = ownership.marks.get(number), held.part
        lag = mark.lag(part.position) if mark else 0
        # What waits came after what was scored last, and after the partition was last without a lag.
        began = max(part.clock, mark.since) if mark else 0
        age = max(now - began, 0) / 1000 if lag and began else 0
        t.lag.labels(number).set(lag)
        # What an open transaction holds back came when it was opened, however old the record before it is.
        t.lag_seconds.labels(number).set(min(age, mark.blocked) if mark and mark.waits else age)
        t.blocked.labels(number).set(mark.blocked if mark else 0)
    t.users.set(sum(len(held.part.store) for held in owned.values()))
    t.state_bytes.set(sum(held.part.store.bytes for held in owned.values()))
