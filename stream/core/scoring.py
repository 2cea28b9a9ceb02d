"""The one scoring path: the worker, the offline evaluation, the parity check and the tests all call `score`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stream.core import session
from stream.core.calibration import calibrated
from stream.core.events import REASONS
from stream.core.features import Arrays, Events, inputs
from stream.core.list_triggers import EVERY, MOVED, Clock, Due
from stream.core.manifest import Manifest
from stream.core.session import NEVER, Sessions
from stream.core.unroll import along

Step = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]
"""(inputs, hidden) -> (outputs, hidden), each a mapping of arrays whose first axis is the batch.

Inputs: `item`, `category`, `type` int64 (n,), `numeric` float32 (n, inputs). The state is given as it is stored, and
given back in any precision. Outputs: `intent` float32
(n, horizons), probabilities; where the step recommends, also `items` int64 (n, k), indices of the
vocabulary, best first, and `item_scores` float32 (n, k); what else it gives is kept for the ranking of
newcomers.

A step along a run is called alike: the events are one shopper's in order, the state given, (1, ...), is the one
before the first. The states given back, (n, ...), are those after each, rounded to how they are stored before the next
event.
"""

Lists = Callable[[Mapping[str, NDArray[Any]]], Arrays]
"""Rows of what a step answers -> `items` and `item_scores`, as from a step that recommends, and what else is kept.

Beside the step's answers the rows have `bought` uint64 (n, ring): fingerprints of what the ring holds as bought, else
0.
"""

SCORED = 0
_LISTED = {"intent", "items", "item_scores"}
_CODE = {reason: code for code, reason in enumerate(REASONS, 1)}
_THIN = 4  # later waves of fewer users are left to runs, a user each
_RUN = 256  # events looked ahead at once
_EXPONENT = 0x7C00  # of a half float; all ones in what is not finite
Rows = NDArray[np.intp]


@dataclass(slots=True)
class Scores:
    """One outcome an event, in the events' order; `outcome` 0 is scored, else 1 + the index in `REASONS`."""

    outcome: NDArray[np.uint8]
    late: NDArray[np.bool_]
    length: NDArray[np.int64]
    started: NDArray[np.int64]
    intent: NDArray[np.float32]
    items: NDArray[np.int64] | None = None
    item_scores: NDArray[np.float32] | None = None
    answers: dict[str, NDArray[Any]] = field(default_factory=dict)
    newcomers: dict[int, str] = field(default_factory=dict)  # the names of those in `items`, by index
    after: Sessions | None = None  # each event's session after it, where they are kept
    listed: Rows | None = None  # the rows that have a list; None: all, if any has one
    since: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(0, np.int64)
    )  # see `_meet`; of cold items' events

    @classmethod
    def empty(cls, n: int, horizons: int) -> Self:
        """Return room for `n` outcomes."""
        whole = np.zeros(n, np.int64)
        intent, since = np.zeros((n, horizons), np.float32), np.full(n, NEVER)
        return cls(np.zeros(n, np.uint8), np.zeros(n, bool), whole, whole.copy(), intent, since=since)

    def part(self, begin: int, end: int) -> Self:
        """Return the outcomes of some rows, what is kept for cold items left out."""
        rows = slice(begin, end)
        return type(self)(
            outcome=self.outcome[rows],
            late=self.late[rows],
            length=self.length[rows],
            started=self.started[rows],
            intent=self.intent[rows],
            items=None if self.items is None else self.items[rows],
            item_scores=None if self.item_scores is None else self.item_scores[rows],
            newcomers=self.newcomers,
            after=None if self.after is None else self.after[rows],
        )

    def put(self, rows: Rows, outputs: Arrays) -> None:
        """Store a wave's outputs."""
        self.intent[rows] = outputs["intent"]
        if "items" in outputs:
            if self.items is None or self.item_scores is None:
                k = outputs["items"].shape[1]
                self.items = np.zeros((len(self.outcome), k), np.int64)
                self.item_scores = np.zeros((len(self.outcome), k), np.float32)
            self.items[rows] = outputs["items"]
            self.item_scores[rows] = outputs["item_scores"]
        for name in outputs.keys() - _LISTED:
            value = outputs[name]
            if name not in self.answers:
                self.answers[name] = np.zeros((len(self.outcome), *value.shape[1:]), value.dtype)
            self.answers[name][rows] = value


