"""Scores by Quix Streams as it comes: a stateful function, its RocksDB state with its changelog.

python benchmarks/peers/quix.py BROKER EVENTS SCORES GROUP BUNDLE FOLDER GUARANTEE
"""

import sys
from pathlib import Path
from typing import Any

from model import Model
from quixstreams import Application, State, message_context

_, BROKER, EVENTS, SCORES, GROUP, BUNDLE, FOLDER, GUARANTEE = sys.argv

app = Application(
    broker_address=BROKER,
    consumer_group=GROUP,
    auto_offset_reset="earliest",
    processing_guarantee=GUARANTEE,
    state_dir=FOLDER,
    loglevel="ERROR",
)
model = Model(Path(BUNDLE))
events = app.topic(EVENTS, key_deserializer="str", value_deserializer="json")
scores = app.topic(SCORES, key_serializer="str", value_serializer="json")


def score(event: dict[str, Any], kept: State) -> dict[str, Any]:
    """Score one event."""
    packed = kept.get_bytes("state")
    intent, state = model.step(event["item_id"], event["type"], model.unpack(packed) if packed else model.fresh())
    kept.set_bytes("state", model.pack(state))
    at = message_context()
    return model.score(event, at.partition, at.offset, intent)


if __name__ == "__main__":
    app.dataframe(events).apply(score, stateful=True).to_topic(scores)
    app.run()
