"""Which horizons a run can have learned anything of: labels that its log knows, and purchases among them."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from models.batches import Sequences

Counts = dict[str, dict[str, int]]


def labelled(parts: Iterable[Sequences], horizons: tuple[str, ...]) -> Counts:
    """Count the known labels and the positives among them by horizon."""
    found = np.zeros((2, len(horizons)), np.int64)
    for part in parts:
        found += part.known.sum(0), (part.known & part.label).sum(0)
    return {name: {"known": k, "positives": p} for name, k, p in zip(horizons, *found.tolist(), strict=True)}


def unlearned(data: dict[str, Any]) -> list[str]:
    """Say of each horizon without a purchase among its labels why a run's data teach nothing of it."""
    counts: Counts = data.get("labels", {})
    return [f"{name} ({_why(n['known'])})" for name, n in counts.items() if not n["positives"]]


def _why(known: int) -> str:
    return f"no purchase among {known:,} labels" if known else "no event is followed by so much log"
