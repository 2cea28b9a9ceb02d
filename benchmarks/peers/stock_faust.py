"""Scores by Faust as it comes: an agent, a table of states with its changelog, at least once.

The table is of JSON, as its documentation has tables (KEPT is `json`), or of pickled bytes, which is faster (`bytes`).

python benchmarks/peers/stock_faust.py BROKER EVENTS SCORES GROUP BUNDLE FOLDER PARTITIONS KEPT
"""

import sys
from pathlib import Path
from typing import Any

import faust
from model import Model, State

_, BROKER, EVENTS, SCORES, GROUP, BUNDLE, FOLDER, PARTITIONS, KEPT = sys.argv


class Event(faust.Record, serializer="json"):
    """What a shopper did."""

    event_id: str
    user_id: str
    type: str
    item_id: str
    timestamp: int


class Kept(faust.Record, serializer="pickle"):
    """A shopper's state in the table: bytes, which JSON has none of."""

    packed: bytes


app = faust.App(
    GROUP,
    broker=f"kafka://{BROKER}",
    datadir=FOLDER,
    store="memory://",
    topic_partitions=int(PARTITIONS),
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
)
model = Model(Path(BUNDLE))
events = app.topic(EVENTS, value_type=Event)
scores = app.topic(SCORES, value_serializer="json")
states = app.Table("states", value_type=Kept) if KEPT == "bytes" else app.Table("states")


def _state(kept: Any) -> State:
    if kept is None:
        return model.fresh()
    return model.unpack(kept.packed) if KEPT == "bytes" else model.arrays(kept)


@app.agent(events)
async def score(stream: Any) -> None:
    """Score each event."""
    async for found in stream.events():
        event = found.value
        intent, state = model.step(event.item_id, event.type, _state(states.get(event.user_id)))
        states[event.user_id] = Kept(packed=model.pack(state)) if KEPT == "bytes" else model.lists(state)
        message = found.message
        await scores.send(
            key=event.user_id, value=model.score(event.asdict(), message.partition, message.offset, intent)
        )


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "--loglevel", "error"]
    app.main()
