"""Probabilities at their word: each horizon's logit on a line that was fitted to what came of it (Platt, 1999)."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.core.features import Arrays
from stream.core.manifest import Manifest, ascending

FLOOR = 1e-7  # what float32 can tell from 0 and 1


def calibrated(outputs: Arrays, manifest: Manifest) -> Arrays:
    """Return a step's outputs with the manifest's calibration applied to `intent` (n, horizons)."""
    if not manifest.calibration:
        return outputs
    horizons = manifest.meaning.horizons
    scale, shift = np.array([manifest.calibration.get(horizon, (1.0, 0.0)) for horizon in horizons]).T
    raw: NDArray[Any] = outputs["intent"]
    p = np.clip(raw.astype(np.float64), FLOOR, 1 - FLOOR)
    p = 1 / (1 + np.exp(-scale * (np.log(p) - np.log1p(-p)) - shift))
    for shorter, longer in pairwise(ascending(horizons)):
        p[:, longer] = np.maximum(p[:, longer], p[:, shorter])
    return {**outputs, "intent": p.astype(np.float32)}
