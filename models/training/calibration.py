"""Calibration: a line over each horizon's logit, fitted to sequences that the network has not learned from.

Two numbers a horizon (Platt, 1999): of the few users that can be kept from training an isotonic regression
learns their accidents, and its steps cost PR-AUC.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.sequences import Sequences
from models.network.lstm import Network
from stream.core.calibration import FLOOR, expit
from stream.core.manifest import ascending

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Calibration = dict[str, tuple[float, float]]
_MOST = float(np.log1p(-FLOOR) - np.log(FLOOR))  # a logit's size
_BUDGET = 8192  # padded events at once
_FEWEST = 20  # labels of either kind, in either half, to learn from
_PRIOR = 100.0  # weight of the line that changes nothing: a user's labels are far from independent
_STEPS = 50


def calibrate(network: Network, kept: Sequences, horizons: tuple[str, ...], seed: int) -> Calibration:
    """Return scale and shift of the logit by horizon, where they lower the log loss of sequences not fitted to."""
    logit, label, known, half = _outcomes(network, kept, np.random.default_rng(seed))
    found: Calibration = {}
    for place, horizon in enumerate(horizons):
        x, y = logit[known[:, place], place], label[known[:, place], place]
        second = half[known[:, place]]
        counts = [n for part in (second, ~second) for n in (y[part].sum(), (~y[part]).sum())]
        if min(counts) < _FEWEST:
            continue
        trial, final = line(x[~second], y[~second]), line(x, y)
        if final[0] > 0 and _loss(x[second], y[second], *trial) < _loss(x[second], y[second], 1.0, 0.0):
            found[horizon] = final
    return found


def line(x: Floats, y: Bools) -> tuple[float, float]:
    """Return the scale and shift of logits (n,) that suit labels (n,) best, by Newton's steps.

    Least is the summed log loss plus half of `_PRIOR` times the squared distance from the line that changes nothing.
    """
    given, found, plain = np.stack([x, np.ones(len(x))], 1), np.array([1.0, 0.0]), np.array([1.0, 0.0])
    for _ in range(_STEPS):
        p = expit(given @ found)
        slope = given.T @ (p - y) + _PRIOR * (found - plain)
        curve = (given * (p * (1 - p))[:, None]).T @ given + _PRIOR * np.eye(2)
        step = np.linalg.solve(curve, slope)
        found = found - step / max(1.0, float(np.abs(step).max()))  # at most by 1: from afar Newton overshoots
        if np.abs(step).max() < 1e-9:
            break
    return float(found[0]), float(found[1])


def probabilities(
    calibration: Mapping[str, tuple[float, float]], horizons: tuple[str, ...]
) -> Callable[[Tensor], Tensor]:
    """Return what makes probabilities of logits (..., horizons), as `stream.core.calibration` does of probabilities."""
    if not calibration:
        return torch.sigmoid
    scale, shift = torch.tensor([calibration.get(horizon, (1.0, 0.0)) for horizon in horizons]).T

    def intent(logit: Tensor) -> Tensor:
        p = list(torch.sigmoid(scale * logit.clamp(-_MOST, _MOST) + shift).unbind(-1))
        for shorter, longer in pairwise(ascending(horizons)):
            p[longer] = torch.maximum(p[longer], p[shorter])
        return torch.stack(p, -1)

    return intent


def _outcomes(network: Network, kept: Sequences, random: np.random.Generator) -> tuple[Floats, Bools, Bools, Bools]:
    """Return logits, labels and what is known of them, (events, horizons), and whose sequence is in the second half."""
    device = network.popularity.device
    none = kept.label[:0]
    parts = [[none.astype(np.float64), none, none, none[:, 0]]]
    with torch.inference_mode():
        for batch in kept.batches(_BUDGET, np.random.default_rng(0)):
            given = batch.to(str(device))
            found = network(given.item, given.category, given.type, given.numeric, **network.state(len(given.item)))
            inside = batch.known.any(-1)
            half = torch.from_numpy(random.random(len(inside)) < 0.5)[:, None].expand(inside.shape)
            logit = found.intent.cpu().double().clamp(-_MOST, _MOST)
            parts.append([p[inside].numpy() for p in (logit, batch.label, batch.known, half)])
    whole = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return whole[0], whole[1], whole[2], whole[3]


def _loss(x: Floats, y: Bools, scale: float, shift: float) -> float:
    """Compute the log loss."""
    z = scale * x + shift
    return float((np.logaddexp(0, z) - y * z).mean())
