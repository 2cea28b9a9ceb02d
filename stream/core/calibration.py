"""Probabilities at their word: each horizon's logit on a line that was fitted to what came of it (Platt, 1999)."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.core.features import Arrays
from stream.core.manifest import Manifest, ascending

FLOOR = 1e-7  # what float32 can tell from 0 and 1


def logit(p: NDArray[Any]) -> NDArray[Any]:
    """Return the logits of probabilities, bounded by what float32 can tell."""
    inside = np.clip(p, FLOOR, 1 - FLOOR)
    found: NDArray[Any] = np.log(inside) - np.log1p(-inside)
    return found


def expit(x: NDArray[Any]) -> NDArray[Any]:
    """Return the probabilities of logits."""
    found: NDArray[Any] = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    return found


def calibrated(outputs: Arrays, manifest: Manifest) -> Arrays:
    """Return a step's outputs with the manifest's calibration applied to `intent` (n, horizons)."""
    if not manifest.calibration:
        return outputs
    horizons = manifest.meaning.horizons
    scale, shift = np.array([manifest.calibration.get(horizon, (1.0, 0.0)) for horizon in horizons]).T
    raw: NDArray[Any] = outputs["intent"]
    p = expit(scale * logit(raw.astype(np.float64)) + shift)
    for shorter, longer in pairwise(place for place in ascending(horizons) if place in manifest.published):
        p[:, longer] = np.maximum(p[:, longer], p[:, shorter])
    return {**outputs, "intent": p.astype(np.float32)}
