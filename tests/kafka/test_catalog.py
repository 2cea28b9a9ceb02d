"""The shop's catalog on a real broker: read in full first, then followed; a record that is none changes nothing."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from stream.bundle.onnx import load
from stream.core.errors import BrokerError, TopicError
from stream.kafka.catalog import CatalogReader, publish
from stream.kafka.embedded_broker import free_port
from stream.recommend.shop_catalog import Catalog
from tests.kafka.oracle import assert_exactly_once
from tests.kafka.probes import values
from tests.kafka.shop import BUNDLE, event, wait_for
from tests.kafka.test_worker import NOW

VOCABULARY = load(BUNDLE).vocabulary
FIRST = VOCABULARY.items[0]


def _away(available: bool = False) -> bytes:
    return msgspec.json.encode({"availability": available})


def _reader(place, heard: Counter[str]) -> CatalogReader:
    def hear(reason: str) -> None:
        heard[reason] += 1

    return CatalogReader(place.settings, Catalog(VOCABULARY, [], 0, exclude_bought=False), hear)


def test_a_change_applies_within_a_second_and_a_bad_record_changes_nothing(shop):
    place, heard, failures = shop(catalog_topic=f"catalog-{time.time_ns()}"), Counter(), []
    publish(place.settings, [(name, _away(n % 2 == 0)) for n, name in enumerate(VOCABULARY.items)] * 3)
    reader = _reader(place, heard)
    reader.start(failures.append)
    try:
        allowed = reader.rules().allowed
        assert heard[""] == 3 * len(VOCABULARY.items)
        assert allowed is not None and allowed[1:].tolist() == [n % 2 == 0 for n in range(len(VOCABULARY.items))]
        publish(place.settings, [(FIRST, _away())])
        published = time.monotonic()
        wait_for(lambda: not reader.rules().allowed[1], 5, "the change")
        assert time.monotonic() - published < 1
        publish(place.settings, [(FIRST, b'{"availability": "yes"}'), (FIRST, b"{"), (FIRST, b'{"price": 3}')])
        wait_for(lambda: heard["schema"] == 2 and heard["not_json"] == 1, 5, "the bad ones")
        assert not reader.rules().allowed[1]
        publish(place.settings, [(FIRST, None)])
        wait_for(lambda: reader.rules().allowed[1], 5, "the removal")
        assert not failures
    finally:
        reader.stop()


def test_a_topic_that_is_missing_is_named(shop):
    place = shop()
    missing = place.settings.model_copy(update={"catalog_topic": "no-such-catalog"})
    with pytest.raises(TopicError, match="FORECART_CATALOG_TOPIC=no-such-catalog"):
        publish(missing, [(FIRST, _away())])
    with pytest.raises((TopicError, BrokerError)):
        CatalogReader(missing, Catalog(VOCABULARY, [], 0, exclude_bought=False)).start(lambda _: None)


def test_a_worker_lists_nothing_that_the_loaded_catalog_forbids(shop, tmp_path: Path):
    """Load a file by the command, start a worker: from its first score on the catalog holds."""
    place, port = shop(catalog_topic=f"catalog-{time.time_ns()}"), free_port()
    kept = set(VOCABULARY.items[:50])
    lines = [{"item_id": name, "availability": name in kept} for name in VOCABULARY.items]
    file = tmp_path / "items.jsonl"
    file.write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    words = ["catalog", "load", str(file), "--topic", place.settings.catalog_topic, "--json"]
    command = [sys.executable, "-m", "forecart", *words, "--bootstrap-servers", place.address]
    done = subprocess.run(command, capture_output=True, text=True)
    assert json.loads(done.stdout) == {"published": len(lines)}, done.stderr
    publish(place.settings, [("none", b"[]")])
    place.send([(b"u", event(n, "u", NOW + n, random.Random(n))) for n in range(20)])
    place.start("a", metrics_port=port)
    wait_for(lambda: len(place.read(place.settings.scores_topic)) == 20, 60, "scores")
    for message in place.read(place.settings.scores_topic):
        listed = {r["item_id"] for r in json.loads(message.value())["recommendations"]}
        assert len(listed) == 20 and listed <= kept
    assert values(port, "forecart_catalog_rejected_total", reason="schema") == [1]
    assert values(port, "forecart_catalog_records_total") == [len(lines)]
    assert_exactly_once(place.examine(faults=1), at_least=20)


def _unseen(n: int, item: str) -> tuple[bytes, bytes]:
    return b"u", msgspec.json.encode({**json.loads(event(n, "u", NOW + n, random.Random(n))), "item_id": item})


def test_a_pin_of_an_item_that_nobody_has_seen_is_listed_and_no_item_that_the_catalog_does_not_name(shop):
    place = shop(catalog_topic=f"catalog-{time.time_ns()}", partitions=1)
    pin = b'{"availability": true, "pins": 1}'
    publish(place.settings, [("pinned", pin), ("gone", pin), ("gone", None)])
    place.send([_unseen(n, f"unseen-{n % 2}") for n in range(6)])
    worker = place.start("a")
    wait_for(lambda: len(place.read(place.settings.scores_topic)) == 6 or worker.poll() is not None, 60, "scores")
    assert worker.poll() is None
    for message in place.read(place.settings.scores_topic):
        listed = [r["item_id"] for r in json.loads(message.value())["recommendations"]]
        assert listed[0] == "pinned" and not {"unseen-0", "unseen-1"} & set(listed)  # no catalog names them
        assert len(listed) == 20 == len(set(listed))


BROKEN = [b"", b"\xff", b"{", b"[" * 4000, b'{"availability": true, "price": 1e999}', b'{"availability": "\\ud800"}']
BROKEN_ITEMS = [(b"ibroken", b"{"), (b"i\xff", b"{}"), (b"iinf", b'{"category": 0, "count": 1e999, "last": 1}')]


def test_what_is_no_record_of_an_item_is_counted_and_ends_no_worker(shop):
    """Neither in the catalog, before the start and after it, nor in the changelog."""
    place, port = shop(catalog_topic=f"catalog-{time.time_ns()}", partitions=1), free_port()
    publish(place.settings, [("broken", value) for value in BROKEN])
    out = place.producer()
    for key, value in BROKEN_ITEMS:
        out.produce(place.settings.changelog, value, key, 0)
    assert out.flush(30) == 0
    place.send([_unseen(1, "unseen")])
    worker = place.start("a", metrics_port=port)
    wait_for(lambda: place.read(place.settings.scores_topic) or worker.poll() is not None, 60, "a score")
    assert worker.poll() is None
    publish(place.settings, [("broken", value) for value in BROKEN])
    place.send([_unseen(2, "unseen")])
    wait_for(lambda: len(place.read(place.settings.scores_topic)) == 2, 60, "a score after them")
    wait_for(lambda: sum(values(port, "forecart_catalog_rejected_total")) == 2 * len(BROKEN), 10, "the catalog's count")
    assert sum(values(port, "forecart_recovery_passed_over_total")) == len(BROKEN_ITEMS)
    assert_exactly_once(place.examine(faults=2 * len(BROKEN) + len(BROKEN_ITEMS)), at_least=2)


def test_a_file_with_a_wrong_line_is_refused_whole(shop, tmp_path: Path):
    place = shop(catalog_topic=f"catalog-{time.time_ns()}")
    file = tmp_path / "items.jsonl"
    file.write_text('{"item_id": "a", "availability": true}\n{"item_id": "b", "availability": 1}\n')
    words = ["catalog", "load", str(file), "--topic", place.settings.catalog_topic]
    command = [sys.executable, "-m", "forecart", *words, "--bootstrap-servers", place.address]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 65 and "line 2 is no item: schema (Expected `bool`, got `int`" in done.stderr
    assert "availability" in done.stderr.splitlines()[0]
    assert not place.read(place.settings.catalog_topic)
