"""Steps compared with what training gave, and with each other: at the export and at each load."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stream.core.features import Arrays
from stream.core.manifest import INDICES, Manifest

if TYPE_CHECKING:
    from stream.bundle.onnx import Network
    from stream.core.scoring import Step

_EVENT = ("item", "category", "type", "numeric")
_ROUNDED = 2e-3  # by which a state may differ where it was rounded to the next number of its type
Vectors = Mapping[str, NDArray[Any]]


def check_vectors(vectors: Vectors, manifest: Manifest) -> None:
    """Check that vectors are of the manifest's shapes; raise ValueError, also for empty ones, which prove nothing."""
    needed = [*_EVENT, *(f"expected_{name}" for name in ("intent", "query", "gate", *manifest.hidden))]
    if missing := set(needed) - vectors.keys():
        raise ValueError(f"the parity vectors lack {', '.join(sorted(missing))}")
    whole = vectors["item"].shape
    if len(whole) != 2 or not min(whole) or min(vectors["item"].min(), vectors["type"].min()) < 0:
        raise ValueError(f"the parity vectors are of the shape {whole}")
    expected = {"item": (), "category": (), "type": (), "numeric": (len(manifest.inputs),)}
    expected |= {"expected_intent": (len(manifest.meaning.horizons),)}
    shapes = {name: (*whole, *rest) for name, rest in expected.items()}
    shapes |= {f"expected_{name}": (whole[0], *shape) for name, shape in manifest.hidden.items()}
    for name, shape in shapes.items():
        if vectors[name].shape != shape:
            raise ValueError(f"the parity vectors' {name} is of the shape {vectors[name].shape}, not {shape}")


def check_bounds(network: "Network", manifest: Manifest) -> None:
    """Step with the last item and category, an unseen item and each type; raise where the graphs cannot look one up."""
    types = len(manifest.meaning.types)
    inputs: Arrays = {
        "item": np.array([manifest.items] * types + [INDICES]),
        "category": np.array([manifest.categories] * types + [0]),
        "type": np.array([*range(types), 0]),
        "numeric": np.zeros((types + 1, len(manifest.inputs)), np.float32),
    }
    steps: list[tuple[Step, int]] = [(network.intent, types + 1), (network.ask, types + 1)]
    steps += [(along, 1) for along, _ in network.pairs()]
    for step, shoppers in steps:
        said, after = step(inputs, network.fresh(shoppers))
        if not all(np.isfinite(value).all() for value in (*said.values(), *after.values())):
            raise ValueError(
                "the model gives what is no number for items, categories or types that the manifest counts"
            )
    # The last list is of a user whose ring ends with the last item.
    last = {name: value[:1] for name, value in inputs.items()}
    if not np.isfinite(network.recommend(last, network.fresh(1))[0]["item_scores"]).all():
        raise ValueError("the ranking gives what is no number for the last item")


def check_lists(network: "Network", vectors: Vectors, manifest: Manifest) -> None:
    """Rank for each history's first event; raise ValueError where that is no list of the manifest's items."""
    fresh = network.fresh(len(vectors["item"]))
    said, _ = network.recommend({name: vectors[name][:, 0] for name in _EVENT}, fresh)
    items, scores = said["items"], said["item_scores"]
    if (
        items.shape[1] != min(manifest.meaning.k, manifest.items)
        or items.shape != scores.shape
        or not np.isfinite(scores).all()
    ):
        raise ValueError("the ranking gives no lists")
    if not 0 <= items.min(initial=0) <= items.max(initial=0) <= manifest.items:
        raise ValueError("the ranking lists items that are not there")


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
