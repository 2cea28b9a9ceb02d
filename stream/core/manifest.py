"""What a model means: everything that scoring must agree on with training, and that travels in the bundle."""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.hashing import fingerprints

FORMAT = 4
SESSION = "session"
STATES = ("float16", "float32")  # types of the users' states, the first one is the default
TYPES = 0xFFFF  # the part of a model's fingerprint that is of its types
INDICES = 2**31 - 1  # an index of an item fits into int32
_LONGEST = 1_000_000 * 86_400_000  # ms: of a span, so that sums with times stay in 64 bits
_RING, _TYPES, _LISTED = 248, 255, 10_000  # bytes of a session record hold a ring's length and an event's type
_IDS, _WIDE, _STATE = 1 << 26, 1 << 16, 1 << 20  # at most: items or categories, columns, numbers of a user's state
LARGEST, _HALF_LIFE = 1e4, 1000  # at most: logits, their scales and shifts, coordinates; at least: ms
_STATE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(span: str) -> int:
    """Convert a span such as `30m`, `1h` or `7d`; raise ValueError for anything else.

    >>> milliseconds("1h")
    3600000
    """
    match = re.fullmatch(r"([1-9][0-9]*)([smhd])", span)
    if not match:
        raise ValueError(f"{span!r} is no span of time: write a number and s, m, h or d, such as 30m or 24h")
    return int(match[1]) * _UNITS[match[2]]


def ascending(horizons: tuple[str, ...]) -> list[int]:
    """Return the places of the spans among horizons, the shortest first; the session is none.

    >>> ascending(("24h", "session", "1h"))
    [2, 0]
    """
    spans = [place for place, horizon in enumerate(horizons) if horizon != SESSION]
    return sorted(spans, key=lambda place: milliseconds(horizons[place]))


class TaskSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The facts that training fixes and serving obeys; spans in milliseconds."""

    types: tuple[str, ...] = ("view", "addtocart", "transaction")
    purchase: str = "transaction"
    horizons: tuple[str, ...] = ("1h", "24h")  # spans, or "session" for the rest of the session
    gap: int = 30 * 60_000  # inactivity that ends a session
    ttl: int = 30 * 86_400_000  # inactivity that ends a user's state
    lateness: int = 60 * 60_000  # how far behind the user's newest event one may lie
    ring: int = 8  # recent events kept with the state, also the window for duplicates
    k: int = 20  # recommendations an event

    def __post_init__(self) -> None:
        if self.purchase not in self.types:
            raise ValueError(f"the purchase type {self.purchase!r} is not among the types {self.types}")
        if min(self.gap, self.ttl, self.ring, self.k) < 1 or self.lateness < 0 or self.ring % 8:
            raise ValueError("gap, ttl and k are positive, lateness is not negative, ring is a multiple of 8")
        spans = [milliseconds(horizon) for horizon in self.horizons if horizon != SESSION]
        if max(self.gap, self.ttl, self.lateness, *spans) > _LONGEST or self.ring > _RING or self.k > _LISTED:
            raise ValueError(f"spans are up to {_LONGEST} ms, ring is up to {_RING}, k up to {_LISTED}")
        if not 0 < len(self.types) <= _TYPES or not 0 < len(self.horizons) <= _TYPES:
            raise ValueError(f"there are 1 to {_TYPES} types and horizons")
        if len(set(self.types)) < len(self.types) or len(set(self.horizons)) < len(self.horizons):
            raise ValueError("a type or a horizon is there twice")


class ColdStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How items that training did not see are ranked, see `stream.recommend.cold_ranking`."""

    bias: float  # of the share that they get, a logit
    half_life: float = 86_400_000.0  # of their counts, ms
    limit: int = 4096  # how many are kept a partition
    price_edges: tuple[float, ...] | msgspec.UnsetType = msgspec.UNSET  # between the levels of price; unset: not read
    own: tuple[float, float] | msgspec.UnsetType = msgspec.UNSET  # scale and shift of the logit of the user's own

    def __post_init__(self) -> None:
        edges, own = self.price_edges or (), self.own or ()
        if not all(map(math.isfinite, edges)) or not all(abs(number) <= LARGEST for number in (self.bias, *own)):
            raise ValueError(f"a newcomer's numbers are finite, of logits up to {LARGEST:,.0f}")
        if not self.half_life >= _HALF_LIFE:
            raise ValueError(f"a newcomer's half-life is {_HALF_LIFE} ms or more")
        if not 0 < self.limit <= _IDS or len(edges) > _WIDE or any(a >= b for a, b in pairwise(edges)):
            raise ValueError(f"limit is 1 to {_IDS}, prices ascend")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bundle's description; `files` maps each file to its SHA-256.

    A horizon without a calibration is left as the network says; without any there is no such field, nor one of
    horizons that training knew no purchase of, so that the names of bundles from before them stand.
    """

    format: int = FORMAT
    model: str = ""  # SHA-256 over everything else in this manifest, shortened
    meaning: TaskSpec = TaskSpec()
    inputs: tuple[str, ...]  # numeric inputs of the step, in order
    hidden: dict[str, tuple[int, ...]]  # state tensors: shape for one user
    integers: tuple[str, ...] = ()  # those of them that hold indices of items, kept as int32
    state_dtype: str = STATES[0]
    items: int
    categories: int
    dimension: int  # of the catalog's vectors
    calibration: dict[str, tuple[float, float]] | msgspec.UnsetType = msgspec.UNSET  # scale and shift of the logit
    unlearned: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET  # horizons whose intent is not published
    novelty: ColdStart | None = None  # None: only the catalog is recommended
    files: dict[str, str] = {}
    parity: dict[str, float] = {}
    training: dict[str, Any] = {}

    def __post_init__(self) -> None:
        for horizon, (scale, shift) in (self.calibration or {}).items():
            if horizon not in self.meaning.horizons or not 0 < scale <= LARGEST or not abs(shift) <= LARGEST:
                raise ValueError(
                    f"the calibration of {horizon!r} is of no horizon, turns the order around, or is beyond "
                    f"{LARGEST:,.0f}"
                )
        if lost := set(self.unlearned or ()) - set(self.meaning.horizons):
            raise ValueError(f"{min(lost)!r}, whose intent is not published, is no horizon")
        if not (0 <= self.items <= _IDS and 0 <= self.categories <= _IDS and 0 < self.dimension <= _WIDE):
            raise ValueError(f"there are up to {_IDS} items and categories, and up to {_WIDE} columns")
        if self.state_dtype not in STATES:
            raise ValueError(f"states are of {' or '.join(STATES)}, not {self.state_dtype!r}")
        sizes = [(math.prod(shape), min(shape, default=1)) for shape in self.hidden.values()]
        if sum(size for size, _ in sizes) > _STATE or any(least < 1 for _, least in sizes):
            raise ValueError(f"a shopper's state has up to {_STATE} numbers")
        if not all(map(_STATE_NAME.fullmatch, self.hidden)) or not self.hidden.keys() >= set(self.integers):
            raise ValueError("a state's name is of small letters, and indices are states")

    @property
    def published(self) -> list[int]:
        """The places of the horizons whose intent is published."""
        lost = self.unlearned or ()
        return [place for place, horizon in enumerate(self.meaning.horizons) if horizon not in lost]

    @property
    def fingerprint(self) -> int:
        """The model as it stands in a session record: 64 bits, never 0, of which `TYPES` tell its event types."""
        return (int(self.model[:12] or "1", 16) << 16) | types_print(self.meaning.types)

    @property
    def former_fingerprint(self) -> int:
        """The model as it stands in session records of the former format, which tell no types."""
        return int(self.model[:16] or "1", 16)


@lru_cache
def types_print(types: tuple[str, ...]) -> int:
    """Return 16 bits of event types in their order: a ring holds their places, which mean nothing in another order.

    >>> types_print(("view", "fav")) == types_print(("fav", "view"))
    False
    """
    return int(fingerprints(["\n".join(types)])[0]) & TYPES


class Vocabulary:
    """Ids and their indices: 0 is the unknown category or no item, above the known items are cold items."""

    def __init__(self, items: list[str], categories: list[str], category_of: list[int]) -> None:
        self.items = items
        self.categories = categories
        self.item_index = {item: i for i, item in enumerate(items, 1)}
        self.category_index = {category: i for i, category in enumerate(categories, 1)}
        self.category_of = np.array([0, *category_of], np.int64)
        self.item_print = np.concatenate([np.zeros(1, "u8"), fingerprints(items)])
        self.category_print = np.concatenate([np.zeros(1, "u8"), fingerprints(categories)])
        self._item_order = np.argsort(self.item_print)
        self._category_order = np.argsort(self.category_print)
        self._category_low = self.category_print.astype(np.uint32)
        self._category_low_order = np.argsort(self._category_low, kind="stable")

    def item_of(self, prints: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Find the indices of fingerprints; an unknown one has a cold item's, 0 stays 0."""
        found = _find(prints, self.item_print, self._item_order)
        return np.where((found == 0) & (prints != 0), self.newcomer(prints), found)

    def unknown_prints(self, items: Sequence[str]) -> NDArray[np.uint64]:
        """Return fingerprints of unknown items, none of which is a known item's, even if an id is made to have it."""
        prints = fingerprints(items)
        return np.where(_find(prints, self.item_print, self._item_order) != 0, ~prints, prints)

    def newcomer(self, prints: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the indices of unknown items: above the known ones, and the same in every process."""
        known = len(self.items)
        return (known + 1 + prints % np.uint64(INDICES - known)).astype(np.int64)

    def known(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return indices of items with 0 in the place of cold items'."""
        return np.where(index > len(self.items), 0, index)

    def name(self, index: int) -> str:
        """Name a known item; a cold item, whose name is not kept here, and no item have the empty one."""
        return self.items[index - 1] if 0 < index <= len(self.items) else ""

    def place(self, items: Sequence[str]) -> NDArray[np.int64]:
        """Return the indices of items, cold items included."""
        found = np.fromiter((self.item_index.get(item, 0) for item in items), np.int64, len(items))
        if len(unknown := np.flatnonzero(found == 0)):
            found[unknown] = self.newcomer(self.unknown_prints([items[i] for i in unknown.tolist()]))
        return found

    def category_at(self, prints: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Find the indices of category fingerprints, 0 where one is unknown."""
        return _find(prints, self.category_print, self._category_order)

    def category_in_ring(self, halves: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Find the indices of category fingerprints by their lower halves, 0 where one is unknown."""
        return _find(halves, self._category_low, self._category_low_order)


def _find(prints: NDArray[Any], table: NDArray[Any], order: NDArray[np.int64]) -> NDArray[np.int64]:
    at = order[np.searchsorted(table, prints, sorter=order).clip(max=len(table) - 1)]
    return np.where(table[at] == prints, at, 0)
