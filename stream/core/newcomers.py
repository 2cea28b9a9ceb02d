"""Items that the model has not seen: candidates from their first event on, one bounded table a partition.

A newcomer's index follows from its id alone (`Vocabulary.place`), so sessions can refer to it without the
table, which holds what a ranking needs: name, category, and a count of its events that halves with time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.features import Events
from stream.core.manifest import Novelty, Vocabulary
from stream.core.rules import Rules
from stream.core.scoring import SCORED, Scores

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Answers = Mapping[str, NDArray[Any]]
_BLOCK = 256  # events ranked at once: their matrices stay small
_SLACK = 1.125  # a table grows so far beyond its limit before it is cut back


class Newcomer(msgspec.Struct, frozen=True):
    """A newcomer as the changelog keeps it: fingerprint of its category, its count at its last event (ms)."""

    category: int
    count: float
    last: int


_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Newcomer).decode


class Table:
    """The newcomers of a partition; the least counted go where there are too many."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.index = np.zeros(0, np.int64)
        self.category = np.zeros(0, np.int64)
        self.print = np.zeros(0, np.uint64)  # of the category
        self.count = np.zeros(0)
        self.last = np.zeros(0, np.int64)
        self.stale: dict[str, None] = {}  # names in the changelog that are no newcomers to this model
        self._slot: dict[int, int] = {}
        self._room = 0

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Name a newcomer that is in the table."""
        return self.names[self._slot[index]]

    def slots(self, index: Ints) -> Ints:
        """Find newcomers' slots, -1 for what is none or not in the table."""
        found = [self._slot.get(i, -1) for i in index.ravel().tolist()]
        return np.array(found, np.int64).reshape(index.shape)

    def moves(self, index: int, category: int) -> bool:
        """Tell whether an event of this category gives a newcomer another one."""
        slot = self._slot.get(index)
        return slot is not None and category not in (0, self.category[slot])

    def see(self, name: str, index: int, category: int, print_: int, time: int, half_life: float) -> int:
        """Count an event of a newcomer, and return its slot; -1 where another item has its index."""
        slot = self._slot.get(index)
        if slot is None:
            slot = self._add(name, index)
            self.last[slot] = time
        elif self.names[slot] != name:
            return -1
        if category:
            self.category[slot], self.print[slot] = category, print_
        ahead = (time - int(self.last[slot])) / half_life
        self.count[slot] = self.count[slot] * 2.0 ** -max(ahead, 0.0) + 2.0 ** min(ahead, 0.0)
        self.last[slot] = max(int(self.last[slot]), time)
        return slot

    def put(self, name: str, index: int, category: int, value: Newcomer) -> None:
        """Set a newcomer to what the changelog has of it."""
        slot = self._slot.get(index)
        slot = self._add(name, index) if slot is None else slot
        self.names[slot] = name
        self.category[slot], self.print[slot] = category, value.category
        self.count[slot], self.last[slot] = value.count, value.last

    def get(self, name: str, index: int) -> Newcomer | None:
        """Return a newcomer as the changelog keeps it, None where it is not in the table."""
        slot = self._slot.get(index)
        if slot is None or self.names[slot] != name:
            return None
        return Newcomer(int(self.print[slot]), float(self.count[slot]), int(self.last[slot]))

    def remove(self, name: str, index: int) -> None:
        """Forget a newcomer, known or not."""
        slot = self._slot.get(index)
        if slot is not None and self.names[slot] == name:
            self._keep(np.flatnonzero(np.arange(len(self)) != slot))

    def heat(self, half_life: float) -> NDArray[np.float64]:
        """Return the log2 of the counts, all as they will be at time 0: comparable with each other at any time."""
        return np.log2(self.count[: len(self)]) + self.last[: len(self)] / half_life

    def cut(self, limit: int, half_life: float) -> list[str]:
        """Forget the least counted where there are far more than `limit`; name them."""
        if len(self) <= limit * _SLACK:
            return []
        order = np.lexsort((self.index[: len(self)], -self.heat(half_life)))
        gone = [self.names[slot] for slot in order[limit:].tolist()]
        self._keep(np.sort(order[:limit]))
        return gone

    def _add(self, name: str, index: int) -> int:
        slot = len(self.names)
        if slot >= self._room:
            self._room = max(2 * self._room, 64)
            for column in ("index", "category", "print", "count", "last"):
                old = getattr(self, column)
                setattr(self, column, np.concatenate([old[:slot], np.zeros(self._room - slot, old.dtype)]))
        self.names.append(name)
        self._slot[index] = slot
        self.index[slot], self.category[slot], self.count[slot] = index, 0, 0.0
        return slot

    def _keep(self, slots: NDArray[np.int64]) -> None:
        for column in ("index", "category", "print", "count", "last"):
            old = getattr(self, column)
            old[: len(slots)] = old[slots]
        self.names = [self.names[slot] for slot in slots.tolist()]
        self._slot = {index: slot for slot, index in enumerate(self.index[: len(slots)].tolist())}


