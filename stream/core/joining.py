"""Newcomers in the lists: candidates from their first event on, beside the model's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from msgspec import UnsetType
from numpy.typing import NDArray

from stream.core.calibration import FLOOR, expit, logit
from stream.core.features import Events, price_level
from stream.core.manifest import Novelty
from stream.core.newcomers import SLACK, Table
from stream.core.rules import Rules
from stream.core.scoring import SCORED, Scores

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Answers = Mapping[str, NDArray[Any]]
_BLOCK = 256  # events ranked at once: their matrices stay small


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
    """Rank newcomers by the directions of their categories and price levels, and their counts.

    `vectors` (categories + 1, D) and `prices` (levels + 1, D) add up to a newcomer's vector, of which the direction
    counts; `edges` divide the levels. A newcomer's logit is query times direction plus log count. What they all have
    together, and `bias`, decides how much goes to them of what is not the recent items' own; the model's list gives
    it up in proportion.
    """

    vectors: Floats
    bias: float
    prices: Floats = field(default_factory=lambda: np.zeros((1, 1), np.float32))
    edges: tuple[float, ...] = ()

    def __call__(self, answers: Answers, table: Table, log_count: Floats) -> tuple[Floats, Floats]:
        """Weigh as the class says; `answers` has `query` (n, D or more) and `others` (n,), the share of other items."""
        odds, log_mass = self.odds(answers, table, log_count)
        share = answers["others"] / (1 + np.exp(-np.clip(self.bias + log_mass, -60, 60)))
        return share, odds * share[:, None]

    def odds(self, answers: Answers, table: Table, log_count: Floats) -> tuple[Floats, Floats]:
        """Return the newcomers' probabilities among themselves, (n, m), and the log of their mass, (n,)."""
        levels = len(self.prices)
        level = price_level(table.price[: len(table)], self.edges) if levels > 1 else 0
        distinct, place = np.unique(table.category[: len(table)] * levels + level, return_inverse=True)
        vectors = self.vectors[distinct // levels] + self.prices[distinct % levels]
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        # The rest of the query weighs popularity: a newcomer's is its count.
        query = answers["query"][:, : self.vectors.shape[1]]
        logit = (query @ vectors.T)[:, place] + log_count
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
    touched.update(dict.fromkeys(table.cut(novelty.limit, novelty.half_life)))  # a changelog may hold any number
    at, prices = np.flatnonzero(scores.outcome == SCORED), _prices(events, rules)
    while len(at):
        before = table.heat(novelty.half_life)
        seen: list[tuple[int, int, float]] = []  # place in the block, slot, heat from there on
        size = 0
        for row in at[:_BLOCK].tolist():
            index, category, price = int(events.item[row]), int(events.category[row]), float(prices[row])
            if index > items and size and table.moves(index, category, price):
                break
            size += 1
            if index > items:
                shown, time = int(events.category_print[row]), int(events.time[row])
                slot = table.see(names[row], index, category, shown, price, time, novelty.half_life)
                if slot >= 0:
                    touched[names[row]] = None
                    heat = np.log2(table.count[slot]) + table.last[slot] / novelty.half_life
                    seen.append((size - 1, slot, float(heat)))
                    if len(table) > novelty.limit * SLACK:
                        break
        block, at = at[:size], at[size:]
        if len(table) and scores.items is not None:
            log_count = _log_counts(table, before, seen, events.time[block], novelty)
            listed = np.ones(len(block), bool) if scores.listed is None else np.isin(block, scores.listed)
            if listed.any():
                _rank(table, block[listed], log_count[listed], scores, items, weigh, novelty, rules)
        touched.update(dict.fromkeys(table.cut(novelty.limit, novelty.half_life)))
    return list(touched)


def _prices(events: Events, rules: Rules | None) -> NDArray[np.float64]:
    """Return the price that each event has, or else what the shop's catalog has for its item; NaN: none."""
    if rules is None or not len(rules.others):
        return events.price
    return np.where(np.isnan(events.price), rules.others.price[rules.others.rows(events.item)], events.price)


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


def own_newcomers(table: Table, answers: Answers, items: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the slots of newcomers among the recent items, (n, RECENT), -1 for others, and what a step gives each."""
    slots = table.slots(np.where(answers["recent"] > items, answers["recent"], 0))
    return slots, np.where(slots >= 0, answers["own"], 0).astype(np.float32)


def along(line: tuple[float, float], share: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Take the logit of a share along a line of scale and shift; return the factors to it and to the rest, (n,)."""
    given = np.where(share > 0, expit(line[0] * logit(share) + line[1]), 0)
    return given / np.maximum(share, FLOOR), (1 - given) / (1 - np.minimum(share, 1 - FLOOR))


def line_of(novelty: Novelty) -> tuple[float, float]:
    """Return the line of the shopper's own newcomers; where none was fitted it changes nothing."""
    return (1.0, 0.0) if isinstance(novelty.own, UnsetType) else novelty.own


def _rank(
    table: Table,
    rows: NDArray[np.intp],
    log_count: Floats,
    scores: Scores,
    items: int,
    weigh: Weigh,
    novelty: Novelty,
    rules: Rules | None,
) -> None:
    """Merge the newcomers into the lists of a block, as far as the rules let them."""
    assert scores.items is not None and scores.item_scores is not None
    answers = {name: value[rows] for name, value in scores.answers.items()}
    share, new = weigh(answers, table, log_count)
    rest = (1 - share)[:, None]
    if "own" in answers:
        slots, own = own_newcomers(table, answers, items)
        more, less = along(line_of(novelty), own.sum(1))
        own, rest = own * (rest * more[:, None]), rest * less[:, None]
        for age in range(slots.shape[1]):  # an item can be in the ring twice, but once an age
            there = np.flatnonzero(slots[:, age] >= 0)
            new[there, slots[there, age]] += own[there, age]
    known = scores.item_scores[rows] * rest
    new[np.isneginf(log_count)] = -1  # before its first event an item is in no list
    strangers = table.strangers(scores.newcomers)
    new[:, strangers] = -1
    category = table.print[: len(table)]
    if rules:
        fit, category = rules.newcomers(table.index[: len(table)], category)
        new[:, ~fit] = -1
        category[strangers] = rules.categories_of(table.index[strangers])
        _move_pinned(table, scores.items[rows], known, new, items)
    k = known.shape[1]
    worth = np.flatnonzero((new > known.min(1, keepdims=True, initial=np.inf)).any(0))
    if not len(worth):
        scores.item_scores[rows] = known
        return
    worth = worth[np.argsort(table.index[worth])]  # slots depend on restarts: of equal scores the index decides
    all_items = np.concatenate([scores.items[rows], np.tile(table.index[worth], (len(rows), 1))], 1)
    all_scores = np.concatenate([known, new[:, worth]], 1)
    best = np.argsort(-_leading(all_items, all_scores, rules), axis=1, kind="stable")
    best = best if rules and rules.by_row else best[:, :k]
    listed, given = (np.take_along_axis(part, best, 1) for part in (all_items, all_scores))
    if rules and rules.by_row:
        found = table.slots(np.where(listed > items, listed, 0))
        kinds = np.where(found >= 0, np.append(category, np.uint64(0))[found], rules.categories_of(listed))
        given, listed = rules.pick(given, np.where(given < 0, 0, listed), kinds, _bought(answers, len(rows)), k)
    # A pin may be in no table: then the rules alone name it.
    scores.newcomers.update(table.named(set(listed[listed > items].tolist()) - scores.newcomers.keys()))
    scores.items[rows] = listed
    scores.item_scores[rows] = given


def _leading(items: Ints, scores: Floats, rules: Rules | None) -> Floats:
    """Return what lists are sorted by: their scores, but that pins stay in front, in their order."""
    if rules is None or not len(rules.pins):
        return scores
    place = rules.pinned(items)
    return np.where(place >= 0, 1 + len(rules.pins) - place, scores).astype(np.float32)


def _move_pinned(table: Table, listed: Ints, known: Floats, new: Floats, items: int) -> None:
    """Give the newcomers that a list (n, k) has by a pin what the table gives them, in place: they are in it once."""
    slots = table.slots(np.where(listed > items, listed, 0))
    row, column = np.nonzero(slots >= 0)
    slot = slots[row, column]
    known[row, column] = np.maximum(new[row, slot], known[row, column])
    new[row, slot] = -1


def _bought(answers: Answers, n: int) -> Ints:
    return answers["bought"].astype(np.int64) if "bought" in answers else np.zeros((n, 0), np.int64)
