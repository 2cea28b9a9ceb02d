"""Held-out events through `stream.core.score`: one measure for the model and for what it must beat."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.log import Log, labels
from models.data.sequences import Sequences
from models.enough import enough
from models.evaluation.metrics import INTENT, RANKING, ranks
from stream.core import score
from stream.core.features import Events
from stream.core.manifest import Manifest
from stream.core.scoring import SCORED, Step
from stream.core.session import record
from stream.recommend.cold_items import Table
from stream.recommend.cold_ranking import Weigh, join
from stream.recommend.list_filters import USERS, Rules

CHUNK = 8192  # events scored at once


@dataclass(slots=True)
class Examples:
    """Per-example values: ranks where a next item is asked for, probabilities where a label is known.

    `probability`, `label` and `label_user` are those of the first horizon; `rows` are the measured events' places
    in the log, and `intent`, `labels` and `known` (rows, horizons) have all horizons.
    """

    rank: NDArray[np.int64]
    rank_user: NDArray[np.int64]
    known_item: NDArray[np.bool_]
    joined: NDArray[np.bool_]  # the next item is one that training did not see, and has come before
    fresh: NDArray[np.bool_]  # the next item is one that this user has not met
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
    unscored: int = 0  # events whose scores are no numbers; they count in no figure


def evaluate(
    log: Log,
    sequences: Sequences,
    manifest: Manifest,
    warm: Step,
    step: Step,
    weigh: Weigh | None,
    since: int,
    end: int,
    targets: str = "all",
    shortest: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
    users: int = USERS,
) -> Examples:
    """Score a log in time order and measure the events from `since` (ms) on.

    Earlier events only build the users' states, by `warm`, which need not recommend. `sequences` holds the
    same events as arrays. With `targets="last"` only each user's last event is asked for, and none before
    a user's `shortest` first events are known. A tie at the end of a list is a miss, if lists are of one
    item more than the model's k. With `weigh` the items that training did not see join the lists as in one
    partition without a catalog, once so many `users` vouch for them.
    """
    accepted, rank, intent = _scored(log, sequences, manifest, (warm, step), weigh, since, progress, users)
    label, known = labels(log, manifest.meaning, end)
    inside = accepted & (log.time >= since)
    unscored = int((log.time >= since).sum() - inside.sum())
    unseen = (sequences.target > manifest.items) & _came_before(log, sequences)
    found = _examples(log, sequences, inside, unseen, rank, intent, label, known, targets, shortest, manifest.items)
    return replace(found, unscored=unscored)


def _scored(
    log: Log,
    sequences: Sequences,
    manifest: Manifest,
    steps: tuple[Step, Step],
    weigh: Weigh | None,
    since: int,
    progress: Callable[[int, int], None],
    users: int,
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64]]:
    """Return which events were scored, their next items' ranks, 0: not listed, and their intents (n, horizons).

    Of `steps` the first takes the events before `since`.
    """
    order = np.argsort(log.time, kind="stable")
    needed = log.time >= since
    if weigh:
        needed |= sequences.item > manifest.items  # they join, whose events they are
    order = order[np.isin(log.user, log.user[needed])[order]]  # nobody else's state is needed
    measured = log.time[order] >= since
    split = int(np.argmax(measured)) if measured.any() else len(order)
    sessions = np.zeros(len(log.users), record(manifest))
    rank, intent = np.zeros(len(log), np.int64), np.zeros((len(log), len(manifest.meaning.horizons)))
    accepted, table = np.zeros(len(log), bool), Table()
    rules = Rules(category=np.zeros(manifest.items + 1, np.uint64), users=users)
    for begin, stop, step in [(0, split, steps[0]), (split, len(order), steps[1])]:
        for at in range(begin, stop, CHUNK):
            rows = order[at : min(at + CHUNK, stop)]
            touched, slot = np.unique(log.user[rows], return_inverse=True)
            events = events_of(log, sequences, rows, slot)
            scores, sessions[touched] = score(events, sessions[touched], step, manifest)
            if weigh and manifest.novelty:
                names = [log.items[i] for i in log.item[rows].tolist()]
                who = log.user[rows].astype(np.uint64)
                join(table, events, scores, names, manifest.novelty, manifest.items, weigh, rules, who)
            accepted[rows], intent[rows] = scores.outcome == SCORED, scores.intent
            if scores.items is not None and scores.item_scores is not None:
                found = ranks(scores.items, scores.item_scores, sequences.target[rows])
                rank[rows] = np.where(found <= manifest.meaning.k, found, 0)
            progress(at + len(rows), len(order))
    return accepted, rank, intent


def _came_before(log: Log, sequences: Sequences) -> NDArray[np.bool_]:
    """Tell whether each event's next item is the item of this event or of one before it, of any user."""
    order = np.argsort(log.time, kind="stable")
    place = np.empty(len(order), np.int64)
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
    shortest: int,
    items: int,
) -> Examples:
    followed = np.r_[~log.starts[1:], False] if len(log) else inside
    place = np.arange(len(log)) - np.maximum.accumulate(np.where(log.starts, np.arange(len(log)), 0))
    asked = inside & followed & (place + 1 >= shortest)
    if targets == "last":
        asked &= np.r_[~followed[1:], False]  # the last but one
    judged = inside & known[:, 0]
    rows = np.flatnonzero(inside)
    target = sequences.target[asked]
    return Examples(
        rank=rank[asked],
        rank_user=log.user[asked],
        # An item that training did not see is a miss before it joins, and is counted apart.
        known_item=(target > 0) & (target <= items),
        joined=unseen[asked],
        fresh=log.first_met[np.flatnonzero(asked) + 1],
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


def events_of(log: Log, sequences: Sequences, rows: NDArray[np.intp], slot: NDArray[np.int64]) -> Events:
    """Return rows of a log as `score` takes them; `slot` tells the rows of their sessions."""
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
        price=log.price_at(log.item[rows], log.time[rows]),
    )


