"""Event and session to arrays: the only feature code, used by serving and by training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import repeat
from operator import attrgetter
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stream.core.events import Event
from stream.core.hashing import fingerprints
from stream.core.manifest import Vocabulary

Ints = NDArray[np.int64]
Arrays = Mapping[str, NDArray[np.generic]]
_COLUMNS = attrgetter("item_id", "category_id", "type", "timestamp", "event_id", "price")

AGAIN = ("item_again", "item_near", "item_wanted", "category_again", "category_near", "pace")
NUMERIC = ("log_gap", "opens", "fresh", "hour_sin", "hour_cos", "weekday_sin", "weekday_cos", *AGAIN)
RING = 8  # events looked back on, whatever a session keeps
_HOUR, _DAY = 3_600_000, 86_400_000
_MONDAY = 4 * _DAY  # 1970-01-01 was a Thursday: this many ms later a Monday begins


@dataclass(slots=True)
class Events:
    """A batch of events as arrays of one length; times in ms, `slot` the row of the user's session.

    `arrived` is the clock of the partition as it stood at the event: the newest record time until then.
    """

    slot: Ints
    time: Ints
    arrived: Ints
    type: Ints
    item: Ints
    category: Ints
    event_print: NDArray[np.uint64]
    item_print: NDArray[np.uint64]
    category_print: NDArray[np.uint64]
    price: NDArray[np.float64]  # NaN: none

    def __len__(self) -> int:
        return len(self.slot)

    def take(self, rows: NDArray[np.intp]) -> Self:
        """Return the given rows as a batch of their own."""
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))


def encode(events: Sequence[Event], arrived: Ints, slot: Ints, types: Mapping[str, int], vocab: Vocabulary) -> Events:
    """Turn decoded events, all of known types, into arrays."""
    n = len(events)
    items, categories, kinds, times, ids, prices = zip(*map(_COLUMNS, events), strict=True) if n else ((),) * 6
    item = np.fromiter(map(vocab.item_index.get, items, repeat(0)), np.int64, n)
    category = np.fromiter(map(vocab.category_index.get, categories, repeat(0)), np.int64, n)
    category = np.where(category == 0, vocab.category_of[item], category)
    item_print = vocab.item_print[item]
    if len(unknown := np.flatnonzero(item == 0)):
        item_print[unknown] = vocab.unknown_prints([items[i] for i in unknown.tolist()])
        item[unknown] = vocab.newcomer(item_print[unknown])
    return Events(
        slot=slot,
        time=np.fromiter(times, np.int64, n),
        arrived=arrived,
        type=np.fromiter(map(types.__getitem__, kinds), np.int64, n),
        item=item,
        category=category,
        event_print=fingerprints(ids),
        item_print=item_print,
        category_print=vocab.category_print[category],
        price=np.array(prices, np.float64),
    )


def price_level(price: NDArray[np.float64], edges: Sequence[float]) -> Ints:
    """Return the level of prices between `edges`, 1 and up, 0 where there is none (NaN)."""
    return np.where(~np.isfinite(price), 0, 1 + np.searchsorted(np.asarray(edges, np.float64), price, side="right"))


@dataclass(slots=True)
class Ring:
    """A batch's recent events, newest first, (n, places) each; `there` tells which places are taken."""

    item: NDArray[np.generic]
    category: NDArray[np.generic]
    type: NDArray[np.generic]
    time: Ints
    there: NDArray[np.bool_]


def again(item: NDArray[np.generic], category: NDArray[np.generic], time: Ints, ring: Ring) -> NDArray[np.float32]:
    """Return the inputs of `AGAIN`, shape (n, 6): what of an event was in its user's ring already.

    Items and categories are compared as they come, fingerprints or indices, so that an item never trained on is
    known again; category 0 is none. An item is wanted if it was met by more than a view, the first type.
    """
    there = ring.there[:, :RING]
    same = (ring.item[:, :RING] == item[:, None]) & there
    alike = (ring.category[:, :RING] == category[:, None]) & there & (category != 0)[:, None]
    nearness = 1 / np.arange(1, there.shape[1] + 1)
    oldest = np.where(there, ring.time[:, :RING], time[:, None]).min(1)
    columns = (
        same.mean(1),
        (same * nearness).max(1),
        (same & (ring.type[:, :RING] != 0)).any(1),
        alike.mean(1),
        (alike * nearness).max(1),
        np.log1p(np.maximum(time - oldest, 0) / 1000) / 10,
    )
    return np.stack(columns, 1).astype(np.float32)


def numeric(
    time: Ints, gap: Ints, opens: NDArray[np.bool_], fresh: NDArray[np.bool_], repeats: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the inputs of `NUMERIC`, shape (n, 13); `gap` in ms since the user's last event, 0 if fresh.

    `repeats` are the inputs of `AGAIN`.
    """
    hour = 2 * np.pi * (time % _DAY) / _DAY
    weekday = 2 * np.pi * ((time - _MONDAY) % (7 * _DAY)) / (7 * _DAY)
    # log1p of seconds runs from 0 to about 15 in a month; a tenth of it is of the others' size.
    columns = (np.log1p(gap / 1000) / 10, opens, fresh, np.sin(hour), np.cos(hour), np.sin(weekday), np.cos(weekday))
    return np.concatenate([np.stack(columns, 1).astype(np.float32), repeats], 1)


def inputs(
    item: Ints, category: Ints, type_: Ints, numbers: NDArray[np.float32]
) -> dict[str, NDArray[np.int64] | NDArray[np.float32]]:
    """Name the step's inputs."""
    return {"item": item, "category": category, "type": type_, "numeric": numbers}
