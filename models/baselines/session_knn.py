"""Neighbouring sessions as recommenders: V-SkNN and STAN, which must be beaten and are not served.

Ludewig and Jannach, "Evaluation of session-based recommendation algorithms" (2018); Garg et al., "Sequence and
time aware neighborhood for session-based recommendations: STAN" (2019). Both find the training sessions that
share items with the session so far, and rank the items of the `k` most similar ones. Each event is answered
alone: from its own session, and from the training's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.sequences import Sequences, catalogued
from models.network.popularity import base_rate
from stream.core.features import NUMERIC, Arrays
from stream.core.manifest import Manifest, TaskSpec
from stream.core.scoring import Step

LONGEST = 50  # items of a session that are compared
_ROWS = 512  # events answered at once
_OPENS = NUMERIC.index("opens")
_UNKNOWN = -1  # in the ring, where 0 is no item yet

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Way:
    """How sessions are compared; infinite decays leave a factor out."""

    k: int  # nearest sessions
    newest: int  # sessions that are compared at all, the latest of those that share an item
    decay: float | None  # of an item's weight with its age, in items; None: linear over the session (V-SkNN)
    cosine: bool  # divide by the root of a neighbour's length
    aging: float = np.inf  # of a neighbour with the time since it, in parts of the log's sessions
    distance: float = np.inf  # of an item with its distance from the last shared one, in items


WAYS = {
    "V-SkNN": Way(k=500, newest=1000, decay=None, cosine=False),
    "STAN": Way(k=1500, newest=2500, decay=0.905, cosine=True, aging=1.0, distance=0.4525),
}
"""V-SkNN with its authors' sizes; STAN with the settings of the session-rec framework (Ludewig et al., 2019),
whose 100 days, for a log without times, are the whole of it."""


def manifest(meaning: TaskSpec, items: int, categories: int) -> Manifest:
    """Describe the state of these steps: a session's items so far."""
    return Manifest(
        model="1",
        meaning=meaning,
        inputs=NUMERIC,
        hidden={"recent": (LONGEST,)},
        integers=("recent",),
        items=items,
        categories=categories,
        dimension=1,  # as of a baseline; there are no vectors
    )


class SessionKnn:
    """The sessions of a training log by their items; a session counts an item once, where it was last."""

    def __init__(self, sequences: Sequences, items: int) -> None:
        opens = sequences.numeric[:, _OPENS] > 0
        row = np.cumsum(opens) - 1
        place = np.arange(len(row)) - np.flatnonzero(opens)[row]
        last = np.r_[np.flatnonzero(opens)[1:], len(row)] - 1
        order = np.empty(len(last), np.int64)
        order[np.argsort(sequences.time[last], kind="stable")] = np.arange(len(last))  # the latest session is the last
        session, item = order[row], catalogued(sequences.item, items)
        known = np.flatnonzero(item > 0)
        known = known[np.lexsort((place[known], item[known], session[known]))]
        session, item, place = session[known], item[known], place[known]
        final = np.r_[(np.diff(session) != 0) | (np.diff(item) != 0), True] if len(known) else np.zeros(0, bool)
        self.session, self.item, self.place = session[final], item[final], place[final]
        self.sessions, self.items = len(last), items
        self.begin = np.searchsorted(self.session, np.arange(self.sessions + 1))
        self.by_item = np.lexsort((self.session, self.item))
        self.item_begin = np.searchsorted(self.item[self.by_item], np.arange(items + 2))
        self.rate = base_rate(sequences)

    def step(self, way: Way, k: int, recommend: bool) -> Step:
        """Make a step that lists one item more than `k`, so that a tie at the end of the list shows."""

        def step(inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
            opens, item = (
                inputs["numeric"][:, _OPENS, None].astype(bool),
                catalogued(inputs["item"].astype(np.int64), self.items),
            )
            before = np.where(opens, 0, hidden["recent"].astype(np.int64))
            newest = np.where(item > 0, item, _UNKNOWN)
            recent = np.concatenate([newest[:, None], before[:, :-1]], 1)
            outputs: dict[str, NDArray[np.generic]] = {"intent": np.tile(self.rate, (len(recent), 1))}
            if recommend:
                parts = [self.rank(recent[at : at + _ROWS], way, k + 1) for at in range(0, len(recent), _ROWS)]
                outputs["items"], outputs["item_scores"] = (np.concatenate(part) for part in zip(*parts, strict=True))
            return outputs, {"recent": recent}

        return step

    def rank(self, recent: Ints, way: Way, k: int) -> tuple[Ints, NDArray[np.float32]]:
        """Return the `k` best items and their scores, (n, k) each, for sessions so far (n, LONGEST), newest first.

        Where fewer items are known the list ends with zeros.
        """
        row, item, score = self._scores(*self._nearest(recent, way), way)
        order = np.lexsort((item, -score, row))
        row, item, score = row[order], item[order], score[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        kept = rank < k
        items, scores = np.zeros((len(recent), k), np.int64), np.zeros((len(recent), k), np.float32)
        items[row[kept], rank[kept]], scores[row[kept], rank[kept]] = item[kept], score[kept]
        return items, scores

    def _nearest(self, recent: Ints, way: Way) -> tuple[Ints, Ints, Floats, Ints]:
        """Return rows, their nearest sessions, the similarities, and where in each the last shared item is."""
        length = (recent != 0).sum(1)
        row, age = np.nonzero(recent > 0)
        _, first = np.unique(row * (self.items + 1) + recent[row, age], return_index=True)  # an item counts once
        row, age = row[first], age[first]
        item = recent[row, age]
        weight = (length[row] - age) / length[row] if way.decay is None else np.exp(-age / way.decay)
        source, at = _spread(self.item_begin[item], self.item_begin[item + 1])
        met = self.by_item[at]
        row, age, weight = row[source], age[source], weight[source]
        order = np.lexsort((age, self.session[met], row))
        row, met, weight = row[order], met[order], weight[order]
        session = self.session[met]
        head = np.flatnonzero(np.r_[True, (np.diff(row) != 0) | (np.diff(session) != 0)][: len(row)])
        similar = np.add.reduceat(weight, head) if len(head) else weight
        row, session, shared = row[head], session[head], self.place[met[head]]
        if way.cosine:
            similar = similar / np.sqrt(self.begin[session + 1] - self.begin[session])
        similar = similar * np.exp((session / max(self.sessions, 1) - 1) / way.aging)
        late = np.searchsorted(row, row, side="right") - np.arange(len(row)) <= way.newest
        row, session, similar, shared = row[late], session[late], similar[late], shared[late]
        order = np.lexsort((-session, -similar, row))
        near = order[np.arange(len(row)) - np.searchsorted(row, row) < way.k]
        return row[near], session[near], similar[near], shared[near]

    def _scores(self, row: Ints, session: Ints, similar: Floats, shared: Ints, way: Way) -> tuple[Ints, Ints, Floats]:
        source, at = _spread(self.begin[session], self.begin[session + 1])
        value = similar[source] * np.exp(-np.abs(self.place[at] - shared[source]) / way.distance)
        key, place = np.unique(row[source] * (self.items + 1) + self.item[at], return_inverse=True)
        total: Floats = np.bincount(place, value, len(key)).astype(np.float64)
        return key // (self.items + 1), key % (self.items + 1), total


def _spread(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return the places in all ranges [begin, end), one after the other, and the number of each one's range."""
    count = end - begin
    source = np.repeat(np.arange(len(count)), count)
    return source, np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count) + begin[source]
