"""64-bit fingerprints of ids: many at a time and the same in every process, or keyed."""

import secrets
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_SEED = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], "u8")
_SHIFTS = np.array([30, 27, 31], "u8")
_WORD = 8
_KEY = secrets.token_bytes(32)  # this process's own


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply the finalizer of SplitMix64 (Steele, Lea, Flood, 2014): a bijection with full avalanche."""
    x = (x ^ (x >> _SHIFTS[0])) * _MULTIPLIERS[0]
    x = (x ^ (x >> _SHIFTS[1])) * _MULTIPLIERS[1]
    return x ^ (x >> _SHIFTS[2])


def fingerprints(ids: Sequence[str]) -> NDArray[np.uint64]:
    """Return one 64-bit fingerprint an id, never 0, which stands for "no id".

    >>> a, b, again = fingerprints(["item-1", "item-2", "item-1"])
    >>> bool(a == again), bool(a == b)
    (True, False)
    """
    if not ids:
        return np.zeros(0, "u8")
    raw = [i.encode() for i in ids]
    lengths = np.fromiter(map(len, raw), np.int64, len(raw))
    words = max(-(-int(lengths.max()) // _WORD), 1)
    table = np.array(raw, f"S{words * _WORD}").view("<u8").reshape(len(raw), words)
    h = _mix(lengths.astype("u8") + _SEED)
    for column in range(words):
        # A short id must not change with the longest one of its batch.
        h = np.where(lengths > column * _WORD, _mix(h ^ table[:, column]) + _SEED, h)
    return np.where(h == 0, _SEED, h)


def keyed(ids: Iterable[str]) -> NDArray[np.uint64]:
    """Return 64 bits of each id under a key that is drawn anew in each process: nobody can choose ids that collide.

    Fingerprints can be turned around, so they tell ids apart only where nobody would make two alike.
    """
    raw = b"".join(blake2b(i.encode(), digest_size=8, key=_KEY).digest() for i in ids)
    return np.frombuffer(raw, "<u8").astype(np.uint64, copy=False)
