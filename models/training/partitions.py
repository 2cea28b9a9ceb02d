"""A prepared log as what training reads: one partition in memory at a time.

A partition holds whole users, dealt out by hash: a fair sample of the log over all of its time. An epoch goes
through the partitions in random order, and through each in time order. The tables of pairs weigh an event by its
place in its own partition's time, and what is popular of late is so in a partition's last tenth: in a fair sample
both are nearly the log's. The judge learns from a sample of the partitions that fits in memory.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.data.log import Log, price_levels, type_order
from models.data.prepared import Prepared
from models.data.sequences import Batch, Say, Sequences, together
from models.training.checkpoint import Run
from models.training.config import TrainConfig
from stream.core.errors import DataError
from stream.core.manifest import TaskSpec, Vocabulary

_BINS = 1 << 16  # of time, in the search for the cutoff


class Partitions:
    """The training part of a prepared log: events before `since` (ms), labels known up to `end`."""

    def __init__(self, prepared: Prepared, run: Run, since: int, events: int) -> None:
        self.prepared, self.run, self.since, self.events = prepared, run, since, events
        self.vocabulary = run.vocabulary
        self.budget = run.config.budget(events)
        self._say: Callable[[Sequences], NDArray[np.float32]] | None = None
        self._steps: dict[int, int] = {}
        self._seed: int | None = None  # of the sequences' order, None: time

    @classmethod
    def over(
        cls, prepared: Prepared, config: TrainConfig, meaning: TaskSpec, tail: float
    ) -> tuple["Partitions", Run, int, int]:
        """Return the training part of a log, its run, and the times (ms) where the held-out tail begins and ends."""
        end = prepared.facts.end
        since = cutoff(prepared, tail) if tail else end + 1
        vocab, items, events = vocabulary(prepared, since)
        if not events:
            raise DataError("nothing is left to train on", "hold out a smaller tail")
        known = np.where(prepared.priced[items] < since, prepared.prices[items], np.nan)
        level, edges = price_levels(known)
        facts = {"path": prepared.facts.path, "format": prepared.facts.format, "partitions": prepared.facts.partitions}
        run = Run(
            config=config,
            meaning=msgspec.structs.replace(meaning, types=type_order(prepared.types)),
            items=vocab.items,
            categories=vocab.categories,
            category_of=vocab.category_of[1:].tolist(),
            price_level=level,
            price_edges=edges,
            data=facts | {"events": prepared.facts.events, "trained": events, "bad": prepared.facts.bad},
        )
        return cls(prepared, run, since, events), run, since, end

    def __len__(self) -> int:
        return self.prepared.facts.partitions

    def log(self, partition: int) -> Log:
        """Read one partition, the held-out tail included."""
        return self.prepared.log(partition)

    def sampled(self, most: int, seed: int) -> Sequences:
        """Return the first partitions with `most` events, joined; of a single one that is larger a random part."""
        found: list[Sequences] = []
        for part in self.parts():
            found.append(part)
            if sum(one.events for one in found) >= most:
                break
        return together(found).sampled(most, seed)

    def parts(self) -> Iterator[Sequences]:
        """Yield the partitions that have events to train on, in their order."""
        for partition in range(len(self)):
            part = self._part(partition)
            self._steps[partition] = part.count(self.budget)
            if part.events:
                yield part

    def shuffle(self, seed: int) -> None:
        """Put the sequences of each partition into a random order."""
        self._seed = seed
        self._steps.clear()

    def learn(self, say: Say, apart: Iterable[Any]) -> None:
        """Take in what tells of a part's next items; the tables of all folds stay in memory."""
        tables = list(apart)
        self._say = lambda part: say(part, tables)

    def count(self, budget: int) -> int:
        """Return the number of batches in an epoch."""
        if budget != self.budget or len(self._steps) < len(self):
            return sum(part.count(budget) for part in self.parts())
        return sum(self._steps.values())

    def batches(self, budget: int, order: np.random.Generator, skip: int = 0) -> Iterator[Batch]:
        """Yield one epoch in batches, partition after partition, without its first `skip` batches."""
        self.count(budget)
        partitions = order.permutation(len(self)).tolist()
        # Dice of its own for each partition: those that are skipped throw none.
        dice = order.spawn(len(self)) if len(self) > 1 else [order]
        for partition in partitions:
            steps = self._steps[partition]
            if skip < steps:
                part = self._part(partition)
                if self._say is not None:
                    part.beside = self._say(part)
                yield from part.batches(budget, dice[partition], skip)
            skip = max(skip - steps, 0)

    def sample(self, n: int, length: int) -> dict[str, NDArray[np.generic]]:
        """Return the beginnings of `n` sequences of the first partition, as the step's inputs (n, length, ...)."""
        return next(self.parts()).sample(n, length)

    def _part(self, partition: int) -> Sequences:
        log = self.prepared.log(partition)
        seen = log.where(log.time < self.since)
        known = min(self.since, self.prepared.facts.end)
        part = Sequences(seen, self.vocabulary, self.run.meaning, known, self.run.config.longest)
        if self._seed is not None:
            part.shuffle(self._seed)
        return part