def waves(slot: NDArray[np.int64]) -> Iterator[Rows]:
    """Split a batch into waves of at most one event a user, each user's events in order.

    >>> [w.tolist() for w in waves(np.array([7, 8, 7, 7]))]
    [[0, 1], [2], [3]]
    """
    order = np.argsort(slot, kind="stable")
    ordered = slot[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]] if len(slot) else np.zeros(0, bool)
    starts = np.flatnonzero(first)
    rank = np.arange(len(slot)) - np.repeat(starts, np.diff(np.r_[starts, len(slot)]))
    by_rank = order[np.lexsort((order, rank))]
    yield from np.split(by_rank, np.cumsum(np.bincount(rank))[:-1]) if len(slot) else ()


@dataclass(frozen=True, slots=True)
class _Course:
    """What a batch is scored with and into, from its first wave to its last."""

    sessions: Sessions
    step: Step
    manifest: Manifest
    scores: Scores
    due: Due | None
    whole: Step | None


def score(
    events: Events,
    sessions: Sessions,
    step: Step,
    manifest: Manifest,
    keep: bool = False,
    lists: Lists | None = None,
    clock: Clock = EVERY,
    whole: Step | None = None,
) -> tuple[Scores, Sessions]:
    """Score events in order against their users' sessions.

    `events.slot` are rows of `sessions`. Returns the outcomes and the sessions after them; what was given
    is left as it was. A step that raises costs only the events that make it raise. With `keep` the outcomes
    have the session after each event. With `lists` the rows that the clock chooses get theirs, all at once, from
    what the step answers; without, only a step that gives `items` itself recommends. `whole` is the step along runs:
    without it they go by single steps.
    """
    sessions = session.raw(sessions).copy().view(sessions.dtype)
    scores = Scores.empty(len(events), len(manifest.meaning.horizons))
    if keep:
        scores.after = np.zeros(len(events), sessions.dtype)
    due = Due(clock, np.zeros(len(events), np.bool_)) if lists else None
    course = _Course(sessions, step, manifest, scores, due, whole)
    runs: dict[int, list[int]] = {}
    for place, rows in enumerate(waves(events.slot)):
        # How far a state moves is told event by event.
        if place == 0 or len(rows) >= _THIN or clock.on == MOVED:
            _wave(rows, events.take(rows), course)
            continue
        for row in rows.tolist():
            runs.setdefault(int(events.slot[row]), []).append(row)
    for run in runs.values():
        _run(np.array(run), events, course)
    if lists and due:
        _list(clock.choose(due.rows, scores.outcome == SCORED, events.slot), scores, lists)
    return scores, sessions


def _list(rows: Rows, scores: Scores, lists: Lists) -> None:
    """Get the chosen rows their lists; the others have none."""
    scores.listed = rows
    if len(rows):
        found = lists({name: value[rows] for name, value in scores.answers.items()})
        scores.put(rows, {"intent": scores.intent[rows], **found})


def _bought(now: Sessions, manifest: Manifest) -> NDArray[np.uint64]:
    bought = now["recent_type"] == manifest.meaning.types.index(manifest.meaning.purchase)
    return np.where(bought, now["recent_item"], np.uint64(0))


def _wave(rows: Rows, events: Events, course: _Course) -> None:
    scores, meaning = course.scores, course.manifest.meaning
    now = session.take(course.sessions, events.slot)
    session.expire(now, events, meaning)
    outcome = np.where(session.late(now, events, meaning), _CODE["late"], SCORED)
    outcome[session.duplicate(now, events)] = _CODE["duplicate"]
    scores.outcome[rows] = outcome
    if outcome.any():
        fit = np.flatnonzero(outcome == SCORED)
        rows, events, now = rows[fit], events.take(fit), session.take(now, fit)
    if len(rows):
        _advance(rows, events, now, course)


def _run(rows: Rows, events: Events, course: _Course) -> None:
    """Score events of one user in order, many at once; one that is not simply accepted is a wave of its own."""
    sessions, manifest = course.sessions, course.manifest
    while len(rows):
        some = events.take(rows[:_RUN])
        now, met = session.ahead(sessions[some.slot[:1]], some, manifest)
        odd = session.expired(now, some, manifest.meaning) | session.late(now, some, manifest.meaning)
        odd |= session.duplicate(now, some)
        n = int(odd.argmax()) if odd.any() else len(some)
        done = _follow(rows[:n], some, now, met, course) if n > 1 else 0
        if not done:
            _wave(rows[:1], events.take(rows[:1]), course)
        rows = rows[max(done, 1) :]


