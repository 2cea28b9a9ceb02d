"""Cold items in the lists: candidates from their first event on, beside the model's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from msgspec import UnsetType
from numpy.typing import NDArray

from stream.core.calibration import FLOOR, expit, logit
from stream.core.features import Events, price_level
from stream.core.hashing import keyed
from stream.core.manifest import ColdStart
from stream.core.scoring import SCORED, Scores
from stream.recommend.cold_items import SLACK, Table
from stream.recommend.list_filters import Rules

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Prints = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Answers = Mapping[str, NDArray[Any]]
_BLOCK = 256  # events ranked at once: their matrices stay small


class Weigh(Protocol):
    """Give cold items their scores."""

    def __call__(self, answers: Answers, table: Table, log_count: Floats) -> tuple[Floats, Floats]:
        """Return the share that the model's own list cedes, (n,), and cold items' scores, (n, m).

        `answers` are what the step says beside its list, `log_count` (n, m) the log of the counts at each
        event's time, minus infinity before a cold item may be listed.
        """
        ...


@dataclass(frozen=True, slots=True)
class ByCategory:
    """Rank cold items by the directions of their categories and price levels, and their counts.

    `vectors` (categories + 1, D) and `prices` (levels + 1, D) add up to a cold item's vector, of which the direction
    counts; `edges` divide the levels. A cold item's logit is query times direction plus log count. What they all have
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
        """Return the cold items' probabilities among themselves, (n, m), and the log of their mass, (n,)."""
        levels = len(self.prices)
        level = price_level(table.price[: len(table)], self.edges) if levels > 1 else 0
        distinct, place = np.unique(table.category[: len(table)] * levels + level, return_inverse=True)
        vectors = self.vectors[distinct // levels] + self.prices[distinct % levels]
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        # The rest of the query weighs popularity: a cold item's is its count.
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
    novelty: ColdStart,
    items: int,
    weigh: Weigh,
    rules: Rules | None = None,
    users: Prints | None = None,
) -> list[str]:
    """Let the cold items among scored events join the table and the lists, in the events' order.

    An event's list can hold what came up to this event, itself included, and nothing later: chunks leave no
    trace. Without lists they only join. `names` are the events' items, `users` fingerprints of their users, of
    which only cold items' are read. Where the rules ask for users who met a cold item, it is listed before that to
    those alone who have it among their recent items. Returns the names of cold items whose changelog records change,
    once each.
    """
    touched, table.stale = table.stale, {}
    touched.update(dict.fromkeys(table.cut(novelty.limit, novelty.half_life)))  # a changelog may hold any number
    users = np.zeros(len(events), np.uint64) if users is None else users
    at, prices = np.flatnonzero(scores.outcome == SCORED), _prices(events, names, items, rules)
    while len(at):
        block = _Block(table, novelty, _listable(table, rules, 0))
        size = 0
        for row in at[:_BLOCK].tolist():
            index, category, price = int(events.item[row]), int(events.category[row]), float(prices[row])
            if index > items and size and table.moves(names[row], category, price):
                break
            size += 1
            if index > items:
                shown, time = int(events.category_print[row]), int(events.time[row])
                whom = int(events.item_print[row]), int(users[row]), int(scores.since[row])
                slot = table.see(names[row], index, category, shown, price, time, novelty.half_life, *whom)
                block.see(size - 1, slot, rules)
                touched[names[row]] = None
                if len(table) > novelty.limit * SLACK:
                    break
        rows, at = at[:size], at[size:]
        if len(table) and scores.items is not None:
            log_count = block.log_counts(events.time[rows])
            listed = np.ones(len(rows), bool) if scores.listed is None else np.isin(rows, scores.listed)
            if listed.any():
                there = block.joined[None] <= np.flatnonzero(listed)[:, None]
                _rank(table, rows[listed], log_count[listed], there, scores, items, weigh, novelty, rules)
        touched.update(dict.fromkeys(table.cut(novelty.limit, novelty.half_life)))
    return list(touched)


