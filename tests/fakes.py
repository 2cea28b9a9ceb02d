"""Small stand-ins: a step in three lines, a manifest, events."""

from typing import Any

import numpy as np

from stream.core.features import NUMERIC, Events
from stream.core.hashing import fingerprints
from stream.core.manifest import Manifest, TaskSpec

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC, ms


def manifest(dtype: str = "float32", **meaning: Any) -> Manifest:
    """Describe a model with a state of two numbers."""
    return Manifest(
        model="00000000000000ff",
        meaning=TaskSpec(**meaning),
        inputs=NUMERIC,
        hidden={"h": (2,), "c": (2,)},
        state_dtype=dtype,
        items=9,
        categories=3,
        dimension=2,
    )


def step(inputs: Any, hidden: Any) -> Any:
    """Add the item to the state, halve it where a session opens; the probability follows the state."""
    keep = np.where(inputs["numeric"][:, 1:2] > 0, 0.5, 1.0).astype("f4")
    h = hidden["h"] * keep + np.stack([inputs["item"], inputs["type"]], 1).astype("f4")
    p = 1 / (1 + np.exp(-h[:, :1] / 100))
    return {"intent": np.repeat(p, 2, 1).astype("f4")}, {"h": h, "c": hidden["c"] + inputs["numeric"][:, :2]}


def events(rows: list[tuple[int, str, int, int]], arrived: int | None = None) -> Events:
    """Make a batch from (slot, event id, time in ms, item)."""
    n = len(rows)
    slot, ids, time, item = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    when = np.array(time, np.int64)
    return Events(
        slot=np.array(slot, np.int64),
        time=when,
        arrived=when.copy() if arrived is None else np.full(n, arrived),
        type=np.zeros(n, np.int64),
        item=np.array(item, np.int64),
        category=np.zeros(n, np.int64),
        event_print=fingerprints(ids),
        item_print=np.array(item, np.uint64) + np.uint64(1),
        category_print=np.zeros(n, np.uint64),
        price=np.full(n, np.nan),
    )