def summary(examples: Examples, k: int, horizons: tuple[str, ...]) -> dict[str, Any]:
    """Return the metrics, as `evaluate` prints them; what has too few examples is None.

    Those of intent are the first horizon's; under `horizons` stand those of each.
    """
    ranking = {f"{name}@{k}": metric(examples.rank) for name, metric in RANKING.items()}
    # Papers draw their splits so that every target was seen in training.
    parts = {"known": examples.known_item, "new": examples.fresh}
    ranking |= {f"{name}_{part}": v[at] for part, at in parts.items() for name, v in ranking.items()}
    ranking[f"hr@{k}_joined"] = RANKING["hr"](examples.rank[examples.joined])
    users = examples.users
    values = {name: float(v.mean()) if enough(len(v), users) else None for name, v in ranking.items()}
    each = {name: intent_figures(examples, j) for j, name in enumerate(horizons)}
    return {
        **values,
        "targets_joined": int(examples.joined.sum()),
        **each[horizons[0]],
        "users": examples.users,
        "events": examples.events,
        "unscored": examples.unscored,
        "targets": len(examples.rank),
        "targets_known": int(examples.known_item.sum()),
        "targets_new": int(examples.fresh.sum()),
        "horizons": each,
    }


def intent_figures(examples: Examples, horizon: int) -> dict[str, Any]:
    """Return the metrics of one horizon, None where they have too few purchases, and the counts of labels."""
    known = examples.known[:, horizon]
    label, p = examples.labels[known, horizon], examples.intent[known, horizon]
    counts = {"labelled": len(label), "positives": int(label.sum())}
    if not enough(counts["positives"], examples.users):
        return dict.fromkeys(INTENT) | counts
    found = {name: float(measure(label, p, None)) for name, measure in INTENT.items()}
    return {name: None if np.isnan(value) else value for name, value in found.items()} | counts
