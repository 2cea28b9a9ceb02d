"""Print scores as they come: python reader.py HOST:PORT TOPIC [COUNT]."""

import json
import sys

from confluent_kafka import Consumer

if len(sys.argv) < 3:
    sys.exit(__doc__)
servers, topic, *count = sys.argv[1:]
settings = {
    "bootstrap.servers": servers,
    "group.id": "score-reader",
    "isolation.level": "read_committed",  # without it, scores of aborted transactions come too
    "auto.offset.reset": "earliest",
    "enable.auto.offset.store": False,
}
consumer = Consumer(settings)
consumer.subscribe([topic])
left = int(count[0]) if count else -1
try:
    while left != 0:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            sys.exit(f"{topic}: {message.error().str()}")
        score = json.loads(message.value())
        items = [each["item_id"] for each in score.get("recommendations", [])[:3]]
        print(score["event_id"], score["user_id"], score.get("intent", {}), items, flush=True)
        consumer.store_offsets(message)  # only what was handled is committed
        left -= 1
finally:
    consumer.close()