def _listable(table: Table, rules: Rules | None, begin: int) -> Mask:
    """Tell which cold items from slot `begin` on may be listed to users who did not meet them."""
    users = np.bitwise_count(table.met[begin : len(table)])
    return np.ones(len(users), bool) if rules is None else rules.trusted(table.key[begin : len(table)], users)


class _Block:
    """Events that are ranked at once: what cold items' counts are before them, and what each of them changes."""

    def __init__(self, table: Table, novelty: ColdStart, listable: Mask) -> None:
        self.table, self.novelty = table, novelty
        self.before = np.where(listable, table.heat(novelty.half_life), -np.inf)
        self.begun: dict[int, int] = {}  # slots that join in this block, and where
        self.listable = listable.tolist()
        self.seen: list[tuple[int, int, float]] = []  # place in the block, slot, heat from there on

    @property
    def joined(self) -> Ints:
        """Return from which place on each cold item is there."""
        found = np.zeros(len(self.table), np.int64)
        found[list(self.begun)] = list(self.begun.values())
        return found

    def see(self, place: int, slot: int, rules: Rules | None) -> None:
        """Note an event of a cold item that the table has seen."""
        table = self.table
        if slot == len(self.listable):
            self.begun[slot] = place
            self.listable.append(False)
        if not self.listable[slot]:
            users = np.bitwise_count(table.met[slot : slot + 1])
            self.listable[slot] = rules is None or bool(rules.trusted(table.key[slot : slot + 1], users)[0])
        if self.listable[slot]:
            heat = np.log2(table.count[slot]) + table.last[slot] / self.novelty.half_life
            self.seen.append((place, slot, float(heat)))

    def log_counts(self, time: Ints) -> Floats:
        """Return the log of each cold item's count at each event of the block, (n, m)."""
        # Heats are large: what is common to a block is taken off before they become float32.
        base = int(time.max()) / self.novelty.half_life
        start = np.full(len(self.table), -np.inf)
        start[: len(self.before)] = self.before
        heat = np.tile((start - base).astype(np.float32), (len(time), 1))
        for place, slot, value in self.seen:
            heat[place:, slot] = value - base
        heat += (base - time / self.novelty.half_life).astype(np.float32)[:, None]
        heat *= np.float32(np.log(2))
        return heat


def _prices(events: Events, names: Sequence[str], items: int, rules: Rules | None) -> NDArray[np.float64]:
    """Return the price that each event has, or else what the shop's catalog has for its item; NaN: none."""
    if rules is None or not len(rules.others):
        return events.price
    found, new = events.price.copy(), np.flatnonzero((events.item > items) & np.isnan(events.price))
    found[new] = rules.others.price[rules.others.rows(keyed(names[row] for row in new.tolist()))]
    return found


