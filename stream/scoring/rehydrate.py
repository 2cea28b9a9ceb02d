"""Changelog records into sessions; a record of another model is scored anew from its ring, so nobody starts cold."""

import logging
from collections.abc import Callable, Iterable

import numpy as np

from stream.bundle.onnx import Bundle
from stream.core import ring, session
from stream.core.manifest import TYPES, Manifest, Vocabulary, types_print
from stream.core.scoring import Step
from stream.core.session import Sessions
from stream.recommend.cold_items import Table, load
from stream.records import ITEM, USER, Limits
from stream.state.sessions import SessionStore

log = logging.getLogger(__name__)


class Rehydrator:
    """Read session records for one model."""

    def __init__(
        self, bundle: Bundle, passed_over: Callable[[int], object] = lambda _: None, limits: Limits | None = None
    ) -> None:
        """`passed_over` is told of items' records that are none, by their number: only lists depend on them."""
        self._ids = (limits.id_characters, limits.printable) if limits else ()
        self.passed_over = passed_over
        self.manifest: Manifest = bundle.manifest
        self.vocabulary: Vocabulary = bundle.vocabulary
        self.step: Step = bundle.intent_step
        self.layout = session.record(bundle.manifest)

    def apply(
        self, store: SessionStore, changes: Iterable[tuple[bytes, bytes | None]], newcomers: Table | None = None
    ) -> None:
        """Write changelog records into a store and a table, in order; raise ValueError for a session that is none."""
        faults: list[str] = []
        newest: dict[bytes, bytes | None] = {}
        for key, value in changes:
            kind, name = key[:1], key[1:]
            if kind == USER:
                newest[name] = value
            elif kind == ITEM and newcomers is not None:
                faults.append(load(newcomers, self.vocabulary, name, value, *self._ids))
        faults = list(filter(None, faults))
        if faults:
            self.passed_over(len(faults))
            log.warning("passed over %d records of unseen items that are none, the first: %s", len(faults), faults[0])
        users = list(map(bytes.decode, newest))
        values = [value for value in newest.values() if value is not None]
        if len(values) < len(users):
            store.remove([user for user, value in zip(users, newest.values(), strict=True) if value is None])
            users = [user for user, value in zip(users, newest.values(), strict=True) if value is not None]
        self._put(store, users, values)

    def _put(self, store: SessionStore, users: list[str], values: list[bytes]) -> None:
        own = self._own(values)
        if own is not None:
            store.put(users, own)
            return
        alike: dict[tuple[int, bytes, bytes], list[int]] = {}
        for row, value in enumerate(values):
            alike.setdefault((len(value), value[:2], value[8:16]), []).append(row)  # format, ring and model
        for rows in alike.values():
            store.put([users[row] for row in rows], self._read([values[row] for row in rows]))

    def _own(self, values: list[bytes]) -> Sessions | None:
        """Read records that are all of this model and format; None where one is not."""
        if set(map(len, values)) != {self.layout.itemsize}:
            return None
        records = np.frombuffer(b"".join(values), self.layout)
        of_this = (records["format"] == session.FORMAT) & (records["model"] == self.manifest.fingerprint)
        return records if of_this.all() else None

    def _read(self, values: list[bytes]) -> Sessions:
        """Read records of one format and model."""
        found, former = session.heads(values), values[0][0] == session.FORMER
        if found["model"][0] != (self.manifest.former_fingerprint if former else self.manifest.fingerprint):
            return self.revive(found)
        return session.unpack(values, self.manifest)

    def revive(self, heads: Sessions) -> Sessions:
        """Score the rings of other models' records, (n,), with this model; session times and lengths stay.

        A ring of a model of other event types, of another order of them, or of types that its format does not tell, is
        not read: its user starts cold.
        """
        revived = np.zeros(len(heads), self.layout)
        alike = heads["model"] & np.uint64(TYPES) == types_print(self.manifest.meaning.types)
        if (heads["recent_type"][alike] >= len(self.manifest.meaning.types)).any():
            raise ValueError("a session record with an event of no type")
        for place in reversed(range(heads["recent_event"].shape[1])):
            rows = np.flatnonzero((heads["recent_event"][:, place] != 0) & alike)
            if len(rows):
                now = revived[rows]
                events = ring.recall(heads, rows, place, self.vocabulary, self.manifest)
                ring.follow(now, events, self.step, self.manifest)
                revived[rows] = now
        for name in ("length", "last", "arrived", "started"):
            revived[name] = heads[name]
        return revived
