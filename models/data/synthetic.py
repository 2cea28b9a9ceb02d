"""Synthetic shoppers whose purchase process is known: the best possible probability of each event can be computed.

A shopper is of one of two kinds, a looker or a buyer, and moves through the states browse, consider, cart,
buy and away as a continuous-time Markov chain. Every jump but the one to `away` is an event. Kind and state
are hidden; what is seen is the event's type, its pause, and whether its item or category is the last one's.
The exact filter over (kind, state) and the hitting time of `buy` give the true purchase probability.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.core.events import Event

Floats = NDArray[np.float64]
BROWSE, CONSIDER, CART, BUY, AWAY = range(5)
TYPES = ("view", "view", "addtocart", "transaction")

# Jump probabilities by kind: rows from browse, consider, cart, buy, away.
JUMPS = np.array(
    [
        [  # lookers
            [0.52, 0.20, 0.02, 0.00, 0.26],
            [0.30, 0.40, 0.05, 0.00, 0.25],
            [0.40, 0.25, 0.05, 0.02, 0.28],
            [0.40, 0.00, 0.00, 0.00, 0.60],
            [1.00, 0.00, 0.00, 0.00, 0.00],
        ],
        [  # buyers
            [0.40, 0.34, 0.06, 0.00, 0.20],
            [0.20, 0.48, 0.16, 0.00, 0.16],
            [0.15, 0.25, 0.20, 0.30, 0.10],
            [0.30, 0.10, 0.00, 0.00, 0.60],
            [1.00, 0.00, 0.00, 0.00, 0.00],
        ],
    ]
)
STAY = np.array([[45.0, 60.0, 60.0, 60.0, 172_800.0], [35.0, 50.0, 30.0, 60.0, 86_400.0]])  # mean seconds
BUYERS = 0.15  # share of buyers among shoppers
SAME_ITEM = np.array([0.05, 0.30, 1.0, 1.0])  # by state: the event's item is the last one's
SAME_CATEGORY = np.array([0.40, 0.85, 1.0, 1.0])  # by state, where the item is another


@dataclass(frozen=True, slots=True)
class Shop:
    """The catalog: `item_category` (items,), and how popular items are within their category, Zipf."""

    item_category: NDArray[np.int64]
    members: list[NDArray[np.int64]]

    @classmethod
    def make(cls, items: int, categories: int) -> "Shop":
        """Deal the items out over the categories, popular ones first."""
        of = np.arange(items) % categories
        return cls(of, [np.flatnonzero(of == c) for c in range(categories)])

    def pick(self, category: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """Draw one item from each category: the r-th most popular with weight 1 / (r + 1)."""
        size = len(self.members[0])
        rank = np.minimum((np.exp(random.random(len(category)) * np.log(size + 1)) - 1).astype(np.int64), size - 1)
        return np.minimum(category + rank * len(self.members), len(self.item_category) - 1)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Events in time order as arrays; `time` in ms. `kind` and `state` are what nobody sees."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    state: NDArray[np.int64]
    time: NDArray[np.int64]
    shop: Shop
    kind: NDArray[np.int64]
    seed: int

    def __len__(self) -> int:
        return len(self.user)

    def events(self) -> Iterator[Event]:
        """Yield the wire records, in time order."""
        category = self.shop.item_category[self.item]
        rows = zip(*(a.tolist() for a in (self.user, self.state, self.item, category, self.time)), strict=True)
        for n, (user, state, item, group, time) in enumerate(rows):
            yield Event(
                event_id=f"shoppers-{self.seed}-{n}",
                user_id=f"shopper-{user}",
                type=TYPES[state],
                item_id=f"item-{item}",
                timestamp=time,
                category_id=f"category-{group}",
            )


def simulate(shoppers: int, days: float, seed: int, begin: int, items: int = 2000, categories: int = 40) -> Traffic:
    """Let shoppers shop from `begin` (ms) for some days, each arriving at a random moment."""
    random, shop = np.random.default_rng(seed), Shop.make(items, categories)
    kind = (random.random(shoppers) < BUYERS).astype(np.int64)
    taste = random.integers(0, categories, (shoppers, 3))
    clock = random.random(shoppers) * days * 86_400
    who = np.arange(shoppers)
    state, item = np.full(shoppers, BROWSE), shop.pick(taste[:, 0], random)
    steps: list[tuple[NDArray[np.int64], ...]] = []
    while True:
        who = who[clock[who] < days * 86_400]
        if not len(who):
            break
        seen = who[state[who] != AWAY]
        item[seen] = _next_item(item[seen], state[seen], taste[seen], shop, random)
        steps.append((seen, item[seen], state[seen], (clock[seen] * 1000).astype(np.int64) + begin))
        clock[who] += random.exponential(STAY[kind[who], state[who]])
        ladder = JUMPS[kind[who], state[who]].cumsum(1)
        state[who] = (random.random((len(who), 1)) > ladder).sum(1).clip(max=AWAY)
    user, chosen, states, time = (np.concatenate(part) for part in zip(*steps, strict=True))
    order = np.argsort(time, kind="stable")
    return Traffic(user[order], chosen[order], states[order], time[order], shop, kind, seed)


def _next_item(
    last: NDArray[np.int64], state: NDArray[np.int64], taste: NDArray[np.int64], shop: Shop, random: np.random.Generator
) -> NDArray[np.int64]:
    """Draw items; what is meant to be another category or item is never the last one's by chance."""
    old, count = shop.item_category[last], len(shop.members)
    favourite = taste[np.arange(len(last)), random.integers(0, taste.shape[1], len(last))]
    favourite = np.where(favourite == old, (favourite + 1) % count, favourite)
    stays = random.random(len(last)) < SAME_CATEGORY[state]
    other = shop.pick(np.where(stays, old, favourite), random)
    other = np.where(other == last, np.where(last >= count, last - count, last + count), other)
    return np.where(random.random(len(last)) < SAME_ITEM[state], last, other)


