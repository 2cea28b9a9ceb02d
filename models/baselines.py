"""What a model must beat: popularity, and what followed the last item, behind the same `Step`."""

import numpy as np
from numpy.typing import NDArray

from models.batches import Sequences
from stream.core.features import Arrays
from stream.core.scoring import Step


def popularity(sequences: Sequences, items: int, k: int) -> Step:
    """Recommend the `k` most frequent items; the probability is the base rate."""
    count = np.bincount(sequences.item, minlength=items + 1)[1:]
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
    pairs = np.stack([sequences.item, sequences.target], 1)[(sequences.item > 0) & (sequences.target > 0)]
    pairs, count = np.unique(pairs, axis=0, return_counts=True)
    order = np.lexsort((-count, pairs[:, 0]))
    pairs, count = pairs[order], count[order]
    first = np.searchsorted(pairs[:, 0], np.arange(items + 2))
    popular = np.bincount(sequences.item, minlength=items + 1)[1:]
    fill = np.argsort(-popular, kind="stable")[: 2 * k] + 1
    share = popular[fill - 1] / (popular.max() + 1)  # below any count of a transition
    rate = base_rate(sequences)

    def ranked(item: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        row = slice(first[item], min(first[item] + k, first[item + 1]))
        own = pairs[row, 1]
        rest = ~np.isin(fill, own)
        listed = np.r_[own, fill[rest]][:k]
        return listed, np.r_[count[row], share[rest]][:k].astype(np.float32)

    def step(inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
        distinct, place = np.unique(inputs["item"], return_inverse=True)
        listed, scores = (np.stack(part) for part in zip(*map(ranked, distinct.tolist()), strict=True))
        intent = np.tile(rate, (len(place), 1))
        return {"items": listed[place], "item_scores": scores[place], "intent": intent}, hidden

    return step


def base_rate(sequences: Sequences) -> NDArray[np.float32]:
    """Return the share of positives among the known labels, one a horizon."""
    known = sequences.known.sum(0)
    rate: NDArray[np.float32] = ((sequences.label & sequences.known).sum(0) / np.maximum(known, 1)).astype(np.float32)
    return rate
