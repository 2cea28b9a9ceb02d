"""Event logs as arrays: read once, grouped by user, split by time, labelled from what comes after."""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stream.core.errors import DataError
from stream.core.events import Event
from stream.core.features import price_level
from stream.core.manifest import SESSION, TaskSpec, Vocabulary, milliseconds
from stream.formats.registry import BadRow, BadRows, Form, numbered, strict
from stream.formats.values import EARLY, LATE
from stream.mappings import read_log

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
KNOWN_TYPES = ("view", "addtocart", "transaction")
LEVELS = 16  # of price


def type_order(types: Iterable[str]) -> tuple[str, ...]:
    """Return event types in an order that does not depend on the log: the known ones first.

    >>> type_order(["view", "zip", "transaction", "fav"])
    ('view', 'addtocart', 'transaction', 'fav', 'zip')
    """
    return (*KNOWN_TYPES, *sorted(set(types) - set(KNOWN_TYPES)))


class _Table:
    """Ids in the order of their first appearance."""

    def __init__(self, *names: str) -> None:
        self.index = {name: place for place, name in enumerate(names)}

    def __call__(self, name: str) -> int:
        return self.index.setdefault(name, len(self.index))

    @property
    def names(self) -> list[str]:
        return list(self.index)


@dataclass(frozen=True, slots=True)
class Log:
    """Events sorted by user, then time; a user's events of one time stay in the order of the file.

    `user`, `item`, `category` (-1: none) and `type` index the tables of names; `time` in ms.
    """

    user: Ints
    item: Ints
    category: Ints
    type: Ints
    time: Ints
    users: list[str]
    items: list[str]
    categories: list[str]
    types: list[str]
    prices: NDArray[np.float64]  # the first one known of each item, NaN: none
    priced: Ints  # when that was, ms
    timed: bool  # False: a log of sessions, whose times only tell their order
    bad: BadRows

    def __len__(self) -> int:
        return len(self.user)

    def where(self, keep: Bools) -> Self:
        """Keep some events; the tables stay."""
        part = {name: getattr(self, name)[keep] for name in ("user", "item", "category", "type", "time")}
        return replace(self, **part)

    def price_at(self, item: Ints, time: Ints) -> NDArray[np.float64]:
        """Return the prices that are known of items at some times (ms), NaN before an item's first one."""
        return np.where(self.priced[item] <= time, self.prices[item], np.nan)

    @property
    def known_prices(self) -> NDArray[np.float64]:
        """Return the items' prices as far as they are known when the log ends."""
        return np.where(self.priced <= self.time.max(initial=0), self.prices, np.nan)

    @property
    def first_met(self) -> Bools:
        """Mark the first event of each user with each item."""
        _, first = np.unique(self.user * len(self.items) + self.item, return_index=True)
        met = np.zeros(len(self), bool)
        met[first] = True
        return met

    @property
    def starts(self) -> Bools:
        """Mark the first event of each user."""
        return np.r_[True, self.user[1:] != self.user[:-1]] if len(self) else np.zeros(0, bool)


def load(path: Path, form: Form, progress: Callable[[int], None] = lambda _: None) -> Log:
    """Read a log; `progress` hears the number of events now and then. Raises DataError."""
    log = gather(read_log(path, strict(form)), timed=form != "sessions", progress=progress)
    log.bad.numbered = numbered(form)
    return log


def gather(rows: Iterable[Event | BadRow], timed: bool, progress: Callable[[int], None] = lambda _: None) -> Log:
    """Collect rows into a log."""
    users, items, categories, types = _Table(), _Table(), _Table(), _Table(*KNOWN_TYPES)
    columns, prices = [array("q") for _ in range(5)], dict[int, tuple[int, float]]()
    user, item, category, type_, time = (column.append for column in columns)
    bad = BadRows()
    for n, row in enumerate(rows):
        if n % 50_000 == 0:
            progress(n)
        if isinstance(row, BadRow):
            bad.add(row)
            continue
        user(users(row.user_id))
        item(items(row.item_id))
        if row.price is not None and isfinite(row.price):
            _price(prices, items(row.item_id), row.timestamp, row.price)
        category(categories(row.category_id) if row.category_id else -1)
        type_(types(row.type))
        time(row.timestamp)
    if not columns[0]:
        raise no_events(bad)
    arrays = [np.frombuffer(column, np.int64) for column in columns]
    if timed:
        strange = np.count_nonzero((arrays[4] < EARLY) | (arrays[4] >= LATE))
        bad.saw(int(arrays[4].min()), int(arrays[4].max()), int(strange))
    order = np.lexsort((arrays[4], arrays[0]))
    first = [prices.get(n, (0, np.nan)) for n in range(len(items.index))]
    return Log(
        user=arrays[0][order],
        item=arrays[1][order],
        category=arrays[2][order],
        type=arrays[3][order],
        time=arrays[4][order],
        users=users.names,
        items=items.names,
        categories=categories.names,
        types=types.names,
        prices=np.array([price for _, price in first]),
        priced=np.array([time for time, _ in first], np.int64),
        timed=timed,
        bad=bad,
    )


