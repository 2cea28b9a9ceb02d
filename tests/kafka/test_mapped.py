"""A topic whose events have the shop's own shape."""

import json
import random
import time
from collections import Counter
from pathlib import Path

from tests.kafka.oracle import assert_exactly_once

MAPPING = """
format: json
columns: {user: customer.id, item: sku, time: sent.at, type: kind, price: price}
types: {view: page_view, cart: add_to_cart, purchase: [purchase, order]}
"""
KINDS = ("page_view", "page_view", "add_to_cart", "purchase", "order")


def _event(user: str, dice: random.Random) -> bytes:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{dice.randrange(1000):03}Z"
    record = {"customer": {"id": user, "age": 41}, "sku": f"item-{dice.randrange(900)}", "sent": {"at": at}}
    return json.dumps(record | {"kind": dice.choice(KINDS), "price": dice.choice([9.5, None])}).encode()


def test_a_topic_of_a_shops_own_shape_is_scored_exactly_once(shop, tmp_path: Path):
    """Kill the worker in the middle; the oracle replays the input by the same mapping."""
    (tmp_path / "shop.yaml").write_text(MAPPING)
    place, dice = shop(mapping=tmp_path / "shop.yaml"), random.Random(0)
    users = [f"user-{n}" for n in range(40)]
    bad = [
        b"{",
        b'{"customer": {"id": "u"}, "sku": "a", "sent": {"at": "soon"}, "kind": "order"}',
        b'{"kind": "order"}',
    ]
    worker = place.start("w0")
    for part in range(4):
        place.send([(user.encode(), _event(user, dice)) for user in users for _ in range(4)])
        place.send([(b"k", raw) for raw in bad])
        if part == 2:
            place.await_outcomes(60)
            worker.kill()
            worker.wait()
            place.start("w0")
    place.await_outcomes(60)
    assert_exactly_once(place.examine(faults=1), at_least=640, sessions=40)
    scores = [json.loads(m.value()) for m in place.read(place.settings.scores_topic)]
    assert all(s["event_id"] == f"{s['source']['partition']}-{s['source']['offset']}" for s in scores)
    letters = place.read(place.settings.dead_letters_topic)
    reasons = Counter(dict(m.headers())["forecart-reason"].decode() for m in letters)
    assert reasons == {"not_json": 4, "wrong_type": 4, "missing_field": 4} and {m.value() for m in letters} == set(bad)