class Weigh(Protocol):
    """Give newcomers their scores."""

    def __call__(self, answers: Answers, table: Table, log_count: Floats) -> tuple[Floats, Floats]:
        """Return the share that the model's own list cedes, (n,), and newcomers' scores, (n, m).

        `answers` are what the step says beside its list, `log_count` (n, m) the log of the counts at each
        event's time, minus infinity before a newcomer's first event.
        """
        ...


@dataclass(frozen=True, slots=True)
class ByCategory:
    """Rank newcomers by their categories' unit vectors (categories + 1, D) and their counts.

    A newcomer's logit is query times vector plus log count. What they all have together, and `bias`, decides
    how much goes to them of what is not the recent items' own; the model's list gives it up in proportion.
    """

    vectors: Floats
    bias: float

    def __call__(self, answers: Answers, table: Table, log_count: Floats) -> tuple[Floats, Floats]:
        """Weigh as the class says; `answers` has `query` (n, D or more) and `others` (n,), the share of other items."""
        odds, log_mass = self.odds(answers, table, log_count)
        share = answers["others"] / (1 + np.exp(-np.clip(self.bias + log_mass, -60, 60)))
        return share, odds * share[:, None]

    def odds(self, answers: Answers, table: Table, log_count: Floats) -> tuple[Floats, Floats]:
        """Return the newcomers' probabilities among themselves, (n, m), and the log of their mass, (n,)."""
        distinct, place = np.unique(table.category[: len(table)], return_inverse=True)
        # The rest of the query weighs popularity: a newcomer's is its count.
        query = answers["query"][:, : self.vectors.shape[1]]
        logit = (query @ self.vectors[distinct].T)[:, place] + log_count
        highest = np.maximum(logit.max(1, keepdims=True), -1e4)
        odds = np.exp(logit - highest)
        mass = odds.sum(1, keepdims=True)
        return odds / np.maximum(mass, 1e-30), (highest + np.log(np.maximum(mass, 1e-30)))[:, 0]


def join(
    table: Table,
    events: Events,
    scores: Scores,
    names: Sequence[str],
    novelty: Novelty,
    items: int,
    weigh: Weigh,
    rules: Rules | None = None,
) -> list[str]:
    """Let the newcomers among scored events join the table and the lists, in the events' order.

    An event's list can hold what came up to this event, itself included, and nothing later: chunks leave no
    trace. Without lists they only join. `names` are the events' items. Returns the names of newcomers whose
    changelog records change, once each.
    """
    touched, table.stale = table.stale, {}
    at = np.flatnonzero(scores.outcome == SCORED)
    while len(at):
        before = table.heat(novelty.half_life)
        seen: list[tuple[int, int, float]] = []  # place in the block, slot, heat from there on
        size = 0
        for row in at[:_BLOCK].tolist():
            given = int(events.category[row]), int(events.category_print[row]), int(events.time[row])
            if (index := int(events.item[row])) > items and size and table.moves(index, given[0]):
                break
            size += 1
            if index > items:
                slot = table.see(names[row], index, *given, novelty.half_life)
                if slot >= 0:
                    touched[names[row]] = None
                    heat = np.log2(table.count[slot]) + table.last[slot] / novelty.half_life
                    seen.append((size - 1, slot, float(heat)))
                    if len(table) > novelty.limit * _SLACK:
                        break
        block, at = at[:size], at[size:]
        if len(table) and scores.items is not None:
            log_count = _log_counts(table, before, seen, events.time[block], novelty)
            listed = np.ones(len(block), bool) if scores.listed is None else np.isin(block, scores.listed)
            if listed.any():
                _rank(table, block[listed], log_count[listed], scores, items, weigh, rules)
        touched.update(dict.fromkeys(table.cut(novelty.limit, novelty.half_life)))
    return list(touched)