def _follow(rows: Rows, events: Events, now: Sessions, met: session.Advance, course: _Course) -> int:
    """Score a user's acceptable events, `now` being its session before each; return how many came out well.

    Only the step goes from event to event: what else an event is met with follows from the events alone.
    """
    manifest, scores = course.manifest, course.scores
    numbers, n = session.numbers(events, met, manifest), len(rows)
    given = inputs(events.item[:n], events.category[:n], events.type[:n], numbers[:n])
    state = session.hidden(now[:1], manifest)
    _meet(rows, events, now, course)
    session.remember(now, events, met, manifest)
    outputs, states = along(given, state, now.dtype, course.step, course.whole)
    if not outputs:
        return 0
    now = now[: len(outputs["intent"])]
    for name, value in states.items():
        now[name] = value
    outputs = calibrated(outputs, manifest)
    finite = _finite(outputs, now, manifest)
    n = len(now) if finite.all() else int(finite.argmin())
    if n:
        rows, now = rows[:n], now[:n]
        outputs = _recent(outputs, now)
        if course.due:
            course.due.run(rows, now, met.opens[:n])
            outputs = {**outputs, "bought": _bought(now, manifest)}
        scores.put(rows, {name: value[:n] for name, value in outputs.items()})
        scores.late[rows], scores.length[rows], scores.started[rows] = met.behind[:n], now["length"], now["started"]
        course.sessions[events.slot[:1]] = now[-1:]
        if scores.after is not None:
            scores.after[rows] = now
    return n


def _advance(rows: Rows, events: Events, now: Sessions, course: _Course) -> None:
    """Score a wave of acceptable events; halve it where the step fails, down to the event that is to blame."""
    manifest, scores = course.manifest, course.scores
    met = session.advance(now, events, manifest.meaning)
    given = inputs(events.item, events.category, events.type, session.numbers(events, met, manifest))
    before = session.hidden(now, manifest)
    try:
        outputs, hidden = course.step(given, before)
    except Exception:
        if len(rows) == 1:
            scores.outcome[rows] = _CODE["unscorable"]
            return
        for half in np.array_split(np.arange(len(rows)), 2):
            _advance(rows[half], events.take(half), now[half], course)
        return
    _meet(rows, events, now, course)
    session.remember(now, events, met, manifest)
    outputs = _recent(outputs, now)
    with np.errstate(over="ignore"):
        for name, value in hidden.items():
            now[name] = value  # cast to the stored type: memory is the changelog's bytes
    outputs = calibrated(outputs, manifest)
    if course.due:
        course.due.tick(rows, now, met, before, manifest)
        outputs = {**outputs, "bought": _bought(now, manifest)}
    finite = _finite(outputs, now, manifest)
    scores.put(rows, outputs)
    scores.late[rows], scores.length[rows], scores.started[rows] = met.behind, now["length"], now["started"]
    scores.outcome[rows[~finite]] = _CODE["not_finite"]
    if finite.all():
        session.put(course.sessions, events.slot, now)
    else:
        fit = np.flatnonzero(finite)
        session.put(course.sessions, events.slot[fit], session.take(now, fit))
    if scores.after is not None:
        scores.after[rows] = now


def _meet(rows: Rows, events: Events, now: Sessions, course: _Course) -> None:
    """Note for events of cold items since when (ms) their users are known by other items, before the event."""
    new = np.flatnonzero(events.item[: len(rows)] > course.manifest.items)
    if len(new):
        course.scores.since[rows[new]] = session.since(now[new], events.item_print[new])


def _recent(outputs: Arrays, now: Sessions) -> Arrays:
    """Add the recent items' fingerprints, `met`, to what names them by indices."""
    return {**outputs, "met": now["recent_item"]} if "recent" in outputs else outputs


def _sound(values: NDArray[Any]) -> bool:
    """Tell whether all values are finite; numpy would convert half floats one by one, whose exponent is ten bits up."""
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    return bool((values.view(np.uint16) & _EXPONENT).max(initial=0) < _EXPONENT)


def _finite(outputs: Arrays, now: Sessions, manifest: Manifest) -> NDArray[np.bool_]:
    parts = [outputs["intent"], *(now[name] for name in manifest.hidden)]
    parts += [outputs[name] for name in ("item_scores", "query") if name in outputs]
    if all(map(_sound, parts)):
        return np.ones(len(now), np.bool_)
    return np.logical_and.reduce([np.isfinite(p).reshape(len(now), -1).all(1) for p in parts])
