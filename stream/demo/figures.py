"""A worker's own metrics, read as any scraper would."""

import re
from dataclasses import dataclass

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*?)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Figures:
    """What the demo shows of a worker; latencies in seconds."""

    lag: int = 0
    shoppers: int = 0
    median: float = 0.0
    p99: float = 0.0
    counts: tuple[float, ...] = ()  # of the latency's buckets, since the worker's start


def read_figures(text: str, before: Figures | None = None) -> Figures:
    """Read the figures from an exposition, latencies of what came after `before`; what is missing is 0.

    >>> read_figures('forecart_consumer_lag{partition="0"} 3.0').lag
    3
    """
    samples = [(name, labels, float(value)) for name, labels, value in _SAMPLE.findall(text)]
    buckets = [
        (float(labels.split('le="')[1].split('"')[0].replace("+Inf", "inf")), value)
        for name, labels, value in samples
        if name == "forecart_event_to_score_seconds_bucket"
    ]
    counts = tuple(count for _, count in buckets)
    if before and len(before.counts) == len(counts):
        buckets = [(edge, n - old) for (edge, n), old in zip(buckets, before.counts, strict=True)]
    return Figures(
        lag=int(sum(value for name, _, value in samples if name == "forecart_consumer_lag")),
        shoppers=int(sum(value for name, _, value in samples if name == "forecart_state_users")),
        median=_quantile(buckets, 0.5),
        p99=_quantile(buckets, 0.99),
        counts=counts,
    )


def _quantile(buckets: list[tuple[float, float]], q: float) -> float:
    """Interpolate within the bucket, as PromQL's histogram_quantile does."""
    if not buckets or not buckets[-1][1]:
        return 0.0
    want, low, below = q * buckets[-1][1], 0.0, 0.0
    for edge, count in buckets:
        if count >= want:
            return low if edge == float("inf") else low + (edge - low) * (want - below) / max(count - below, 1e-9)
        low, below = edge, count
    return low
