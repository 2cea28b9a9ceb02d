"""A ring scored from a fresh state: for another model, and without one of its events or fields, to see what each does.

What is left out never happened: the next event's pause, the session's opening and the TTL are reckoned anew.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.core import session
from stream.core.calibration import calibrated
from stream.core.events import Cause
from stream.core.features import Arrays, Events, inputs
from stream.core.manifest import Manifest, Vocabulary
from stream.core.scoring import Rows, Step
from stream.core.session import Sessions

Outputs = dict[str, NDArray[Any]]
_IDS = ("item", "category", "type")
_NEWEST, _CAUSES = 8, 3  # events of a ring that are left out for a score, and that are told of
_BLOCK = 256  # rings replayed at once: their variants stay in the processor's cache


def recall(heads: Sessions, rows: Rows, place: int, vocabulary: Vocabulary, manifest: Manifest) -> Events:
    """Return the events at a place of some rings as the model knows them; `slot` are the rows.

    The rings are of a model of the same event types, see `Manifest.fingerprint`.
    """

    def recent(name: str) -> NDArray[Any]:
        found: NDArray[Any] = heads[f"recent_{name}"][rows, place]
        return found

    item, category = vocabulary.item_of(recent("item")), vocabulary.category_in_ring(recent("category"))
    return Events(
        slot=rows,
        time=session.times(heads)[rows, place],
        arrived=heads["arrived"][rows],
        type=recent("type").astype(np.int64),
        item=item,
        category=np.where(category == 0, vocabulary.category_of[vocabulary.known(item)], category),
        event_print=recent("event"),
        item_print=recent("item"),
        category_print=recent("category").astype(np.uint64),
        price=np.full(len(rows), np.nan),
    )


def follow(
    now: Sessions, events: Events, step: Step, manifest: Manifest, change: Callable[[Arrays], Arrays] | None = None
) -> Arrays:
    """Take the sessions one event further, in place; return calibrated outputs. `change` alters the step's inputs."""
    met = session.advance(now, events, manifest.meaning)
    given: Arrays = inputs(events.item, events.category, events.type, session.numbers(events, met, manifest))
    outputs, hidden = step(change(given) if change else given, session.hidden(now, manifest))
    session.remember(now, events, met, manifest)
    with np.errstate(over="ignore"):
        for name, value in hidden.items():
            now[name] = value
    return calibrated(outputs, manifest)


def without_each(heads: Sessions, step: Step, manifest: Manifest, vocabulary: Vocabulary, newest: int) -> Outputs:
    """Score rings whole, and without each of their `newest` events: outputs (n, 1 + newest, ...), the whole first.

    NaN stands where there is no such event, or no other one. Without the newest event a score is that of
    the event before. A variant begins as the whole ring before its event: half the steps of starting anew.
    """
    held = heads["recent_event"] != 0
    newest = min(newest, held.shape[1])
    replay = _Replay(heads, step, manifest, vocabulary, 1 + newest)
    for place in reversed(range(held.shape[1])):
        live = np.zeros((len(heads), 1 + newest), bool)
        live[:, 0] = held[:, place]
        if place < newest:
            replay.branch(1 + place)
            live[:, 2 + place :] = held[:, place, None] & held[:, 1 + place : newest]
        replay.go(place, live)
    return replay.found


def causes(heads: Sessions, step: Step, manifest: Manifest, vocabulary: Vocabulary) -> list[list[Cause]]:
    """Name each ring's few events that matter most to the first horizon's intent, the greatest first."""
    found: list[list[Cause]] = []
    types = manifest.meaning.types
    for block in np.split(heads, range(_BLOCK, len(heads), _BLOCK)):
        intent = without_each(block, step, manifest, vocabulary, _NEWEST).get("intent")
        if intent is None:
            found += [[] for _ in block]
            continue
        gain = (intent[:, :1, 0] - intent[:, 1:, 0]).astype(np.float64).round(7)
        best = np.argsort(-np.abs(gain), 1, kind="stable")[:, :_CAUSES]  # NaN comes last
        rows = np.arange(len(block))[:, None]
        item, time = vocabulary.item_of(block["recent_item"][rows, best]), session.times(block)[rows, best]
        columns = (time, block["recent_type"][rows, best], gain[rows, best], item)
        for each in zip(*(column.tolist() for column in columns), strict=True):
            found.append(
                [
                    Cause(at, types[type_], value, vocabulary.name(item))
                    for at, type_, value, item in zip(*each, strict=True)
                    if np.isfinite(value)
                ]
            )
    return found


def fields(numbers: tuple[str, ...]) -> dict[str, list[int]]:
    """Return the step's input fields with their columns of `numeric`, none for ids; sine and cosine are one field.

    >>> fields(("log_gap", "hour_sin", "hour_cos"))
    {'item': [], 'category': [], 'type': [], 'log_gap': [0], 'hour': [1, 2]}
    """
    found: dict[str, list[int]] = {name: [] for name in _IDS}
    for column, name in enumerate(numbers):
        found.setdefault(name.removesuffix("_sin").removesuffix("_cos"), []).append(column)
    return found


def without_fields(heads: Sessions, step: Step, manifest: Manifest, vocabulary: Vocabulary) -> Outputs:
    """Score rings whole, and with each field neutral in all events: outputs (n, 1 + fields, ...), the whole first.

    Neutral are the unknown item, the unknown category, the first type, and 0 for numbers.
    """
    held = heads["recent_event"] != 0
    replay = _Replay(heads, step, manifest, vocabulary, 1 + len(fields(manifest.inputs)))
    for place in reversed(range(held.shape[1])):
        live = np.repeat(held[:, place, None], replay.now.shape[1], 1)
        _, variant = np.nonzero(live)
        replay.go(place, live, partial(_neutral, variant=variant, manifest=manifest))
    return replay.found


def _neutral(given: Arrays, variant: NDArray[np.intp], manifest: Manifest) -> Arrays:
    changed = {name: value.copy() for name, value in given.items()}
    for number, (name, columns) in enumerate(fields(manifest.inputs).items(), 1):
        rows = np.flatnonzero(variant == number)
        if columns:
            changed["numeric"][rows[:, None], columns] = 0
        else:
            changed[name][rows] = 0
    return changed


class _Replay:
    """Variants of rings on their way through the step: sessions and last outputs, (n, variants, ...)."""

    def __init__(self, heads: Sessions, step: Step, manifest: Manifest, vocabulary: Vocabulary, variants: int) -> None:
        self.heads, self.step, self.manifest, self.vocabulary = heads, step, manifest, vocabulary
        self.now = np.zeros((len(heads), variants), session.record(manifest))
        self.found: Outputs = {}

    def branch(self, variant: int) -> None:
        """Let a variant begin where the whole ring is."""
        for held in (self.now, *self.found.values()):
            held[:, variant] = held[:, 0]

    def go(self, place: int, live: NDArray[np.bool_], change: Callable[[Arrays], Arrays] | None = None) -> None:
        """Take the live variants over the event at a place."""
        rows, variant = np.nonzero(live)
        if not len(rows):
            return
        events, now = recall(self.heads, rows, place, self.vocabulary, self.manifest), self.now[rows, variant]
        session.expire(now, events, self.manifest.meaning)
        for name, value in follow(now, events, self.step, self.manifest, change).items():
            if name not in self.found:
                blank = np.nan if value.dtype.kind == "f" else 0
                self.found[name] = np.full((*live.shape, *value.shape[1:]), blank, value.dtype)
            self.found[name][rows, variant] = value
        self.now[rows, variant] = now
