"""What a model must beat, behind the same `Step`: popularity, also by category, and what followed the last item."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.batches import Sequences
from stream.core.features import Arrays
from stream.core.manifest import Novelty
from stream.core.newcomers import Answers, Floats, Ints, Table
from stream.core.scoring import Step


def popularity(sequences: Sequences, items: int, k: int) -> Step:
    """Recommend the `k` most frequent items; the probability is the base rate."""
    count = _counts(sequences, items)
    best = np.argsort(-count, kind="stable")[:k]
    rate = base_rate(sequences)

    def step(inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
        n = len(inputs["item"])
        outputs: Arrays = {
            "items": np.tile(best + 1, (n, 1)),
            "item_scores": np.tile(count[best].astype(np.float32), (n, 1)),
            "intent": np.tile(rate, (n, 1)),
        }
        return outputs, hidden

    return step


def last_item(sequences: Sequences, items: int, k: int) -> Step:
    """Recommend what followed the last item most often in training, filled up by popularity."""
    item, target = _known(sequences.item, items), _known(sequences.target, items)
    listed = _lists(item, target, _counts(sequences, items), k)
    rate = base_rate(sequences)

    def step(inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
        last = _known(inputs["item"].astype(np.int64), items)
        return listed(last) | {"intent": np.tile(rate, (len(last), 1))}, hidden

    return step


def category_popularity(sequences: Sequences, items: int, k: int) -> Step:
    """Recommend the most frequent items of the last event's category, filled up by popularity."""
    listed = _lists(sequences.category, _known(sequences.item, items), _counts(sequences, items), k)
    rate = base_rate(sequences)

    def step(inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
        category = inputs["category"].astype(np.int64)
        return listed(category) | {"intent": np.tile(rate, (len(category), 1)), "category": category}, hidden

    return step


UNDECAYED = Novelty(bias=0.0, half_life=float("inf"))


def weigh_by_count(answers: Answers, table: Table, log_count: Floats) -> tuple[Floats, Floats]:
    """Give newcomers of the last event's category their counts so far, so that they compete with its items."""
    same = table.category[: len(table)] == answers["category"][:, None]
    return np.zeros(len(log_count), np.float32), np.where(same, np.exp(log_count), 0).astype(np.float32)


def _known(item: Ints, items: int) -> Ints:
    """Put 0 in the place of newcomers."""
    return np.where(item > items, 0, item)


def _counts(sequences: Sequences, items: int) -> Ints:
    """Count the events of each item, (items,)."""
    return np.bincount(_known(sequences.item, items), minlength=items + 1)[1:]


def _lists(key: Ints, item: Ints, count: Ints, k: int) -> Callable[[Ints], dict[str, NDArray[Any]]]:
    """Return what lists, of each key, the items that most often go with it, filled up by their `count`."""
    pairs = np.stack([key, item], 1)[(key > 0) & (item > 0)]
    pairs, often = np.unique(pairs, axis=0, return_counts=True)
    order = np.lexsort((-often, pairs[:, 0]))
    pairs, often = pairs[order], often[order]
    fill = np.argsort(-count, kind="stable")[: 2 * k] + 1
    share = count[fill - 1] / (count.max() + 1)  # below any count of a pair

    def ranked(one: int) -> tuple[Ints, NDArray[np.float32]]:
        first, end = np.searchsorted(pairs[:, 0], [one, one + 1])
        row = slice(first, min(first + k, end))
        own = pairs[row, 1]
        rest = ~np.isin(fill, own)
        return np.r_[own, fill[rest]][:k], np.r_[often[row], share[rest]][:k].astype(np.float32)

    def listed(keys: Ints) -> dict[str, NDArray[Any]]:
        distinct, place = np.unique(keys, return_inverse=True)
        items, scores = (np.stack(part) for part in zip(*map(ranked, distinct.tolist()), strict=True))
        return {"items": items[place], "item_scores": scores[place]}

    return listed


def base_rate(sequences: Sequences) -> NDArray[np.float32]:
    """Return the share of positives among the known labels, one a horizon."""
    known = sequences.known.sum(0)
    rate: NDArray[np.float32] = ((sequences.label & sequences.known).sum(0) / np.maximum(known, 1)).astype(np.float32)
    return rate
