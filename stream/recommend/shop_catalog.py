"""The shop's own catalog: what may be listed, in which category, what is pinned. Strictly decoded, kept by item."""

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from stream.core.events import ID_LENGTH_MAX, odd
from stream.core.hashing import fingerprints, keyed
from stream.core.manifest import Vocabulary
from stream.recommend.list_filters import PINS, USERS, Others, Rules

REASONS = ("no_key", "oversized", "not_json", "schema", "range")
_KEY, _VALUE = 256, 4096  # bytes at most
_PENDING = 65_536  # changes of unknown items that are merged together at most: each may weigh a kilobyte meanwhile
_SAID = np.dtype([("key", "u8"), ("category", "u8"), ("refused", "?"), ("price", "f8")])


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the shop says of an item; `pins` is its place among the pinned ones, which lead each list, 0 for none."""

    availability: bool
    # None: as the model knows it, or a cold item's events say
    category: Annotated[str, Meta(max_length=ID_LENGTH_MAX)] | None = None
    price: float | None = None
    pins: int = 0


class BadItem(msgspec.Struct, frozen=True):
    """A record that is no item, with one of `REASONS`, and in words what is wrong where more can be said."""

    reason: str
    detail: str = ""


_decode = msgspec.json.Decoder(Item).decode


def decode(
    key: bytes | None, value: bytes, longest: int = ID_LENGTH_MAX, printable: bool = True
) -> tuple[str, Item] | BadItem:
    """Return an item's id and what a record says of it, or why it is none; ids are held to what events' ids are."""
    if not key:
        return BadItem("no_key")
    if len(key) > _KEY or len(value) > _VALUE:
        return BadItem("oversized")
    try:
        name, item = key.decode(), _decode(value)
    except msgspec.ValidationError as error:
        return BadItem("schema", str(error).replace("$.", ""))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return BadItem("not_json")
    if fault := odd(name, longest, printable):
        return BadItem("schema", f"the id {fault}")
    if item.pins < 0:
        return BadItem("range", f"pins is {item.pins}")
    if item.price is not None and not 0 <= item.price < float("inf"):
        return BadItem("range", f"price is {item.price}")
    return name, item


class Catalog:
    """The newest good record of each item, and the rules that follow; one thread writes, and hands rules out."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        categories: list[str],
        cap: int,
        exclude_bought: bool,
        only_named: bool = False,
        users: int = USERS,
        longest: int = ID_LENGTH_MAX,
        printable: bool = True,
    ) -> None:
        """Take the settings of the rules; without `categories` items of all are listed."""
        self._vocabulary = vocabulary
        self._only = fingerprints(categories) if categories else None
        self._cap, self._exclude = cap, exclude_bought
        self._only_named, self._users = only_named, users
        self._longest, self._printable = longest, printable
        self._given = vocabulary.category_print[vocabulary.category_of]  # the model's own
        self._category = self._given.copy()
        self._there = np.ones(len(self._category), np.bool_)
        self._pins: dict[str, int] = {}
        self._said = np.zeros(0, _SAID)  # of the others, by their names' keyed fingerprints
        self._others = Others.of([], [], [], [])
        self._changed: dict[str, Item | None] = {}  # of the others, since they were merged; None: taken back
        self._made: Rules | None = None  # of the records so far

    def apply(self, key: bytes | None, value: bytes | None) -> str:
        """Take up a record, without a value a removal; return the reason where it is none, and nothing changes."""
        held = (ID_LENGTH_MAX, False) if value is None else (self._longest, self._printable)
        found = decode(key, b'{"availability": true}' if value is None else value, *held)
        if isinstance(found, BadItem):
            return found.reason
        self._made = None
        name, item = found
        index = self._vocabulary.item_index.get(name, 0)
        self._pins.pop(name, None)
        if item.pins:
            self._pins[name] = item.pins
        if index:
            said = fingerprints([item.category])[0] if item.category else self._given[index]
            self._there[index], self._category[index] = item.availability, said
        else:
            self._changed[name] = None if value is None else item
            if len(self._changed) >= _PENDING:
                self._merge()
        return ""

    def rules(self) -> Rules:
        """Return the rules as they are now; later records do not change them."""
        self._made = self._made or self._make()
        return self._made

    def _make(self) -> Rules:
        self._merge()
        allowed = self._there.copy()
        if self._only is not None:
            allowed &= np.isin(self._category, self._only)
        pins = sorted(self._pins, key=lambda name: (self._pins[name], name))
        at = self._vocabulary.place(pins)
        known, row = at < len(allowed), self._others.rows(keyed(pins))
        new = ~self._others.refused[row]
        if self._only is not None:
            new &= np.isin(self._others.category[row], self._only)
        fit = np.flatnonzero(np.where(known, allowed[np.where(known, at, 0)], new))
        # Of two pins with one index the first is pinned.
        fit = fit[np.sort(np.unique(at[fit], return_index=True)[1])][:PINS]
        return Rules(
            category=self._category.copy(),
            allowed=allowed,
            pins=at[fit],
            names={int(at[i]): pins[i] for i in fit.tolist() if not known[i]},
            said=self._others.category[row[fit]],
            others=self._others,
            only_named=self._only_named,
            users=self._users,
            categories=self._only,
            cap=self._cap,
            exclude_bought=self._exclude,
        )

    def _merge(self) -> None:
        """Take up what changed of the others, all at once: a shop may have more of them than the model has items."""
        if not self._changed:
            return
        keys = keyed(self._changed)
        there = np.array([item is not None for item in self._changed.values()])
        items = [item for item in self._changed.values() if item]
        new = np.zeros(len(items), _SAID)
        new["key"] = keys[there]
        categories = [item.category or "" for item in items]
        new["category"] = np.where([bool(name) for name in categories], fingerprints(categories), 0)
        new["refused"] = [not item.availability for item in items]
        new["price"] = [np.nan if item.price is None else item.price for item in items]
        self._said = np.concatenate([self._said[~np.isin(self._said["key"], keys)], new])
        self._others = Others.of(*(self._said[name] for name in _SAID.names or ()))
        self._changed.clear()
