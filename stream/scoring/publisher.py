"""What is published of a score and of a record that is none: the records of a round."""

import hashlib
from collections.abc import Sequence
from itertools import compress
from typing import Any

import msgspec
import numpy as np

from stream.bundle.onnx import Bundle
from stream.core.events import Cause, Event, Recommendation, Score, SessionView, Source
from stream.core.ring import causes
from stream.core.scoring import SCORED, Scores
from stream.records import (
    HEADER_ROOM,
    HEADERS,
    KEY_ROOM,
    SCORE_ROOM,
    Headers,
    Limits,
    Message,
    Record,
    fault_of,
    header_bytes,
    weight,
)

_encode = msgspec.json.Encoder().encode


class Publisher:
    """Write the records that are published of a bundle's scores and of what could not be scored."""

    def __init__(self, bundle: Bundle, topic: str, limits: Limits) -> None:
        self._manifest, self._vocabulary, self._step = bundle.manifest, bundle.vocabulary, bundle.intent_step
        self._topic, self._largest = topic, limits.dead_letter_bytes
        # Written as a dictionary by horizon is, and made in a third of the time.
        horizons, self._published = bundle.manifest.meaning.horizons, bundle.manifest.published
        names = {f"p{i}": horizons[i] for i in self._published}
        made = msgspec.defstruct("Intent", [(p, float) for p in names], rename=names, gc=False)
        self._intent: Any = made if names else dict  # an empty one is left out

    def scored(
        self,
        number: int,
        records: Sequence[Record],
        events: Sequence[Event],
        keys: Sequence[bytes],
        scores: Scores,
        now: int,
    ) -> list[Message]:
        """Return the scores of a chunk of partition `number`, in order.

        `records` are those of the events, `keys` their shoppers' ids; `now` (ms) is written as `scored_at`.
        """
        probabilities, model = self._intent, self._manifest.model
        done = (scores.outcome == SCORED).tolist()
        # Seven digits are more than float32 holds, and half the bytes of its shortest double.
        intent = scores.intent[:, self._published].astype(np.float64).round(7).tolist()
        length, started, late = scores.length.tolist(), scores.started.tolist(), scores.late.tolist()
        nothing: list[list[Any]] = [[]] * len(events)
        recommended, why = self._recommended(scores) or nothing, self._why(scores) or nothing
        rows = zip(events, records, keys, intent, length, started, late, recommended, why, strict=True)
        messages = []
        for event, source, key, p, so_far, since, is_late, items, because in compress(rows, done):
            value = Score(
                event.event_id,
                event.user_id,
                Source(number, source.offset),
                event.timestamp,
                now,
                model,
                SessionView(so_far, since),
                probabilities(*p),
                items,
                is_late,
                because,
            )
            message = Message(key, _encode(value), source.headers)
            if (items or because or source.headers) and weight(message) > SCORE_ROOM:
                # What remains is bounded, as ids and headers are.
                message.value = _encode(msgspec.structs.replace(value, recommendations=[], why=[]))
            messages.append(message)
        return messages

    def _recommended(self, scores: Scores) -> list[list[Recommendation]]:
        if scores.items is None or scores.item_scores is None:
            return []
        names, known, new = self._vocabulary.items, len(self._vocabulary.items), scores.newcomers
        rows = zip(scores.items.tolist(), scores.item_scores.astype(np.float64).round(5).tolist(), strict=True)
        return [
            [
                Recommendation(names[item - 1] if item <= known else new[item], value)
                for item, value in zip(items, values, strict=True)
                if item  # a blank follows where there are fewer
            ]
            for items, values in rows
        ]

    def _why(self, scores: Scores) -> list[list[Cause]]:
        if scores.after is None or 0 not in self._published:  # causes are of the first horizon
            return []
        return causes(scores.after, self._step, self._manifest, self._vocabulary)

    def dead(self, number: int, source: Record, reason: str, cause: str = "") -> Message:
        """Make a dead letter: the raw bytes and, in headers, where they lay and why they are here."""
        place = {"topic": self._topic, "partition": str(number), "offset": str(source.offset)}
        facts = place | {"reason": reason, "timestamp": str(source.timestamp)}
        if fault := fault_of(source):
            facts |= fault.facts
        if cause:
            facts["cause"] = cause
        raw, largest = source.value, self._largest
        if raw is not None and len(raw) > largest:
            facts |= {"length": str(len(raw)), "sha256": hashlib.sha256(raw).hexdigest()}
            raw = raw[:largest]
        if source.key is not None and len(source.key) > KEY_ROOM:
            facts["key-length"] = str(len(source.key))
        streams = place | {"exception": f"forecart.{reason}", "message": f"this record is no event: {reason}"}
        headers = [(f"forecart-{name}", value.encode()) for name, value in facts.items()]
        headers += [(f"__streams.errors.{name}", value.encode()) for name, value in streams.items()]
        key = source.key if source.key is None else source.key[:KEY_ROOM]
        return Message(key, raw, [*_carried(source.headers), *headers])


def _carried(headers: Sequence[tuple[str, bytes]]) -> Headers:
    """Keep the headers that a dead letter has room for."""
    room, kept = HEADER_ROOM, []
    for header in headers[:HEADERS]:
        room -= header_bytes([header])
        if room < 0:
            break
        kept.append(header)
    return kept
