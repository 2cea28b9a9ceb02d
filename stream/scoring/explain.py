"""Why a user has the score of now: the ring replayed without each event, and without each field."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.bundle.onnx import Bundle, load
from stream.core import session
from stream.core.errors import DataError
from stream.core.events import Recommendation, Score
from stream.core.ring import Outputs, fields, without_each, without_fields
from stream.core.session import Sessions
from stream.explain.schema import Amounts, Explanation, Share
from stream.formats.registry import BadRows, Form
from stream.mappings import decoder_of
from stream.records import Message
from stream.scoring.configured import limits
from stream.scoring.offline import run
from stream.scoring.scorer import Partition, Scorer
from stream.settings import Settings
from stream.state.sessions import SessionStore

METHOD = "leave one out"
_read = msgspec.json.Decoder(Score).decode


@dataclass(slots=True)
class _Seen:
    """The newest score of a user, and the ids of the events before it, newest last."""

    ids: deque[str]
    score: Score


@dataclass(slots=True)
class _Shoppers:
    """What a log leaves behind of each user."""

    ring: int
    seen: dict[str, _Seen] = field(default_factory=dict)
    newest: Score | None = None

    def publish(self, scores: list[Message]) -> None:
        """Take note of scores."""
        for message in scores:
            score = _read(message.value or b"")
            if score.user_id not in self.seen:
                self.seen[score.user_id] = _Seen(deque(maxlen=self.ring), score)
            seen = self.seen[score.user_id]
            seen.ids.append(score.event_id)
            seen.score = score
            if self.newest is None or score.event_time >= self.newest.event_time:
                self.newest = score


def explain_log(
    settings: Settings, folder: Path, form: Form, data: Path, users: Sequence[str], everyone: bool, recommend: bool
) -> tuple[list[Explanation], BadRows]:
    """Score a log, then explain the newest score of the given users, of all, or of the newest event's user.

    With `recommend` the first recommendation is explained too. Raises DataError where a user has no score.
    """
    bundle = load(folder, settings.printable_ids)
    scorer = Scorer(bundle, False, limits(settings), str(data), decoder=decoder_of(form))
    part, shoppers = Partition(0, SessionStore(scorer.layout)), _Shoppers(bundle.manifest.meaning.ring)
    _, bad = run(scorer, part, form, data, shoppers.publish)
    if not shoppers.newest:
        said = ["no event was scored, so there is no score to explain", *bad.lines()]
        raise DataError("\n  ".join(said), "give a log with events, and its --format or --mapping")
    chosen = list(shoppers.seen) if everyone else list(users) or [shoppers.newest.user_id]
    for user in chosen:
        if user not in shoppers.seen or part.store.get(user) is None:
            raise DataError(
                f"the log leaves no score of the shopper {user!r}", "check --user: ids are those of the log"
            )
    slots = part.store.slots(chosen)
    return explain(bundle, part.store.records[slots], [shoppers.seen[user] for user in chosen], recommend), bad


def explain(bundle: Bundle, heads: Sessions, seen: Sequence[_Seen], recommend: bool) -> list[Explanation]:
    """Explain the sessions (n,) of users, whose newest scores and events' ids are given."""
    facts, ids = bundle.manifest, bundle.vocabulary
    by_event = without_each(heads, bundle.step(recommend), facts, ids, facts.meaning.ring)
    intent = without_fields(heads, bundle.intent_step, facts, ids)["intent"]
    by_field = intent[:, :1] - intent[:, 1:]
    found = []
    for row, each in enumerate(seen):
        best = _best(bundle, by_event, row) if recommend else None
        found.append(
            Explanation(
                user_id=each.score.user_id,
                event_id=each.score.event_id,
                event_time=each.score.event_time,
                model=facts.model,
                method=METHOD,
                intent=each.score.intent,
                explained=_amounts(bundle, by_event["intent"][row, 0]),
                events=_shares(bundle, heads[row], by_event, row, list(each.ids)[::-1]),
                fields={
                    name: _amounts(bundle, value)
                    for name, value in zip(fields(facts.inputs), by_field[row], strict=True)
                },
                recommendation=best,
            )
        )
    return found


def _amounts(bundle: Bundle, values: NDArray[Any]) -> Amounts:
    horizons, published = bundle.manifest.meaning.horizons, bundle.manifest.published
    amounts = values.astype(np.float64).round(7).tolist()
    return {horizons[place]: amounts[place] for place in published}


def _best(bundle: Bundle, by_event: Outputs, row: int) -> Recommendation:
    item, score = int(by_event["items"][row, 0, 0]), float(by_event["item_scores"][row, 0, 0])
    return Recommendation(bundle.vocabulary.items[item - 1], round(score, 7))


def _shares(bundle: Bundle, head: Sessions, by_event: Outputs, row: int, ids: list[str]) -> list[Share]:
    intent, types = by_event["intent"][row], bundle.manifest.meaning.types
    items, times = bundle.vocabulary.item_of(head["recent_item"]), session.times(head)
    shares = []
    for place in np.flatnonzero(head["recent_event"]).tolist():
        alone = np.isnan(intent[1 + place]).any()  # a single event: there is no score without it
        gain, bound = (None, False) if alone or "items" not in by_event else _of_first_item(by_event, row, place)
        share = Share(
            event_time=int(times[place]),
            type=types[int(head["recent_type"][place])],
            contribution={} if alone else _amounts(bundle, intent[0] - intent[1 + place]),
            event_id=ids[place] if place < len(ids) else "",
            item_id=bundle.vocabulary.name(int(items[place])),
            next_item=gain,
            at_least=bound,
        )
        shares.append(share)
    return shares


def _of_first_item(by_event: Outputs, row: int, place: int) -> tuple[float, bool]:
    """Return what an event adds to the first recommendation, and whether that is a bound: it is no longer listed."""
    items, scores = by_event["items"][row], by_event["item_scores"][row]
    listed = np.flatnonzero(items[1 + place] == items[0, 0])
    without = scores[1 + place, listed[0]] if len(listed) else scores[1 + place, -1]
    return round(float(scores[0, 0] - without), 7), not len(listed)
