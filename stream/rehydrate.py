"""Changelog records into sessions; a record of another model is scored anew from its ring, so nobody starts cold."""

from collections.abc import Iterable

import numpy as np

from stream.core import session
from stream.core.features import Events, inputs, numeric
from stream.core.manifest import Manifest, Vocabulary
from stream.core.newcomers import Table, load
from stream.core.scoring import Step
from stream.core.session import Sessions
from stream.round import ITEM, USER
from stream.runtime import Bundle
from stream.sessions import SessionStore


class Rehydrator:
    """Read session records for one model."""

    def __init__(self, bundle: Bundle) -> None:
        self.manifest: Manifest = bundle.manifest
        self.vocabulary: Vocabulary = bundle.vocabulary
        self.step: Step = bundle.intent_step
        self.layout = session.record(bundle.manifest)

    def apply(
        self, store: SessionStore, changes: Iterable[tuple[bytes, bytes | None]], newcomers: Table | None = None
    ) -> None:
        """Write changelog records into a store and a table, in order; raise ValueError for a record that is none."""
        users: list[str] = []
        values: list[bytes] = []
        for key, value in changes:
            if key[:1] == ITEM and newcomers is not None:
                load(newcomers, self.vocabulary, key[1:].decode(), value)
            if key[:1] != USER:
                continue
            user = key[1:].decode()
            if value is None:
                self._put(store, users, values)
                users, values = [], []
                store.remove([user])
            else:
                users.append(user)
                values.append(value)
        self._put(store, users, values)

    def _put(self, store: SessionStore, users: list[str], values: list[bytes]) -> None:
        if not users:
            return
        heads = [session.head(value)["model"][0] for value in values] if self._mixed(values) else None
        slots = store.slots(users)
        if heads is None:
            store.records[slots] = np.frombuffer(b"".join(values), self.layout)
            return
        for slot, value, model in zip(slots, values, heads, strict=True):
            own = model == self.manifest.fingerprint
            store.records[slot] = np.frombuffer(value, self.layout)[0] if own else self.revive(session.head(value))[0]

    def _mixed(self, values: list[bytes]) -> bool:
        size = self.layout.itemsize
        if any(len(value) != size for value in values):
            return True
        records = np.frombuffer(b"".join(values), self.layout)
        return bool(
            (records["format"] != session.FORMAT).any() or (records["model"] != self.manifest.fingerprint).any()
        )

    def revive(self, heads: Sessions) -> Sessions:
        """Score the rings of other models' records, (n,), with this model; session times and lengths stay."""
        revived = np.zeros(len(heads), self.layout)
        ring = heads["recent_time"].shape[1]
        for place in reversed(range(ring)):
            rows = np.flatnonzero(heads["recent_event"][:, place] != 0)
            if len(rows):
                self._replay(revived, heads, rows, place)
        for name in ("length", "last", "arrived", "started"):
            revived[name] = heads[name]
        return revived

    def _replay(self, revived: Sessions, heads: Sessions, rows: np.ndarray, place: int) -> None:
        def recent(name: str) -> np.ndarray:
            return heads[f"recent_{name}"][rows, place]

        item, category = self.vocabulary.item_of(recent("item")), self.vocabulary.category_at(recent("category"))
        known = np.where(item < len(self.vocabulary.category_of), item, 0)
        category = np.where(category == 0, self.vocabulary.category_of[known], category)
        types = recent("type").astype(np.int64).clip(max=len(self.manifest.meaning.types) - 1)
        events = Events(
            slot=rows,
            time=recent("time"),
            arrived=heads["arrived"][rows],
            type=types,
            item=item,
            category=category,
            event_print=recent("event"),
            item_print=recent("item"),
            category_print=recent("category"),
        )
        now = revived[rows]
        met = session.advance(now, events, self.manifest.meaning)
        given = inputs(item, category, types, numeric(events.time, met.gap, met.opens, met.fresh))
        _, hidden = self.step(given, session.hidden(now, self.manifest))
        session.remember(now, events, met, self.manifest)
        for name, value in hidden.items():
            now[name] = value
        revived[rows] = now
