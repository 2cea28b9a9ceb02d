"""A user's session as one fixed-size record: opened, continued, expired, packed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stream.core.features import Arrays, Events, Ring, again, numeric
from stream.core.manifest import Manifest, TaskSpec

FORMAT = 2
FORMER = 1  # with eight bytes a time and a category of the ring; still read
Sessions = NDArray[np.void]
NEVER = 2**62  # ms, later than any event
_ERA = 1 << 40  # ms, 35 years: times of the ring are kept up to a multiple of it


def record(manifest: Manifest, form: int = FORMAT) -> np.dtype[np.void]:
    """Return the record's layout: in memory, in the changelog and on disk the same bytes.

    The head does not depend on the model, so that another model can read the ring.
    """
    floats = f"<{np.dtype(manifest.state_dtype).str[1:]}"
    state = [(n, "<i4" if n in manifest.integers else floats, shape) for n, shape in manifest.hidden.items()]
    return np.dtype([*_head(manifest.meaning.ring, form), *state])


def hidden(now: Sessions, manifest: Manifest) -> Arrays:
    """Return the state tensors as they are stored, each of them contiguous."""
    return {n: np.ascontiguousarray(now[n]) for n in manifest.hidden}


def raw(sessions: Sessions) -> NDArray[np.void]:
    """View records as bytes: numpy copies them whole instead of field by field, in a seventh of the time."""
    return sessions.view(f"V{sessions.itemsize}")


def take(sessions: Sessions, rows: NDArray[np.intp]) -> Sessions:
    """Return a copy of some records."""
    found: Sessions = raw(sessions)[rows].view(sessions.dtype)
    return found


def together(parts: list[Sessions]) -> Sessions:
    """Return the records of all parts, one after the other; a single part as it is."""
    if len(parts) == 1:
        return parts[0]
    found: Sessions = np.concatenate([raw(part) for part in parts]).view(parts[0].dtype)
    return found


def put(sessions: Sessions, rows: NDArray[np.intp], found: Sessions) -> None:
    """Write records into their rows, in place."""
    raw(sessions)[rows] = raw(found)


def times(now: Sessions) -> NDArray[np.int64]:
    """Return the ring's event times, (..., ring) in ms; any time where a place is empty."""
    last = now["last"][..., None]
    held = now["recent_time"] | (now["recent_era"].astype(np.int64) << 32)
    return last - ((last - held) & (_ERA - 1))  # none is newer than the last


