"""The check before a bundle is written: whole sequence, torch step and ONNX step agree, or it is refused."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.training.checkpoint import Checkpoint
from stream.bundle.onnx import TOLERANCE, Network
from stream.bundle.parity import difference
from stream.core.errors import ParityError
from stream.core.features import NUMERIC

Vectors = dict[str, NDArray[Any]]
_HISTORIES, _LENGTH = 16, 24


def random_histories(checkpoint: Checkpoint, seed: int = 0) -> Vectors:
    """Make histories of random items, known, none and cold items, with pauses from none to a month."""
    random, run = np.random.default_rng(seed), checkpoint.run
    shape = (_HISTORIES, _LENGTH)
    return {
        "item": random.integers(0, len(run.items) * 5 // 4 + 3, shape),
        "category": random.integers(0, len(run.categories) + 1, shape),
        "type": random.integers(0, len(run.meaning.types), shape),
        "numeric": random.uniform(-1, 1.5, (*shape, len(NUMERIC))).astype(np.float32),
    }


def expected(checkpoint: Checkpoint, histories: Vectors) -> Vectors:
    """Add what one run over the whole sequences gives."""
    network = checkpoint.network.eval()
    with torch.inference_mode():
        given = {name: torch.from_numpy(value) for name, value in histories.items()}
        found = network(**given, **network.state(len(histories["item"])))._asdict()
    found["intent"] = torch.sigmoid(found["intent"])
    return histories | {f"expected_{name}": tensor.numpy() for name, tensor in found.items()}


def step_by_step(checkpoint: Checkpoint, vectors: Vectors) -> float:
    """Return the largest difference between torch's own steps and its whole sequences."""
    module = checkpoint.network.eval().step()
    state = checkpoint.network.state(len(vectors["item"]))
    worst = 0.0
    with torch.inference_mode():
        for t in range(vectors["item"].shape[1]):
            names = ("item", "category", "type", "numeric")
            found = module(*(torch.from_numpy(vectors[name][:, t]) for name in names), **state)._asdict()
            state = {name: found.pop(name) for name in state}
            for name, value in found.items():
                worst = max(worst, float(np.abs(value.numpy() - vectors[f"expected_{name}"][:, t]).max()))
    for name, value in state.items():
        worst = max(worst, float(np.abs(value.numpy() - vectors[f"expected_{name}"]).max()))
    return worst


def check(checkpoint: Checkpoint, network: Network, histories: dict[str, Vectors]) -> tuple[dict[str, float], Vectors]:
    """Compare all three on each kind of histories.

    Returns the differences, and the vectors that travel in the bundle. Raises ParityError above 1e-5.
    """
    found: dict[str, float] = {}
    vectors = {kind: expected(checkpoint, given) for kind, given in histories.items()}
    for kind, given in vectors.items():
        found[f"torch step, {kind} histories"] = step_by_step(checkpoint, given)
        found[f"ONNX step, {kind} histories"] = difference(network, given)
    for name, worst in found.items():
        if not worst <= TOLERANCE:
            raise ParityError(
                f"{name}: differs by {worst:.2g} from the whole sequence, allowed are {TOLERANCE}",
                "nothing was written; the checkpoint or this machine's libraries are at fault",
            )
    return found, vectors["random"]
