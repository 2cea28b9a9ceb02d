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
    """Per-example values: ranks where a next item is asked for, probabilities where a label is known.

    `probability`, `label` and `label_user` are those of the first horizon; `rows` are the measured events' places
    in the log, and `intent`, `labels` and `known` (rows, horizons) have all horizons.
    """

    rank: NDArray[np.int64]
    rank_user: NDArray[np.int64]
    known_item: NDArray[np.bool_]
    probability: NDArray[np.float64]
    label: NDArray[np.bool_]
    label_user: NDArray[np.int64]
    rows: NDArray[np.int64]
    intent: NDArray[np.float64]
    labels: NDArray[np.bool_]
    known: NDArray[np.bool_]
    events: int
    users: int
    rank_row: NDArray[np.int64]  # the log's row whose next item is asked for
    label_row: NDArray[np.int64]  # the log's row that is judged


def evaluate(
    log: Log,
    sequences: Sequences,
    manifest: Manifest,
    warm: Step,
    step: Step,
    since: int,
    end: int,
    targets: str = "all",
    shortest: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Examples:
    """Score a log in time order and measure the events from `since` (ms) on.

    Earlier events only build the shoppers' states, by `warm`, which need not recommend. `sequences` holds the
    same events as arrays. With `targets="last"` only each shopper's last event is asked for, and none before
    a shopper's `shortest` first events are known. A tie at the end of a list is a miss, if lists are of one
    item more than the model's k.
    """
    order = np.argsort(log.time, kind="stable")
    order = order[np.isin(log.user, log.user[log.time >= since])[order]]  # nobody else's state is needed
    measured = log.time[order] >= since
    split = int(np.argmax(measured)) if measured.any() else len(order)
    sessions = np.zeros(len(log.users), record(manifest))
    rank, intent = np.zeros(len(log), np.int64), np.zeros((len(log), len(manifest.meaning.horizons)))
    accepted = np.zeros(len(log), bool)
    for begin, stop, used in [(0, split, warm), (split, len(order), step)]:
        for at in range(begin, stop, _CHUNK):
            rows = order[at : min(at + _CHUNK, stop)]
            touched, slot = np.unique(log.user[rows], return_inverse=True)
            events = _events(log, sequences, rows, slot)
            scores, sessions[touched] = score(events, sessions[touched], used, manifest)
            accepted[rows] = scores.outcome == SCORED
            intent[rows] = scores.intent
            if scores.items is not None and scores.item_scores is not None:
                found = ranks(scores.items, scores.item_scores, sequences.target[rows])
                rank[rows] = np.where(found <= manifest.meaning.k, found, 0)
            progress(at + len(rows), len(order))
    label, known = labels(log, manifest.meaning, end)
    inside = accepted & (log.time >= since)
    return _examples(log, sequences, inside, rank, intent, label, known, targets, shortest)


def _examples(
    log: Log,
    sequences: Sequences,
    inside: NDArray[np.bool_],
    rank: NDArray[np.int64],
    intent: NDArray[np.float64],
    label: NDArray[np.bool_],
    known: NDArray[np.bool_],
    targets: str,
    shortest: int,
) -> Examples:
    followed = np.r_[~log.starts[1:], False] if len(log) else inside
    place = np.arange(len(log)) - np.maximum.accumulate(np.where(log.starts, np.arange(len(log)), 0))
    asked = inside & followed & (place + 1 >= shortest)
    if targets == "last":
        last_but_one = np.r_[~followed[1:], False]
        asked &= last_but_one
    # Index 0 is the unknown item: a target that no list can hold is a miss, and is counted apart.
    rank = np.where(sequences.target > 0, rank, 0)
    judged = inside & known[:, 0]
    rows = np.flatnonzero(inside)
    return Examples(
        rank=rank[asked],
        rank_user=log.user[asked],
        known_item=sequences.target[asked] > 0,
        probability=intent[judged, 0],
        label=label[judged, 0],
        label_user=log.user[judged],
        rows=rows,
        intent=intent[rows],
        labels=label[rows],
        known=known[rows],
        events=int(inside.sum()),
        users=len(np.unique(log.user[inside])),
        rank_row=np.flatnonzero(asked),
        label_row=np.flatnonzero(judged),
    )


def _events(log: Log, sequences: Sequences, rows: NDArray[np.intp], slot: NDArray[np.int64]) -> Events:
    return Events(
        slot=slot,
        time=log.time[rows],
        arrived=log.time[rows],
        type=sequences.type[rows],
        item=sequences.item[rows],
        category=sequences.category[rows],
        event_print=rows.astype(np.uint64) + 1,  # a log's rows are distinct events
        item_print=log.item[rows].astype(np.uint64) + np.uint64(1),
        category_print=sequences.category[rows].astype(np.uint64),
    )


def summary(examples: Examples, k: int, horizons: tuple[str, ...]) -> dict[str, Any]:
    """Return the metrics, as `evaluate` prints them; what cannot be computed is None.

    Those of intent are the first horizon's; under `horizons` stand those of each.
    """
    ranking = {f"{name}@{k}": metric(examples.rank) for name, metric in RANKING.items()}
    # Papers draw their splits so that every target was seen in training.
    ranking |= {f"{name}_known": values[examples.known_item] for name, values in ranking.items()}
    values: dict[str, Any] = {name: float(v.mean()) if len(v) else None for name, v in ranking.items()}
    each = {name: _intent(examples, j) for j, name in enumerate(horizons)}
    return {
        **values,
        **each[horizons[0]],
        "users": examples.users,
        "events": examples.events,
        "targets": len(examples.rank),
        "targets_known": int(examples.known_item.sum()),
        "horizons": each,
    }


def _intent(examples: Examples, horizon: int) -> dict[str, Any]:
    known = examples.known[:, horizon]
    label, p = examples.labels[known, horizon], examples.intent[known, horizon]
    found = {name: measure(label, p) if len(label) else float("nan") for name, measure in INTENT.items()}
    values: dict[str, Any] = {name: None if np.isnan(value) else value for name, value in found.items()}
    return values | {"labelled": len(label), "positives": int(label.sum())}
