"""Held-out events through `stream.core.score`: one measure for the model and for what it must beat."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.batches import Sequences
from models.histories import Log, labels
from stream.core import score
from stream.core.features import Events
from stream.core.manifest import Manifest
from stream.core.quality import INTENT, RANKING, ranks
from stream.core.scoring import SCORED, Step
from stream.core.session import record

_CHUNK = 8192  # events scored at once


@dataclass(slots=True)
class Examples:
    """Per-example values: ranks where a next item is asked for, probabilities where a label is known."""

    rank: NDArray[np.int64]
    rank_user: NDArray[np.int64]
    known_item: NDArray[np.bool_]
    probability: NDArray[np.float64]
    label: NDArray[np.bool_]
    label_user: NDArray[np.int64]
    events: int
    users: int


def evaluate(
    log: Log,
    sequences: Sequences,
    manifest: Manifest,
    warm: Step,
    step: Step,
    since: int,
    end: int,
    targets: str = "all",
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Examples:
    """Score a log in time order and measure the events from `since` (ms) on.

    Earlier events only build the shoppers' states, by `warm`, which need not recommend; shoppers who do not come
    back need none. `sequences` holds the same events as arrays. With `targets="last"` only each shopper's last
    event is asked for.
    """
    order = np.argsort(log.time, kind="stable")
    come = np.zeros(len(log.users), bool)
    come[log.user[log.time >= since]] = True
    order = order[come[log.user[order]]]
    measured = log.time[order] >= since
    split = int(np.argmax(measured)) if measured.any() else len(order)
    sessions = np.zeros(len(log.users), record(manifest))
    rank, intent = np.zeros(len(log), np.int64), np.zeros(len(log))
    accepted = np.zeros(len(log), bool)
    for begin, stop, used in [(0, split, warm), (split, len(order), step)]:
        for at in range(begin, stop, _CHUNK):
            rows = order[at : min(at + _CHUNK, stop)]
            touched, slot = np.unique(log.user[rows], return_inverse=True)
            events = _events(log, sequences, rows, slot)
            scores, sessions[touched] = score(events, sessions[touched], used, manifest)
            accepted[rows] = scores.outcome == SCORED
            intent[rows] = scores.intent[:, 0]
            if scores.items is not None and scores.item_scores is not None:
                rank[rows] = ranks(scores.items, scores.item_scores, sequences.target[rows])
            progress(at + len(rows), len(order))
    label, known = labels(log, manifest.meaning, end)
    return _examples(log, sequences, accepted & (log.time >= since), rank, intent, label[:, 0], known[:, 0], targets)


def _examples(
    log: Log,
    sequences: Sequences,
    inside: NDArray[np.bool_],
    rank: NDArray[np.int64],
    intent: NDArray[np.float64],
    label: NDArray[np.bool_],
    known: NDArray[np.bool_],
    targets: str,
) -> Examples:
    followed = np.r_[~log.starts[1:], False] if len(log) else inside
    asked = inside & followed
    if targets == "last":
        last_but_one = np.r_[~followed[1:], False]
        asked &= last_but_one
    # Index 0 is the unknown item: a target that no list can hold is a miss, and is counted apart.
    rank = np.where(sequences.target > 0, rank, 0)
    judged = inside & known
    return Examples(
        rank=rank[asked],
        rank_user=log.user[asked],
        known_item=sequences.target[asked] > 0,
        probability=intent[judged],
        label=label[judged],
        label_user=log.user[judged],
        events=int(inside.sum()),
        users=len(np.unique(log.user[inside])),
    )


def _events(log: Log, sequences: Sequences, rows: NDArray[np.intp], slot: NDArray[np.int64]) -> Events:
    none = np.zeros(len(rows), np.uint64)
    return Events(
        slot=slot,
        time=log.time[rows],
        arrived=log.time[rows],
        type=sequences.type[rows],
        item=sequences.item[rows],
        category=sequences.category[rows],
        event_print=rows.astype(np.uint64) + 1,  # a log's rows are distinct events
        item_print=none,
        category_print=none,
    )


def summary(examples: Examples, k: int) -> dict[str, Any]:
    """Return the metrics, as `evaluate` prints them; what cannot be computed is None."""
    ranking = {f"{name}@{k}": metric(examples.rank) for name, metric in RANKING.items()}
    values: dict[str, Any] = {name: float(v.mean()) if len(v) else None for name, v in ranking.items()}
    for name, measure in INTENT.items():
        value = measure(examples.label, examples.probability) if len(examples.label) else float("nan")
        values[name] = None if np.isnan(value) else value
    return values | {
        "users": examples.users,
        "events": examples.events,
        "targets": len(examples.rank),
        "targets_known": int(examples.known_item.sum()),
        "labelled": len(examples.label),
        "positives": int(examples.label.sum()),
    }