def own_newcomers(table: Table, answers: Answers, items: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the slots of cold items among the recent items, (n, RECENT), -1 for others, and what a step gives each.

    `met`, fingerprints of those items, tells cold items apart whose indices are the same by chance.
    """
    slots = table.slots(np.where(answers["recent"] > items, answers["recent"], 0))
    if "met" in answers:
        same = np.append(table.item[: len(table)], np.uint64(0))[slots] == answers["met"][:, : slots.shape[1]]
        slots = np.where(same, slots, -1)
    return slots, np.where(slots >= 0, answers["own"], 0).astype(np.float32)


def along(line: tuple[float, float], share: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Take the logit of a share along a line of scale and shift; return the factors to it and to the rest, (n,)."""
    given = np.where(share > 0, expit(line[0] * logit(share) + line[1]), 0)
    return given / np.maximum(share, FLOOR), (1 - given) / (1 - np.minimum(share, 1 - FLOOR))


def line_of(novelty: ColdStart) -> tuple[float, float]:
    """Return the line of the user's own cold items; where none was fitted it changes nothing."""
    return (1.0, 0.0) if isinstance(novelty.own, UnsetType) else novelty.own


def _rank(
    table: Table,
    rows: NDArray[np.intp],
    log_count: Floats,
    there: Mask,
    scores: Scores,
    items: int,
    weigh: Weigh,
    novelty: ColdStart,
    rules: Rules | None,
) -> None:
    """Merge the cold items into the lists of a block, as far as the rules let them; `there` (n, m) are in the table."""
    assert scores.items is not None and scores.item_scores is not None
    answers = {name: value[rows] for name, value in scores.answers.items()}
    share, new = weigh(answers, table, log_count)
    new[np.isneginf(log_count)] = -1
    rest = (1 - share)[:, None]
    if "own" in answers:
        slots, own = own_newcomers(table, answers, items)
        more, less = along(line_of(novelty), own.sum(1))
        own, rest = own * (rest * more[:, None]), rest * less[:, None]
        for age in range(slots.shape[1]):  # an item can be in the ring twice, but once an age
            met = np.flatnonzero(slots[:, age] >= 0)
            slot = slots[met, age]
            new[met, slot] = np.maximum(new[met, slot], 0) + own[met, age]
        new[~there] = -1  # before its first event an item is in no list
    known = scores.item_scores[rows] * rest
    category = table.print[: len(table)]
    kinds = np.zeros((len(rows), 0), np.uint64)
    if rules:
        fit, category = rules.newcomers(table.key[: len(table)], category)
        new[:, ~fit] = -1
        pinned = _move_pinned(table, scores.items[rows], known, new, rules)
        kinds = np.where(
            pinned >= 0, np.append(category, np.uint64(0))[pinned], rules.categories_of(scores.items[rows])
        )
    k = known.shape[1]
    worth = np.flatnonzero((new > known.min(1, keepdims=True, initial=np.inf)).any(0))
    if not len(worth):
        scores.item_scores[rows] = known
        return
    worth = table.sort(worth)  # of equal scores the index decides
    entries = table.apart(worth, scores.newcomers)
    all_items = np.concatenate([scores.items[rows], np.tile(entries, (len(rows), 1))], 1)
    all_scores = np.concatenate([known, new[:, worth]], 1)
    best = np.argsort(-_leading(all_items, all_scores, rules), axis=1, kind="stable")
    best = best if rules and rules.by_row else best[:, :k]
    listed, given = (np.take_along_axis(part, best, 1) for part in (all_items, all_scores))
    if rules and rules.by_row:
        kinds = np.take_along_axis(np.concatenate([kinds, np.tile(category[worth], (len(rows), 1))], 1), best, 1)
        given, listed = rules.pick(given, np.where(given < 0, 0, listed), kinds, _bought(answers, len(rows)), k)
    # A pin may be in no table: then the rules alone name it.
    slot_of = dict(zip(entries.tolist(), worth.tolist(), strict=True))
    for entry in set(listed[listed > items].tolist()) - scores.newcomers.keys():
        scores.newcomers[entry] = table.names[slot_of[entry]]
    scores.items[rows] = listed
    scores.item_scores[rows] = given


def _leading(items: Ints, scores: Floats, rules: Rules | None) -> Floats:
    """Return what lists are sorted by: their scores, but that pins stay in front, in their order."""
    if rules is None or not len(rules.pins):
        return scores
    place = rules.pinned(items)
    return np.where(place >= 0, 1 + len(rules.pins) - place, scores).astype(np.float32)


def _move_pinned(table: Table, listed: Ints, known: Floats, new: Floats, rules: Rules) -> Ints:
    """Give the cold items that a list (n, k) has by a pin what the table gives them, in place: they are in it once.

    Returns their slots, (n, k), -1 for all else.
    """
    slots = np.full(listed.shape, -1)
    for index, name in rules.names.items():
        slots[listed == index] = table.slot(name)
    row, column = np.nonzero(slots >= 0)
    slot = slots[row, column]
    known[row, column] = np.maximum(new[row, slot], known[row, column])
    new[row, slot] = -1
    return slots


def _bought(answers: Answers, n: int) -> Ints:
    return answers["bought"].astype(np.int64) if "bought" in answers else np.zeros((n, 0), np.int64)