def reach(seconds: float) -> Floats:
    """Return the probability of a purchase within some seconds, by kind and state, shape (2, 5)."""
    table = np.zeros((2, 5))
    for kind in range(2):
        rates = np.zeros((6, 6))  # a sixth state absorbs: bought
        rates[:5, :5] = JUMPS[kind] / STAY[kind][:, None]
        rates[:5, 5], rates[:5, BUY] = rates[:5, BUY], 0.0
        np.fill_diagonal(rates, 0.0)
        np.fill_diagonal(rates, -rates.sum(1))
        table[kind] = _exponential(rates * seconds)[:5, 5]
    return table


def _exponential(matrix: Floats) -> Floats:
    """Compute the matrix exponential by scaling and squaring (Higham, 2005)."""
    halvings = max(0, int(np.ceil(np.log2(np.abs(matrix).max() + 1e-300))) + 4)
    scaled, term, total = matrix / 2**halvings, np.eye(len(matrix)), np.eye(len(matrix))
    for n in range(1, 16):
        term = term @ scaled / n
        total = total + term
    for _ in range(halvings):
        total = total @ total
    return total


def truth(traffic: Traffic, seconds: float) -> Floats:
    """Return for each event the probability of a purchase within some seconds after it, given all that was seen."""
    order = np.lexsort((traffic.time, traffic.user))
    user, time = traffic.user[order], traffic.time[order] / 1000
    first = np.r_[True, user[1:] != user[:-1]]
    starts = np.flatnonzero(first)
    belief = np.zeros((len(starts), 2, 4))
    belief[:, :, BROWSE] = [1 - BUYERS, BUYERS]
    result, hits = np.zeros(len(order)), reach(seconds)[:, :4]
    length = np.diff(np.r_[starts, len(order)])
    alike = _likelihood(traffic, order)
    for place in range(int(length.max(initial=0))):
        rows = np.flatnonzero(length > place)
        at = starts[rows] + place
        if place:
            belief[rows] = _filter(belief[rows], time[at] - time[at - 1], alike[at])
        result[order[at]] = (belief[rows] * hits).sum((1, 2))
    return result


def _likelihood(traffic: Traffic, order: NDArray[np.intp]) -> Floats:
    """Return how probable what is seen of each event is by state, shape (n, 4)."""
    item, state = traffic.item[order], traffic.state[order]
    category = traffic.shop.item_category[item]
    same_item = np.r_[False, item[1:] == item[:-1]][:, None]
    same_category = np.r_[False, category[1:] == category[:-1]][:, None]
    kept = np.where(same_category, SAME_CATEGORY[:CART], 1 - SAME_CATEGORY[:CART])
    seen = np.zeros((len(item), 4))
    seen[:, :CART] = np.where(same_item, SAME_ITEM[:CART], (1 - SAME_ITEM[:CART]) * kept)
    seen[state >= CART] = 0
    seen[state == CART, CART] = 1
    seen[state == BUY, BUY] = 1
    return seen


def _filter(belief: Floats, pause: Floats, seen: Floats) -> Floats:
    stay, leave = 1 / STAY[:, :4], 1 / STAY[:, AWAY, None]
    gap = pause[:, None, None]
    direct = stay * np.exp(-gap * stay)
    around = stay * leave / (stay - leave) * (np.exp(-gap * leave) - np.exp(-gap * stay))
    moved: Any = np.einsum("nks,kst->nkt", belief * direct, JUMPS[:, :4, :4])
    moved[:, :, BROWSE] += (belief * around * JUMPS[:, :4, AWAY]).sum(2)
    moved = moved * seen[:, None] + 1e-300
    return np.asarray(moved / moved.sum((1, 2), keepdims=True))
