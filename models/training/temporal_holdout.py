"""A log cut in two in time: a network of the earlier part meets the later one as it will meet what comes next."""

from copy import copy

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.data.sequences import Sequences, catalogued
from models.training.checkpoint import Run
from stream.core.features import NUMERIC
from stream.core.manifest import SESSION, milliseconds


def rehearse(sequences: Sequences, run: Run, share: float) -> tuple[Run, Sequences, Sequences]:
    """Return the run over the earlier part's items, the earlier part, and the later one to be asked about.

    The later part is the latest `share` of the events in time. Its sequences are whole, but only its own events
    have targets; an item that the earlier part does not have is unknown. Labels that reach into it are not known
    in the earlier one.
    """
    since = np.quantile(sequences.time, 1 - share)
    early = sequences.time < since
    inside = np.add.reduceat(early, np.sort(sequences.start))[np.argsort(np.argsort(sequences.start))]
    first = _cut(sequences, inside)
    spans = [run.meaning.gap if name == SESSION else milliseconds(name) for name in run.meaning.horizons]
    first.known = first.known & (first.time[:, None] + np.array(spans) < since)
    if SESSION in run.meaning.horizons:
        first.known[_open(first, since, run.meaning.gap), run.meaning.horizons.index(SESSION)] = False
    later = sequences.part(inside < sequences.length)
    later.target = np.where(later.time < since, 0, later.target)
    later.known = later.known & (later.time[:, None] >= since)
    kept = np.unique(catalogued(first.item, len(run.items)))
    kept = kept[kept > 0]
    for part in (first, later):
        _narrow(part, kept, len(run.items))
    narrow = msgspec.structs.replace(
        run,
        items=[run.items[i - 1] for i in kept],
        category_of=[run.category_of[i - 1] for i in kept],
        price_level=[run.price_level[i - 1] for i in kept] if run.price_level else [],
        data=dict(run.data),
        epochs=[],
        metrics={},
    )
    return narrow, first, later


def _cut(sequences: Sequences, length: NDArray[np.int64]) -> Sequences:
    """Return the first `length` events of each sequence; what comes after them is not asked for."""
    shorter = copy(sequences)
    shorter.target = sequences.target.copy()
    shorter.target[(sequences.start + length - 1)[(length > 0) & (length < sequences.length)]] = 0
    shorter.length = length
    return shorter.part(length > 0)


def _open(sequences: Sequences, until: float, gap: int) -> NDArray[np.bool_]:
    """Mark the events of sessions that may go on after `until` (ms): their last event is less than a gap before."""
    session = np.cumsum(sequences.numeric[:, NUMERIC.index("opens")] > 0)
    newest = np.zeros(session.max(initial=0) + 1)
    np.maximum.at(newest, session, sequences.time)
    found: NDArray[np.bool_] = newest[session] + gap >= until
    return found


def _narrow(sequences: Sequences, kept: NDArray[np.int64], items: int) -> None:
    index = np.zeros(items + 1, np.int64)
    index[kept] = np.arange(1, len(kept) + 1)
    sequences.item = index[catalogued(sequences.item, items)]
    sequences.target = index[catalogued(sequences.target, items)]
