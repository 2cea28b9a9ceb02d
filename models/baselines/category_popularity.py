"""The best-selling items of the last event's category, which must be beaten and are not served.

Items that training did not see come in as they do for the model: from their first event on, here by their counts.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.sequences import Sequences, catalogued
from models.network.popularity import base_rate
from stream.core.features import NUMERIC, Arrays
from stream.core.manifest import ColdStart, Manifest, TaskSpec
from stream.core.scoring import Step
from stream.recommend.cold_items import Table
from stream.recommend.cold_ranking import Answers, Floats, Ints

NAME = "category-popularity"
_UNDECAYED = ColdStart(bias=0.0, half_life=float("inf"))


def manifest(meaning: TaskSpec, items: int, categories: int) -> Manifest:
    """Describe this step, which has no state; cold items' counts stay whole, as those of known items do."""
    return Manifest(
        model="1",
        meaning=meaning,
        inputs=NUMERIC,
        hidden={},
        items=items,
        categories=categories,
        dimension=1,  # as of a baseline; there are no vectors
        novelty=_UNDECAYED,
    )


def step(sequences: Sequences, items: int, k: int) -> Step:
    """Recommend the most frequent items of the last event's category, filled up by popularity.

    It lists one item more than `k`, so that a tie at the end of the list shows.
    """
    listed, rate = _lists(sequences.category, catalogued(sequences.item, items), items, k + 1), base_rate(sequences)

    def answer(inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
        category = inputs["category"].astype(np.int64)
        return listed(category) | {"intent": np.tile(rate, (len(category), 1)), "category": category}, hidden

    return answer


def weigh(answers: Answers, table: Table, log_count: Floats) -> tuple[Floats, Floats]:
    """Give cold items of the last event's category their counts so far, so that they compete with its items."""
    category = answers["category"][:, None]
    same = (table.category[: len(table)] == category) & (category > 0)
    return np.zeros(len(log_count), np.float32), np.where(same, np.exp(log_count), 0).astype(np.float32)


def _lists(key: Ints, item: Ints, items: int, k: int) -> Callable[[Ints], dict[str, NDArray[Any]]]:
    """Return what lists, of each key, the items that most often go with it, filled up by their counts."""
    count = np.bincount(item, minlength=items + 1)[1:]
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
        best, scores = (np.stack(part) for part in zip(*map(ranked, distinct.tolist()), strict=True))
        return {"items": best[place], "item_scores": scores[place]}

    return listed