def since(now: Sessions, item: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the time of each session's oldest recent event of another item than the given one, `NEVER` without."""
    others = (now["recent_event"] != 0) & (now["recent_item"] != item[:, None])
    return np.where(others, times(now), NEVER).min(1)


def _head(ring: int, form: int) -> list[tuple[str, str, tuple[int, ...]]]:
    former = form == FORMER
    return [
        ("format", "u1", ()),
        ("ring", "u1", ()),
        ("drift", "<f2", ()),  # how far the state has moved since a list was due, see `Clock`; else 0
        ("length", "<u4", ()),  # events in the current session
        ("model", "<u8", ()),  # 0: no state yet
        ("last", "<i8", ()),  # newest event time, ms
        ("arrived", "<i8", ()),  # the partition's clock at the newest event, ms
        ("started", "<i8", ()),  # time of the session's first event, ms
        ("recent_event", "<u8", (ring,)),  # the ring: newest first, 0 where empty
        ("recent_item", "<u8", (ring,)),
        ("recent_category", "<u8" if former else "<u4", (ring,)),  # the lower half of a fingerprint
        ("recent_time", "<i8" if former else "<u4", (ring,)),  # see `times`
        *([] if former else [("recent_era", "u1", (ring,))]),
        ("recent_type", "u1", (ring,)),
    ]


def heads(values: Sequence[bytes]) -> Sessions:
    """Read what any model can read of packed records, alike in format and ring; raise ValueError for what is none."""
    raw = values[0]
    if len(raw) < 2 or raw[0] not in (FORMER, FORMAT):
        raise ValueError(f"a session record of format {raw[0] if raw else None}, this version reads {FORMER}, {FORMAT}")
    layout = np.dtype(_head(raw[1], raw[0]))
    if (short := min(map(len, values))) < layout.itemsize:
        raise ValueError(f"a session record of {short} bytes is shorter than its head of {layout.itemsize}")
    held = np.frombuffer(b"".join(value[: layout.itemsize] for value in values), layout)
    return _renewed(held, np.dtype(_head(raw[1], FORMAT)))


def unpack(values: Sequence[bytes], manifest: Manifest) -> Sessions:
    """Read packed records of this model, alike in format; raise ValueError for one of another size."""
    layout = record(manifest, values[0][0])
    if set(map(len, values)) != {layout.itemsize}:
        raise ValueError(f"a session record of this model that has not its {layout.itemsize} bytes")
    found = _renewed(np.frombuffer(b"".join(values), layout), record(manifest))
    if layout != found.dtype:
        found["model"] = manifest.fingerprint
    return found


def _renewed(held: Sessions, layout: np.dtype[np.void]) -> Sessions:
    """Return records in the layout of now."""
    if held.dtype == layout:
        return held
    found = np.zeros(len(held), layout)
    for name in held.dtype.names or ():
        found[name] = held[name]
    found["format"], found["recent_era"] = FORMAT, held["recent_time"] >> 32
    return found


def expire(now: Sessions, events: Events, meaning: TaskSpec) -> None:
    """Clear the sessions whose user was away for longer than the TTL, by the partition's clock or in event time."""
    now[expired(now, events, meaning)] = np.zeros((), now.dtype)


def expired(now: Sessions, events: Events, meaning: TaskSpec) -> NDArray[np.bool_]:
    """Tell which sessions are over by the TTL when their events come: as good as evicted, whether they are or not."""
    away = np.maximum(events.arrived - now["arrived"], events.time - now["last"])
    return (now["last"] != 0) & (away > meaning.ttl)


def duplicate(now: Sessions, events: Events) -> NDArray[np.bool_]:
    """Tell which events are in their user's ring already."""
    return (now["recent_event"] == events.event_print[:, None]).any(1)


def late(now: Sessions, events: Events, meaning: TaskSpec) -> NDArray[np.bool_]:
    """Tell which events lie further behind their user's newest than is allowed."""
    return (now["model"] != 0) & (events.time < now["last"] - meaning.lateness)


@dataclass(slots=True)
class Advance:
    """How a batch meets its sessions: ms since the last event, new session, new user, out of order, repeats."""

    gap: NDArray[np.int64]
    opens: NDArray[np.bool_]
    fresh: NDArray[np.bool_]
    behind: NDArray[np.bool_]
    repeats: NDArray[np.float32]


def advance(now: Sessions, events: Events, meaning: TaskSpec) -> Advance:
    """Compare events with their sessions, one event a session, and change nothing."""
    fresh = now["model"] == 0
    behind = ~fresh & (events.time < now["last"])
    gap = np.where(fresh, 0, np.maximum(events.time - now["last"], 0))
    there = now["recent_event"] != 0
    ring = Ring(now["recent_item"], now["recent_category"], now["recent_type"], times(now), there)
    repeats = again(events.item_print, events.category_print.astype(np.uint32), events.time, ring)
    return Advance(gap, fresh | (gap > meaning.gap), fresh, behind, repeats)


def ahead(now: Sessions, events: Events, manifest: Manifest) -> tuple[Sessions, Advance]:
    """Lay out one user's session, (1,), before each of its events, (n,), as if all were accepted.

    What `advance` says of them comes with it. The state tensors are those of `now` throughout.
    """
    n, found = len(events), np.repeat(now, len(events))
    found["format"][1:], found["ring"][1:] = FORMAT, manifest.meaning.ring
    found["model"][1:] = manifest.fingerprint
    found["last"][1:] = np.maximum(np.maximum.accumulate(events.time), now["last"])[:-1]
    found["arrived"][1:] = np.maximum(np.maximum.accumulate(events.arrived), now["arrived"])[:-1]
    for name, values in _ringed(events):
        ring = now[f"recent_{name}"][0]
        line = np.concatenate([ring[::-1], values[:-1].astype(ring.dtype)])
        found[f"recent_{name}"] = sliding_window_view(line, len(ring))[:, ::-1]
    met = advance(found, events, manifest.meaning)
    place = np.arange(n)
    opened = np.maximum.accumulate(np.where(met.opens, place, -1))  # where the session of each event begins
    found["started"][1:] = np.where(opened < 0, now["started"], events.time[opened])[:-1]
    found["length"][1:] = np.where(opened < 0, now["length"] + place + 1, place - opened + 1)[:-1]
    return found, met


def _ringed(events: Events) -> tuple[tuple[str, NDArray[np.generic]], ...]:
    return (
        ("event", events.event_print),
        ("item", events.item_print),
        ("category", events.category_print),
        ("time", events.time),
        ("era", events.time >> 32),
        ("type", events.type),
    )


def numbers(events: Events, met: Advance, manifest: Manifest) -> NDArray[np.float32]:
    """Return the numeric inputs that a step wants, (n, inputs): a bundle may want fewer than are computed."""
    return numeric(events.time, met.gap, met.opens, met.fresh, met.repeats)[:, : len(manifest.inputs)]


def remember(now: Sessions, events: Events, step: Advance, manifest: Manifest) -> None:
    """Write the events into their sessions, one event a session; the state tensors are the caller's."""
    now["format"], now["ring"], now["model"] = FORMAT, manifest.meaning.ring, manifest.fingerprint
    now["started"] = np.where(step.opens, events.time, now["started"])
    now["length"] = np.where(step.opens, 1, now["length"] + 1)
    now["last"] = np.maximum(now["last"], events.time)
    now["arrived"] = np.maximum(now["arrived"], events.arrived)
    for name, newest in _ringed(events):
        ring = now[f"recent_{name}"]
        ring[:, 1:] = ring[:, :-1].copy()
        ring[:, 0] = newest