def _log_counts(
    table: Table, before: NDArray[np.float64], seen: list[tuple[int, int, float]], time: Ints, novelty: Novelty
) -> Floats:
    """Return the log of each newcomer's count at each event of a block, (n, m)."""
    # Heats are large: what is common to a block is taken off before they become float32.
    base = int(time.max()) / novelty.half_life
    start = np.full(len(table), -np.inf)
    start[: len(before)] = before
    heat = np.tile((start - base).astype(np.float32), (len(time), 1))
    for place, slot, value in seen:
        heat[place:, slot] = value - base
    heat += (base - time / novelty.half_life).astype(np.float32)[:, None]
    heat *= np.float32(np.log(2))
    return heat


def _rank(
    table: Table,
    rows: NDArray[np.intp],
    log_count: Floats,
    scores: Scores,
    items: int,
    weigh: Weigh,
    rules: Rules | None,
) -> None:
    """Merge the newcomers into the lists of a block, as far as the rules let them."""
    assert scores.items is not None and scores.item_scores is not None
    answers = {name: value[rows] for name, value in scores.answers.items()}
    share, new = weigh(answers, table, log_count)
    rest = (1 - share)[:, None]
    known = scores.item_scores[rows] * rest
    if "own" in answers:
        recent = answers["recent"]
        slots = table.slots(np.where(recent > items, recent, 0))
        for age in range(slots.shape[1]):  # an item can be in the ring twice, but once an age
            there = np.flatnonzero(slots[:, age] >= 0)
            new[there, slots[there, age]] += answers["own"][there, age] * rest[there, 0]
    category = table.print[: len(table)]
    if rules:
        fit, category = rules.newcomers(table.index[: len(table)], category)
        new[:, ~fit] = -1
    k = known.shape[1]
    worth = np.flatnonzero((new > known.min(1, keepdims=True, initial=np.inf)).any(0))
    if not len(worth):
        scores.item_scores[rows] = known
        return
    all_items = np.concatenate([scores.items[rows], np.tile(table.index[worth], (len(rows), 1))], 1)
    all_scores = np.concatenate([known, new[:, worth]], 1)
    best = np.argsort(-_leading(all_items, all_scores, rules), axis=1, kind="stable")
    best = best if rules and rules.by_row else best[:, :k]
    listed, given = (np.take_along_axis(part, best, 1) for part in (all_items, all_scores))
    if rules and rules.by_row:
        found = table.slots(np.where(listed > items, listed, 0))
        kinds = np.where(found >= 0, np.append(category, np.uint64(0))[found], rules.categories_of(listed))
        given, listed = rules.pick(given, np.where(given < 0, 0, listed), kinds, _bought(answers, len(rows)), k)
    scores.newcomers.update({index: table.name(index) for index in np.unique(listed[listed > items]).tolist()})
    scores.items[rows] = listed
    scores.item_scores[rows] = given


def _leading(items: Ints, scores: Floats, rules: Rules | None) -> Floats:
    """Return what lists are sorted by: their scores, but that pins stay in front, in their order."""
    if rules is None or not len(rules.pins):
        return scores
    place = len(rules.pins) - (items[:, :, None] == rules.pins).argmax(2)
    return np.where(np.isin(items, rules.pins), 1 + place, scores).astype(np.float32)


def _bought(answers: Answers, n: int) -> Ints:
    return answers["bought"].astype(np.int64) if "bought" in answers else np.zeros((n, 0), np.int64)


def load(table: Table, vocabulary: Vocabulary, name: str, value: bytes | None) -> None:
    """Take up a changelog record; what the vocabulary knows by now is no newcomer, and is noted as stale."""
    if name in vocabulary.item_index:
        table.stale.pop(name, None)
        if value is not None:
            table.stale[name] = None
        return
    index = int(vocabulary.place([name])[0])
    if value is None:
        return table.remove(name, index)
    found = _decode(value)
    category = int(vocabulary.category_at(np.array([found.category], np.uint64))[0])
    table.put(name, index, category, found)


def pack(table: Table, vocabulary: Vocabulary, names: list[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield newcomers as the changelog keeps them; None for one that is forgotten."""
    for name, index in zip(names, vocabulary.place(names).tolist(), strict=True):
        found = table.get(name, index)
        yield name, None if found is None else _encode(found)
