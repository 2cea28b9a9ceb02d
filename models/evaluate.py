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
from stream.core.manifest import Manifest, Novelty
from stream.core.newcomers import Table, Weigh, join
from stream.core.quality import INTENT, RANKING, ranks
from stream.core.scoring import SCORED, Step
from stream.core.session import record

CHUNK = 8192  # events scored at once


@dataclass(slots=True)
class Examples:
    """Per-example values: ranks where a next item is asked for, probabilities where a label is known."""

    rank: NDArray[np.int64]
    rank_user: NDArray[np.int64]
    known_item: NDArray[np.bool_]
    joined: NDArray[np.bool_]  # the next item is one that training did not see, and has come before
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
    newcomers: tuple[Novelty, Weigh] | None = None,
) -> Examples:
    """Score a log in time order and measure the events from `since` (ms) on.

    Earlier events only build the shoppers' states, by `warm`, which need not recommend. `sequences` holds the
    same events as arrays. With `targets="last"` only each shopper's last event is asked for. With `newcomers`
    the items that training did not see join the lists at their first event, as in one partition.
    """
    order = np.argsort(log.time, kind="stable")
    measured = log.time[order] >= since
    split = int(np.argmax(measured)) if measured.any() else len(order)
    sessions = np.zeros(len(log.users), record(manifest))
    rank, intent = np.zeros(len(log), np.int64), np.zeros(len(log))
    accepted, table = np.zeros(len(log), bool), Table()
    for begin, stop, used in [(0, split, warm), (split, len(order), step)]:
        for at in range(begin, stop, CHUNK):
            rows = order[at : min(at + CHUNK, stop)]
            touched, slot = np.unique(log.user[rows], return_inverse=True)
            events = events_of(log, sequences, rows, slot)
            scores, sessions[touched] = score(events, sessions[touched], used, manifest)
            if newcomers:
                names = [log.items[i] for i in log.item[rows].tolist()]
                join(table, events, scores, names, newcomers[0], manifest.items, newcomers[1])
            accepted[rows] = scores.outcome == SCORED
            intent[rows] = scores.intent[:, 0]
            if scores.items is not None and scores.item_scores is not None:
                rank[rows] = ranks(scores.items, scores.item_scores, sequences.target[rows])
            progress(at + len(rows), len(order))
    label, known = labels(log, manifest.meaning, end)
    inside = accepted & (log.time >= since)
    unseen = (sequences.target > manifest.items) & _came_before(sequences, order)
    return _examples(log, sequences, inside, unseen, rank, intent, label[:, 0], known[:, 0], targets, manifest.items)


def _came_before(sequences: Sequences, order: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Tell whether each event's next item is the item of this event or of one before it, of any shopper."""
    place = np.zeros(len(order), np.int64)
    place[order] = np.arange(len(order))
    items, first = np.unique(sequences.item[order], return_index=True)
    return first[np.searchsorted(items, sequences.target).clip(max=len(items) - 1)] <= place


def _examples(
    log: Log,
    sequences: Sequences,
    inside: NDArray[np.bool_],
    unseen: NDArray[np.bool_],
    rank: NDArray[np.int64],
    intent: NDArray[np.float64],
    label: NDArray[np.bool_],
    known: NDArray[np.bool_],
    targets: str,
    items: int,
) -> Examples:
    followed = np.r_[~log.starts[1:], False] if len(log) else inside
    asked = inside & followed
    if targets == "last":
        last_but_one = np.r_[~followed[1:], False]
        asked &= last_but_one
    judged = inside & known
    return Examples(
        rank=rank[asked],
        rank_user=log.user[asked],
        # An item that training did not see is a miss before it joins, and is counted apart.
        known_item=(sequences.target[asked] > 0) & (sequences.target[asked] <= items),
        joined=unseen[asked],
        probability=intent[judged],
        label=label[judged],
        label_user=log.user[judged],
        events=int(inside.sum()),
        users=len(np.unique(log.user[inside])),
    )


def events_of(log: Log, sequences: Sequences, rows: NDArray[np.intp], slot: NDArray[np.int64]) -> Events:
    """Return rows of a log as `score` takes them; `slot` tells the rows of their sessions."""
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
    cold = RANKING["hr"](examples.rank[examples.joined])
    return values | {
        f"hr@{k}_cold": float(cold.mean()) if len(cold) else None,
        "targets_cold": int(examples.joined.sum()),
        "users": examples.users,
        "events": examples.events,
        "targets": len(examples.rank),
        "targets_known": int(examples.known_item.sum()),
        "labelled": len(examples.label),
        "positives": int(examples.label.sum()),
    }
