"""Changelog records into sessions; a record of another model is scored anew from its ring, so nobody starts cold."""

from collections.abc import Iterable

import numpy as np

from stream.core import ring, session
from stream.core.manifest import TYPES, Manifest, Vocabulary, types_print
from stream.core.newcomers import Table, load
from stream.core.scoring import Step
from stream.core.session import Sessions
from stream.records import ITEM, USER
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
            kind, name = key[:1], key[1:].decode()
            if kind == USER and value is not None:
                users.append(name)
                values.append(value)
            elif kind == USER:
                self._put(store, users, values)
                users, values = [], []
                store.remove([name])
            elif kind == ITEM and newcomers is not None:
                load(newcomers, self.vocabulary, name, value)
        self._put(store, users, values)

    def _put(self, store: SessionStore, users: list[str], values: list[bytes]) -> None:
        if not users:
            return
        own = self._own(values)
        if own is not None:
            store.put(users, own)
            return
        for user, value in zip(users, values, strict=True):
            one = session.head(value)
            mine = one["model"][0] == self.manifest.fingerprint
            store.put([user], np.frombuffer(value, self.layout) if mine else self.revive(one))

    def _own(self, values: list[bytes]) -> Sessions | None:
        """Read records that are all of this model; None where one is not."""
        if set(map(len, values)) != {self.layout.itemsize}:
            return None
        records = np.frombuffer(b"".join(values), self.layout)
        of_this = (records["format"] == session.FORMAT) & (records["model"] == self.manifest.fingerprint)
        return records if of_this.all() else None

    def revive(self, heads: Sessions) -> Sessions:
        """Score the rings of other models' records, (n,), with this model; session times and lengths stay.

        A ring of a model of other event types, or of another order of them, is not read: its shopper starts cold.
        """
        revived = np.zeros(len(heads), self.layout)
        alike = heads["model"] & np.uint64(TYPES) == types_print(self.manifest.meaning.types)
        for place in reversed(range(heads["recent_time"].shape[1])):
            rows = np.flatnonzero((heads["recent_event"][:, place] != 0) & alike)
            if len(rows):
                now = revived[rows]
                events = ring.recall(heads, rows, place, self.vocabulary, self.manifest)
                ring.follow(now, events, self.step, self.manifest)
                revived[rows] = now
        for name in ("length", "last", "arrived", "started"):
            revived[name] = heads[name]
        return revived