def cutoff(prepared: Prepared, tail: float) -> int:
    """Return the time (ms) that the last `tail` of the log begins with, as `models.data.log.cutoff` does.

    The log is gone through twice: the first time counts by spans of time, the second sorts the span that matters.
    """
    if not 0 < tail < 1:
        raise DataError(f"a tail of {tail} is no part of a log", "give a fraction between 0 and 1, such as 0.05")

    def times() -> Iterator[NDArray[np.int64]]:
        for partition in range(prepared.facts.partitions):
            log = prepared.log(partition)
            yield log.time if log.timed else log.time[log.starts]

    begin = min(int(time.min()) for time in times() if len(time))
    width = (prepared.facts.end - begin) // _BINS + 1
    counts = np.zeros(_BINS, np.int64)
    for time in times():
        counts += np.bincount((time - begin) // width, minlength=_BINS)
    place = min(int(counts.sum() * (1 - tail)), int(counts.sum()) - 1)
    span = int(np.searchsorted(np.cumsum(counts), place, side="right"))
    inside = np.sort(np.concatenate([time[(time - begin) // width == span] for time in times()]))
    return int(inside[place - counts[:span].sum()])


def vocabulary(prepared: Prepared, since: int) -> tuple[Vocabulary, NDArray[np.int64], int]:
    """Index what occurs before `since` (ms), as `models.data.log.vocabulary` does.

    Return its items' places in the log's table and the number of events, too.
    """
    newest = np.full(len(prepared.items), -1, np.int64)
    of, items = np.full(len(prepared.items), -1, np.int64), np.zeros(len(prepared.items), bool)
    categories, events = np.zeros(len(prepared.categories), bool), 0
    for partition in range(prepared.facts.partitions):
        log = prepared.log(partition)
        log = log.where(log.time < since)
        items[log.item] = True
        told = log.where(log.category >= 0)
        categories[told.category] = True
        in_time = np.argsort(told.time, kind="stable")
        time, category = np.full(len(items), -1, np.int64), np.zeros(len(items), np.int64)
        time[told.item[in_time]], category[told.item[in_time]] = told.time[in_time], told.category[in_time]
        newer = (time >= 0) & (time >= newest)
        newest[newer], of[newer] = time[newer], category[newer]
        events += len(log)
    index = np.append(np.cumsum(categories), 0)  # -1, no category, is the last place
    found: list[Any] = [np.flatnonzero(items), np.flatnonzero(categories)]
    names = [prepared.items[i] for i in found[0]], [prepared.categories[i] for i in found[1]]
    return Vocabulary(*names, index[of[found[0]]].tolist()), found[0], events