def no_events(bad: BadRows) -> DataError:
    """Return the error for a log without events, which says what was left out of it."""
    return DataError("\n  ".join(["the log has no events", *bad.lines()]), "check the path and the format")


def _price(prices: dict[int, tuple[int, float]], item: int, time: int, price: float) -> None:
    """Keep an item's earliest price; of two at the same time the first in the file."""
    if item not in prices or time < prices[item][0]:
        prices[item] = time, price


def cutoff(log: Log, tail: float) -> int:
    """Return the time (ms) that the last `tail` of the log begins with; sessions without times are counted whole."""
    if not 0 < tail < 1:
        raise DataError(f"a tail of {tail} is no part of a log", "give a fraction between 0 and 1, such as 0.05")
    times = log.time if log.timed else log.time[log.starts]
    return int(np.sort(times)[min(int(len(times) * (1 - tail)), len(times) - 1)])


def vocabulary(log: Log) -> Vocabulary:
    """Index the items and categories that occur in a log; an item has the category that it was last seen with."""
    items, categories = np.unique(log.item), np.unique(log.category[log.category >= 0])
    category_index = np.zeros(max(len(log.categories), 1), np.int64)
    category_index[categories] = np.arange(1, len(categories) + 1)
    of = np.zeros(len(log.items), np.int64)
    in_time = np.argsort(log.time, kind="stable")
    in_time = in_time[log.category[in_time] >= 0]
    of[log.item[in_time]] = category_index[log.category[in_time]]
    return Vocabulary([log.items[i] for i in items], [log.categories[i] for i in categories], of[items].tolist())


def price_levels(price: NDArray[np.float64]) -> tuple[list[int], list[float]]:
    """Return the level of each price, 1 to `LEVELS` with as many items each, 0: none (NaN), and what divides them.

    Both are empty where no item has a price.
    """
    known = price[np.isfinite(price)]
    if not len(known):
        return [], []
    edges = np.quantile(known, np.linspace(0, 1, LEVELS + 1)[1:-1]).tolist()
    return price_level(price, edges).tolist(), edges


def sessions_of(log: Log, gap: int) -> Ints:
    """Number the sessions: a new one with each user, and after a pause longer than `gap` ms."""
    opens = log.starts | (np.diff(log.time, prepend=log.time[:1]) > gap)
    return np.cumsum(opens) - 1


def labels(log: Log, meaning: TaskSpec, end: int) -> tuple[Bools, Bools]:
    """Tell for each event and horizon whether its user buys within the horizon after it.

    `end` is the time (ms) up to which the log is complete. Returns (label, known), each (n, horizons). A label
    whose horizon reaches beyond `end` is not known, bought or not: to keep the purchases alone would make every
    event before the end a purchase. For the session, events from its first purchase on are not judged: whether
    someone will buy is a question about who has not.
    """
    n = len(log)
    index = np.arange(n)
    buys = np.flatnonzero(log.type == log.types.index(meaning.purchase)) if meaning.purchase in log.types else index[:0]
    place = np.searchsorted(buys, index, side="right")
    following = np.r_[buys, n][place]
    at = np.minimum(following, max(n - 1, 0))
    same = (following < n) & (log.user[at] == log.user)
    wait = np.where(same, log.time[at] - log.time, np.iinfo(np.int64).max)
    session = sessions_of(log, meaning.gap)
    last = np.r_[np.flatnonzero(np.diff(session)), n - 1] if n else index
    bought = np.zeros(len(last), np.int64) + n
    np.minimum.at(bought, session[buys], buys)
    label, known = [], []
    for horizon in meaning.horizons:
        if horizon == SESSION:
            yes = same & (session[at] == session)
            complete = (log.time[last] + meaning.gap < end)[session] & (index < bought[session])
        else:
            yes = wait <= milliseconds(horizon)
            complete = log.time + milliseconds(horizon) <= end
        label.append(yes)
        known.append(complete)
    return np.stack(label, 1), np.stack(known, 1)
