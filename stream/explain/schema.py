"""What is said about a score: which events and which input fields made it, by whatever method."""

import msgspec

from stream.core.events import Recommendation

Amounts = dict[str, float]
"""By horizon: a probability, or what is added to one."""


class Share(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one event adds; `next_item` is its part of the recommendation's probability, or the least that it is."""

    event_time: int
    type: str
    contribution: Amounts
    event_id: str = ""
    item_id: str = ""
    fields: dict[str, Amounts] = {}
    next_item: float | None = None
    at_least: bool = False


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A user's score and what made it: events newest first, and input fields over all events.

    `intent` is the score; `explained` is the one that the contributions are about, which begins at the oldest
    event here; `baseline` is that of neutral inputs, where the method has one.
    """

    user_id: str
    event_id: str = ""
    event_time: int
    model: str = ""
    method: str
    intent: Amounts
    explained: Amounts
    baseline: Amounts = {}
    events: list[Share]
    fields: dict[str, Amounts]
    recommendation: Recommendation | None = None
