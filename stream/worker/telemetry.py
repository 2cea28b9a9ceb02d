"""Every Prometheus series, declared once, and there from the start. The only home of prometheus_client.

A series that is born with its first value has no increase for Prometheus: the first burst would go unseen.
"""

import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, Info, Metric, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from stream.core.events import REASONS
from stream.core.manifest import Manifest
from stream.recommend import shop_catalog
from stream.worker.cgroup import memory_limit

_LONG = (30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)  # an outage is waited for, a recovery may take half an hour
_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, *_LONG)
_STAGE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_RECOVERY = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, *_LONG)
_SIZE = (1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536)
_PROBABILITY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


class ArrayHistogram(Collector):
    """A histogram that is fed whole arrays: the client's own takes one value a call."""

    def __init__(self, name: str, help_: str, buckets: Sequence[float], label: str = "") -> None:
        self._name, self._help, self._label = name, help_, label
        self._edges = np.array(buckets)
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, values: NDArray[Any], label: str = "") -> None:
        """Count an array of values."""
        counts = self.begin(label)
        counts += np.bincount(np.searchsorted(self._edges, values), minlength=len(counts))
        self._sums[label] += float(values.sum())

    def begin(self, label: str = "") -> NDArray[np.int64]:
        """Show a label, at 0 where nothing is counted yet; return its counts."""
        self._sums.setdefault(label, 0.0)
        return self._counts.setdefault(label, np.zeros(len(self._edges) + 1, np.int64))

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Give Prometheus the cumulative counts."""
        family = HistogramMetricFamily(self._name, self._help, labels=[self._label] if self._label else [])
        for label, counts in list(self._counts.items()):
            edges = [*(str(float(edge)) for edge in self._edges), "+Inf"]
            buckets = list(zip(edges, counts.cumsum().tolist(), strict=True))
            family.add_metric([label] if self._label else [], buckets, self._sums[label])
        yield family


class _Shown:
    """A registry's series as they are scraped: with the worker's own labels, without the times of their creation."""

    def __init__(self, registry: CollectorRegistry, own: dict[str, str]) -> None:
        self._registry, self._own = registry, own

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            kept = [s for s in family.samples if not s.name.endswith("_created")]
            family.samples = [s._replace(labels={**s.labels, **self._own}) for s in kept]
            yield family


class Telemetry:
    """The worker's series, in a registry of its own; with a group each has the labels `group` and `worker`.

    Alerts and panels tell groups apart by them, also of a worker that is gone, to which nothing could be joined.
    """

    def __init__(self, group: str = "", worker: str = "") -> None:
        self._own = {"group": group, "worker": worker} if group else {}
        self.registry = r = CollectorRegistry()
        self.consumed = Counter("forecart_events_consumed", "Input records taken up.", ["partition"], registry=r)
        self.rejected = Counter("forecart_events_rejected", "Dead letters written.", ["reason"], registry=r)
        self.lost = Counter(
            "forecart_events_lost", "Input deleted before it was scored, in offsets.", ["partition"], registry=r
        )
        self.published = Counter("forecart_scores_published", "Scores committed.", ["model"], registry=r)
        self.latency = ArrayHistogram(
            "forecart_event_to_score_seconds", "From a record's Kafka timestamp to its score's commit.", _LATENCY
        )
        self.scores = ArrayHistogram("forecart_score", "Purchase probabilities given.", _PROBABILITY, "horizon")
        for histogram in (self.latency, self.scores):
            r.register(histogram)
        self.stage = Histogram(
            "forecart_stage_seconds", "Time of a round's stages.", ["stage"], buckets=_STAGE, registry=r
        )
        self.batch = Histogram("forecart_batch_size", "Records in a round.", buckets=_SIZE, registry=r)
        self.lag = Gauge(
            "forecart_consumer_lag", "Records up to the high watermark not yet scored.", ["partition"], registry=r
        )
        self.lag_seconds = Gauge(
            "forecart_consumer_lag_seconds",
            "How long the oldest record that is not scored has waited, else 0; of a blocked partition how long it is.",
            ["partition"],
            registry=r,
        )
        self.blocked = Gauge(
            "forecart_input_blocked_seconds",
            "How long the last stable offset has stood below the high watermark while it was waited at, else 0.",
            ["partition"],
            registry=r,
        )
        self.users = Gauge("forecart_state_users", "Shoppers with a session in memory.", registry=r)
        self.state_bytes = Gauge("forecart_state_bytes", "Memory of the session records.", registry=r)
        self.evicted = Counter("forecart_state_evicted", "Sessions ended by their TTL.", registry=r)
        self.displaced = Counter("forecart_state_displaced", "Shoppers forgotten for others, by max_users.", registry=r)
        self.foreign = Counter(
            "forecart_state_foreign_partition", "Records whose key is not their shopper's id.", registry=r
        )
        self.catalog = Counter("forecart_catalog_records", "Records of the catalog taken up.", registry=r)
        self.catalog_rejected = Counter(
            "forecart_catalog_rejected", "Records of the catalog that are no item.", ["reason"], registry=r
        )
        self.catalog_silent = Gauge(
            "forecart_catalog_silent_seconds",
            "Since the catalog's topic last answered; 0 where none is read.",
            registry=r,
        )
        self.recovery = Histogram(
            "forecart_state_recovery_seconds", "Recovery of all partitions.", buckets=_RECOVERY, registry=r
        )
        self.recovering = Gauge("forecart_recovering", "1 while sessions are recovered.", registry=r)
        self.recovered_offsets = Gauge(
            "forecart_recovery_remaining", "Changelog offsets still to be read.", ["partition"], registry=r
        )
        self.passed_over = Counter(
            "forecart_recovery_passed_over", "Unseen items' records in the changelog that are none.", registry=r
        )
        self.rebalances = Counter("forecart_rebalances", "Assignments received.", registry=r)
        self.transactions = Counter("forecart_transactions", "Transactions by their end.", ["result"], registry=r)
        self.model = Info("forecart_model", "The model that scores.", registry=r)
        self.loads = Counter("forecart_model_loads", "Bundles loaded.", ["result"], registry=r)
        self.progress = Gauge("forecart_last_progress_timestamp_seconds", "When the loop last moved.", registry=r)
        self.reachable = Gauge("forecart_kafka_reachable", "1 while Kafka answers, else 0.", registry=r)
        self.build = Info(
            "forecart_build", "The running version, and the bundle's model once it is loaded.", registry=r
        )
        self.memory = Gauge("forecart_memory_limit_bytes", "What the process may take, by cgroup and host.", registry=r)
        self.memory.set_function(memory_limit)  # a pod may be resized while it runs
        ProcessCollector(registry=r)
        GCCollector(registry=r)
        self.build.info({"version": version("forecart"), "bundle": ""})
        self.latency.begin()
        for counter, values in (
            (self.rejected, REASONS),
            (self.catalog_rejected, shop_catalog.REASONS),
            (self.transactions, ("committed", "aborted", "rolled_back", "dropped")),
            (self.loads, ("success", "failure")),
            (self.stage, ("score", "commit")),
        ):
            for value in values:
                counter.labels(value)

    def load(self, manifest: Manifest) -> None:
        """Count a bundle that was loaded, and show what its model will be counted under."""
        self.loads.labels("success").inc()
        self.model.info({"version": manifest.model, "items": str(manifest.items)})
        self.build.info({"version": version("forecart"), "bundle": manifest.model})
        self.published.labels(manifest.model)
        for horizon in manifest.meaning.horizons:
            self.scores.begin(horizon)

    def hear_catalog(self, reason: str) -> None:
        """Count a record of the catalog; without a reason it was taken up."""
        (self.catalog_rejected.labels(reason) if reason else self.catalog).inc()

    def observe_stage(self, stage: str, began: float) -> float:
        """Time a stage from `began` (perf_counter) to now; return now."""
        now = time.perf_counter()
        self.stage.labels(stage).observe(now - began)
        return now

    def own(self, partitions: set[int]) -> None:
        """Show the counters of partitions, and drop the gauges of those that are no longer this worker's."""
        for number in partitions:
            self.consumed.labels(number)
            self.lost.labels(number)
        for gauge in (self.lag, self.lag_seconds, self.blocked, self.recovered_offsets):
            for (partition,) in list(gauge._metrics):
                if int(partition) not in partitions:
                    gauge.remove(partition)

    def render(self, accept: str) -> tuple[str, bytes]:
        """Return (content type, body) in the exposition format that the scraper accepts."""
        encoder, content_type = choose_encoder(accept)
        return content_type, encoder(_Shown(self.registry, self._own))

    def names(self) -> set[str]:
        """Name every series as Prometheus will see it."""
        found = set()
        suffixes = {"counter": ["_total"], "gauge": [""], "info": ["_info"], "histogram": ["_bucket", "_sum", "_count"]}
        for family in self.registry.collect():
            found |= {family.name + suffix for suffix in suffixes[family.type]}
        return found
