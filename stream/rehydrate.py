"""Changelog records into sessions; a record of another model is scored anew from its ring, so nobody starts cold."""

from collections.abc import Iterable

import numpy as np

from stream.core import ring, session
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
        for place in reversed(range(heads["recent_time"].shape[1])):
            rows = np.flatnonzero(heads["recent_event"][:, place] != 0)
            if len(rows):
                now = revived[rows]
                events = ring.recall(heads, rows, place, self.vocabulary, self.manifest)
                ring.follow(now, events, self.step, self.manifest)
                revived[rows] = now
        for name in ("length", "last", "arrived", "started"):
            revived[name] = heads[name]
        return revived
