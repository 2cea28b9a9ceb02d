"""Steps compared with what training gave, and with each other: at the export and at each load."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stream.core.features import Arrays

if TYPE_CHECKING:
    from stream.core.scoring import Step
    from stream.runtime import Network

_EVENT = ("item", "category", "type", "numeric")
_ROUNDED = 2e-3  # by which a state may differ where it was rounded to the next number of its type
Vectors = Mapping[str, NDArray[Any]]


def difference(network: "Network", vectors: Vectors) -> float:
    """Compare steps with expected sequences; return the largest difference.

    `vectors` has the inputs (B, T, ...) and, as `expected_*`, intent, query and gate (B, T, ...) and the last
    state. The graph for purchases alone, whose states are stored ones, is compared with the whole step on those; the
    graphs along runs with their steps.
    """
    last: Arrays = {name: np.zeros_like(vectors[f"expected_{name}"]) for name in network.hidden}
    state, stored = last, network.fresh(len(vectors["item"]))
    worst = max((_strayed(*pair, network.fresh(1), vectors) for pair in network.pairs()), default=0.0)
    for t in range(vectors["item"].shape[1]):
        inputs = {name: vectors[name][:, t] for name in _EVENT}
        expected, _ = network.whole(inputs, stored)
        alone, stored = network.intent(inputs, stored)
        worst = max(worst, _apart(alone["intent"], expected["intent"]))
        outputs, state = network.whole(inputs, state)
        for name, value in outputs.items():
            worst = max(worst, _apart(value, vectors[f"expected_{name}"][:, t]))
    for name, value in state.items():
        worst = max(worst, _apart(value, vectors[f"expected_{name}"]))
    return worst


def _strayed(along: "Step", step: "Step", fresh: Arrays, vectors: Vectors) -> float:
    """Compare each event of a run with a step from the state before it; a state may differ by a rounding."""
    worst = 0.0
    for row in range(len(vectors["item"])):
        inputs = {name: vectors[name][row] for name in _EVENT}
        said, after = along(inputs, fresh)
        before = {name: np.concatenate([value, after[name][:-1]]) for name, value in fresh.items()}
        expected, then = step(inputs, before)
        worst = max(worst, *(_apart(value, expected[name]) for name, value in said.items()))
        for name, value in after.items():
            if not np.allclose(value, then[name], _ROUNDED, _ROUNDED):
                return float("inf")
    return worst


def _apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the largest difference; what is no number is as far apart as can be."""
    apart = np.abs(one - other)
    return float(np.where(np.isfinite(apart), apart, np.inf).max())
