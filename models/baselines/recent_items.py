"""The user's own last items, newest first: nothing is learned, and yet it must be beaten; it is not served.

Items that training did not see are among them as any others: whoever comes back to an item has met it.
"""

import numpy as np
from numpy.typing import NDArray

from stream.core.features import NUMERIC, Arrays
from stream.core.manifest import Manifest, TaskSpec
from stream.core.scoring import Step

NAME = "own-items"


def manifest(meaning: TaskSpec, items: int, categories: int) -> Manifest:
    """Describe this step, whose state is a list of one item more than the model's k."""
    return Manifest(
        model="1",
        meaning=meaning,
        inputs=NUMERIC,
        hidden={"recent": (meaning.k + 1,)},
        integers=("recent",),
        items=items,
        categories=categories,
        dimension=1,  # as of a baseline; there are no vectors
    )


def step(rate: NDArray[np.float32]) -> Step:
    """Recommend a user's distinct items by how long ago they were last met; `rate` are the purchases' base rates."""

    def answer(inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
        item, before = inputs["item"].astype(np.int64)[:, None], hidden["recent"].astype(np.int64)
        others = np.where(before == item, 0, before)
        order = np.argsort(others == 0, axis=1, kind="stable")
        recent = np.concatenate([item, np.take_along_axis(others, order, 1)[:, :-1]], 1)
        scores = np.where(recent > 0, np.arange(recent.shape[1], 0, -1), 0).astype(np.float32)
        listed = {"items": recent, "item_scores": scores}
        return listed | {"intent": np.tile(rate, (len(recent), 1))}, {"recent": recent}

    return answer
