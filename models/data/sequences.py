"""Histories as padded batches: in time order on the whole, of similar length inside."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.log import Log, labels
from stream.core.features import AGAIN, RING, Ring, again, numeric
from stream.core.manifest import TaskSpec, Vocabulary

_COLUMNS = ("item", "category", "type", "numeric", "target", "label", "known", "time", "beside")
_ROWS = 65_536  # events whose rings are in memory at once
_CHUNK = 16  # batches within which sequences are sorted by length: little padding, time order on the whole


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded at the end; (B, T) each, `numeric` (B, T, 13), `label` and `known` (B, T, horizons)."""

    item: Tensor
    category: Tensor
    type: Tensor
    numeric: Tensor
    target: Tensor  # the next event's item, 0: none
    label: Tensor
    known: Tensor
    beside: Tensor  # what the tables of pairs say of the target: see models.data.cooccurrence.beside
    events: int

    def to(self, device: str) -> "Batch":
        """Move all arrays to a device."""
        return self.apply(lambda array: array.to(device))

    def apply(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Change all arrays."""
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in _COLUMNS if name != "time"}
        return replace(self, **changed)


Say = Callable[["Sequences", Iterable[Any]], NDArray[np.float32]]


class Source(Protocol):
    """What training reads: sequences in memory, or on disk, a part at a time."""

    @property
    def events(self) -> int:
        """Return the number of events."""

    def sampled(self, most: int, seed: int) -> "Sequences":
        """Return about `most` events of random users in memory, or all where they are fewer."""

    def parts(self) -> Iterator["Sequences"]:
        """Yield the parts; together they fit in no memory but one by one."""

    def shuffle(self, seed: int) -> None:
        """Put the sequences, in time order else, into a random one, anew in each epoch."""

    def learn(self, say: Say, apart: Iterable[Any]) -> None:
        """Let `cooccurrence.beside`, `say`, fill in `beside` of the batches, by the tables without each fold."""

    def count(self, budget: int) -> int:
        """Return the number of batches in an epoch."""

    def batches(self, budget: int, order: np.random.Generator, skip: int = 0) -> Iterator[Batch]:
        """Yield one epoch in batches of at most `budget` padded events, without its first `skip` batches."""

    def sample(self, n: int, length: int) -> dict[str, NDArray[np.generic]]:
        """Return the beginnings of `n` sequences, as the step's inputs (n, length, ...)."""


class Sequences:
    """A log prepared for training: one sequence a user, cut where state ends or `longest` is reached."""

    def __init__(self, log: Log, vocab: Vocabulary, meaning: TaskSpec, end: int, longest: int) -> None:
        gap = np.where(log.starts, 0, np.diff(log.time, prepend=log.time[:1]))
        fresh = log.starts | (gap > meaning.ttl)
        gap[fresh] = 0
        kinds = np.fromiter((vocab.category_index.get(n, 0) for n in log.categories), np.int64, len(log.categories))
        self.item = vocab.place(log.items)[log.item]
        own = np.append(kinds, 0)[log.category]  # -1, no category, is the last place
        known = catalogued(self.item, len(vocab.items))
        self.category = np.where(own == 0, vocab.category_of[known], own)
        types = np.array([meaning.types.index(name) if name in meaning.types else 0 for name in log.types])
        self.type = types[log.type]
        repeats = _repeats(log, self.category, fresh)
        self.numeric = numeric(log.time, gap, fresh | (gap > meaning.gap), fresh, repeats)
        self.target = np.where(np.r_[log.starts[1:], True], 0, np.r_[self.item[1:], 0])
        self.label, self.known = labels(log, meaning, end)
        self.time = log.time
        self.beside = np.zeros((len(log), 5), np.float32)
        self.start, self.length = _cut(fresh, longest)
        in_time = np.argsort(log.time[self.start + self.length - 1], kind="stable")
        self.start, self.length = self.start[in_time], self.length[in_time]
        self.shuffled = False

    @property
    def events(self) -> int:
        """Return the number of events."""
        return len(self.item)

    def sampled(self, most: int, seed: int) -> "Sequences":
        """Return about `most` events of random sequences, or all where they are fewer."""
        if self.events <= most:
            return self
        return self.part(np.random.default_rng(seed).random(len(self.start)) < most / self.events)

    def parts(self) -> Iterator["Sequences"]:
        """Yield itself: all is in memory."""
        yield self

    def shuffle(self, seed: int) -> None:
        """Put the sequences into a random order, and those of one length into another one each epoch."""
        self.shuffled = True
        order = np.random.default_rng(seed).permutation(len(self.start))
        self.start, self.length = self.start[order], self.length[order]

    def learn(self, say: Say, apart: Iterable[Any]) -> None:
        """Take in what the tables of pairs say of the next items."""
        self.beside = say(self, apart)

    def part(self, kept: NDArray[np.bool_]) -> "Sequences":
        """Return some of the sequences, `kept` (sequences,), as a log of their own."""
        rest, start, length = copy(self), self.start[kept], self.length[kept]
        in_log = np.argsort(start)
        ends = np.cumsum(length[in_log])
        rows = np.arange(length.sum()) + np.repeat(start[in_log] - ends + length[in_log], length[in_log])
        for name in _COLUMNS:
            setattr(rest, name, getattr(self, name)[rows])
        rest.start = np.empty_like(start)
        rest.start[in_log], rest.length = ends - length[in_log], length
        return rest

    def count(self, budget: int) -> int:
        """Return the number of batches in an epoch."""
        return sum(len(parts) for parts in self._parts(budget))

    def batches(self, budget: int, order: np.random.Generator, skip: int = 0) -> Iterator[Batch]:
        """Yield one epoch in batches of at most `budget` padded events, without its first `skip` batches."""
        place, dealt = 0, self._dealt(order) if self.shuffled else np.arange(len(self.start))
        for parts in self._parts(budget):
            for i in order.permutation(len(parts)):
                if place >= skip:
                    yield self._batch(dealt[parts[i]])
                place += 1

    def sample(self, n: int, length: int) -> dict[str, NDArray[np.generic]]:
        """Return the beginnings of `n` sequences spread over the log, as the step's inputs (n, length, ...)."""
        rows = np.linspace(0, len(self.start) - 1, n).astype(np.int64)
        inside = np.arange(length) < self.length[rows, None]
        index = np.where(inside, self.start[rows, None] + np.arange(length), self.start[rows, None])
        return {name: getattr(self, name)[index] for name in ("item", "category", "type", "numeric")}

    def _dealt(self, order: np.random.Generator) -> NDArray[np.int64]:
        """Return a sequence of the same length for each: who meets in a batch changes, and no batch's size does."""
        dealt = np.empty(len(self.length), np.int64)
        dealt[np.argsort(self.length, kind="stable")] = np.lexsort((order.random(len(self.length)), self.length))
        return dealt

    def _parts(self, budget: int) -> Iterator[list[NDArray[np.int64]]]:
        for chunk in _chunks(self.length, budget * _CHUNK):
            ranked = chunk[np.argsort(self.length[chunk], kind="stable")]
            yield [ranked[part] for part in _chunks(self.length[ranked], budget, padded=True)]

    def _batch(self, rows: NDArray[np.int64]) -> Batch:
        length = self.length[rows]
        inside = np.arange(length.max()) < length[:, None]
        index = np.where(inside, self.start[rows, None] + np.arange(length.max()), 0)

        def pad(values: NDArray[np.generic]) -> Tensor:
            picked = values[index]
            picked[~inside] = 0
            return torch.from_numpy(picked)

        return Batch(
            item=pad(self.item),
            category=pad(self.category),
            type=pad(self.type),
            numeric=pad(self.numeric),
            target=pad(self.target),
            label=pad(self.label),
            known=pad(self.known),
            beside=pad(self.beside),
            events=int(length.sum()),
        )


def together(parts: Sequence[Sequences]) -> Sequences:
    """Join parts in memory."""
    whole = copy(parts[0])
    for name in _COLUMNS:
        setattr(whole, name, np.concatenate([getattr(part, name) for part in parts]))
    begin = np.cumsum([0, *(part.events for part in parts[:-1])])
    start = np.concatenate([part.start + at for part, at in zip(parts, begin, strict=True)])
    length = np.concatenate([part.length for part in parts])
    in_time = np.argsort(whole.time[start + length - 1], kind="stable")
    whole.start, whole.length = start[in_time], length[in_time]
    return whole


def catalogued(index: NDArray[np.int64], items: int) -> NDArray[np.int64]:
    """Return indices of items with 0 in the place of cold items', which lie above the catalog's `items`."""
    return np.where(index > items, 0, index)


def _repeats(log: Log, category: NDArray[np.int64], fresh: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return what `again` finds in each event's ring, made from the log itself."""
    begin = np.maximum.accumulate(np.where(fresh, np.arange(len(log)), 0))
    parts = [np.zeros((0, len(AGAIN)), np.float32)]
    for at in range(0, len(log), _ROWS):
        rows = np.arange(at, min(at + _ROWS, len(log)))
        back = rows[:, None] - np.arange(1, RING + 1)
        there = back >= begin[rows, None]
        met = np.maximum(back, 0)
        ring = Ring(log.item[met], category[met], log.type[met], log.time[met], there)
        parts.append(again(log.item[rows], category[rows], log.time[rows], ring))
    return np.concatenate(parts)


def _cut(fresh: NDArray[np.bool_], longest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    starts = np.flatnonzero(fresh)
    whole = np.diff(np.r_[starts, len(fresh)])
    parts = -(-whole // longest)
    place = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    return np.repeat(starts, parts) + place * longest, np.minimum(np.repeat(whole, parts) - place * longest, longest)


def _chunks(length: NDArray[np.int64], budget: int, padded: bool = False) -> Iterator[NDArray[np.int64]]:
    """Cut a row of sequences where the next one would exceed `budget` events, counted with padding or without."""
    begin, total, widest = 0, 0, 0
    for i, n in enumerate(length.tolist()):
        widest = max(widest, n)
        total = (i - begin + 1) * widest if padded else total + n
        if total > budget and i > begin:
            yield np.arange(begin, i)
            begin, widest = i, n
            total = n
    if len(length):
        yield np.arange(begin, len(length))
