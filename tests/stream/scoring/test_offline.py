"""Scoring without Kafka: what a pipe shows, when, and how a hopeless log ends."""

import bz2
import gzip
import io
import json
import lzma
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
import pytest

from stream.bundle.onnx import load
from stream.core.errors import DataError
from stream.core.events import Event
from stream.formats.mapped_log import MappedFormat
from stream.formats.registry import BadRows, Form
from stream.mappings import load as load_mapping
from stream.scoring import offline
from stream.settings import Settings
from tests.stream.bundle.test_onnx import DEMO

HOUR = 3_600_000


def _event(n: int, timestamp: int | None = None, user: str = "u") -> bytes:
    return msgspec.json.encode(Event(f"e{n}", user, "view", "i", timestamp or int(time.time() * 1000) + n))


def zipped(raw: bytes) -> bytes:
    """Return a ZIP archive of one file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.jsonl", raw)
    return out.getvalue()


@pytest.fixture
def shown(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[[], list[bytes]]:
    """Return what was written to stdout since the last look."""

    def look() -> list[bytes]:
        return capfdbinary.readouterr().out.splitlines()

    return look


def _score(data: Path, form: Form = "events", letters: Path | None = None):
    return offline.score_log(Settings(recommend=False), DEMO, form, data, letters)


def _run() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "forecart", "score", "--bundle", str(DEMO), "--intent-only"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("pause", [3.0, 0.05])
def test_a_slow_pipe_is_scored_as_it_comes(pause: float):
    """Write three events and wait, or one every 50 ms: the first score comes long before the pipe ends."""
    with _run() as running:
        assert running.stdin and running.stdout
        running.stdin.write(_event(0) + b"\n")
        running.stdin.flush()
        first: list[bytes] = []
        reading = threading.Thread(target=lambda: first.append(running.stdout.readline()))
        reading.start()
        deadline, n = time.monotonic() + 20, 1
        while reading.is_alive() and time.monotonic() < deadline:
            if pause < 1:
                running.stdin.write(_event(n) + b"\n")
                running.stdin.flush()
                n += 1
            reading.join(pause)
        alive = reading.is_alive()
        running.stdin.close()
        reading.join(20)
        assert not alive
        assert json.loads(first[0])["event_id"] == "e0"


@pytest.mark.slow
def test_a_reader_that_leaves_during_a_pause_is_no_fault_of_the_log():
    with _run() as running:
        assert running.stdin and running.stdout and running.stderr
        running.stdout.close()
        running.stdin.write(_event(0) + b"\n")
        running.stdin.flush()
        assert running.wait(20) != 65
        assert running.stderr.read() == b""


def test_the_clock_of_a_long_pipe_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shown):
    """Let a day pass within the log: an event of that day is not of the future."""
    began, day = 1_800_000_000_000, 24 * HOUR
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"\n".join(_event(n, began + n * day) for n in range(3)) + b"\n")
    clock = count(began, day)
    monkeypatch.setattr(offline, "_CHUNK", 1)
    monkeypatch.setattr(offline, "_now", lambda: next(clock))
    counts, bad = _score(log)
    assert counts == {"scored": 3}
    assert not bad
    assert len(shown()) == 3


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Write the events of a shopper who views, buys and views, of the catalog's first category."""
    vocabulary = load(DEMO).vocabulary
    now, kinds = int(time.time() * 1000) - HOUR, ["view", "transaction", "view", "view"]
    events = [Event(f"e{n}", "u", kind, vocabulary.items[n], now + n * 1000) for n, kind in enumerate(kinds)]
    log = tmp_path / "shop.jsonl"
    log.write_bytes(b"\n".join(map(msgspec.json.encode, events)))
    return log


def _listed(shop: Path, shown: Callable[[], list[bytes]], **settings: object) -> list[list[str]]:
    offline.score_log(Settings(**settings), DEMO, "events", shop, None)
    return [[r["item_id"] for r in json.loads(line).get("recommendations", [])] for line in shown()]


@pytest.mark.parametrize(
    ("settings", "lists"),
    [
        ({}, 4),
        ({"recommend": False}, 0),
        ({"recommend_on": "session"}, 1),
        ({"recommend_on": "nth", "recommend_every": 2}, 2),
        ({"recommend_last": True}, 1),
    ],
)
def test_lists_are_made_when_the_settings_say_so(shop: Path, shown, settings: dict[str, object], lists: int):
    assert sum(map(bool, _listed(shop, shown, **settings))) == lists


def test_lists_obey_the_rules_of_the_settings(shop: Path, shown):
    vocabulary = load(DEMO).vocabulary
    kind = {name: vocabulary.categories[vocabulary.category_of[n] - 1] for name, n in vocabulary.item_index.items()}
    first, bought = kind[vocabulary.items[0]], vocabulary.items[1]
    free = _listed(shop, shown)
    assert any(bought in items for items in free[1:])
    assert not any(bought in items for items in _listed(shop, shown, exclude_bought=True)[1:])
    assert {kind[item] for items in _listed(shop, shown, only_categories=first) for item in items} == {first}
    assert max(Counter(map(kind.__getitem__, free[0])).values()) > 2
    assert max(Counter(map(kind.__getitem__, _listed(shop, shown, category_cap=2)[0])).values()) == 2


def test_the_worker_and_the_log_have_their_scorer_from_one_place():
    """What decides a score is set nowhere else."""
    folder = Path(offline.__file__).parents[1]
    makers = {path.name for path in folder.rglob("*.py") if re.search(r"\b(Scorer|Limits)\(", path.read_text())}
    assert makers == {"configured.py", "explain.py"}


def test_rows_that_are_no_events_are_reported_with_their_lines(tmp_path: Path, shown):
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"\n".join([_event(0), b"{broken", _event(1), b"\xff", b"{again", _event(0)]))
    counts, bad = _score(log)
    assert counts == {"scored": 2, "not_json": 2, "not_utf8": 1, "duplicate": 1}
    assert bad.count == {"not_json": 2, "not_utf8": 1, "duplicate": 1}
    assert bad.first["not_json"].line == 2
    assert bad.first["not_utf8"].line == 4
    assert "2 rows left out: not_json, first in line 2: '{broken'" in bad.lines()
    assert len(shown()) == 2


@pytest.mark.parametrize("rows", [2, 150, 9_000])
def test_a_log_of_which_nothing_can_be_read_is_an_error(
    rows: int, tmp_path: Path, shown, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(offline, "_PATIENCE", 60.0)  # a chunk is whole, however slow the machine
    log, letters = tmp_path / "log.csv", tmp_path / "letters.jsonl"
    log.write_bytes(b"1,2,view,3,\n" * rows)
    with pytest.raises(DataError, match="rows left out: wrong_type, first in line 1: '1,2,view,3,'") as caught:
        _score(log, letters=letters)
    assert "events means" in caught.value.remedy
    assert letters.read_bytes().count(b"\n") == min(rows, 4096)
    assert not shown()


def test_a_log_that_was_read_but_not_scored_is_no_error(tmp_path: Path, shown):
    log = tmp_path / "log.jsonl"
    log.write_bytes(_event(0, int(time.time() * 1000) + 9000 * HOUR))
    counts, bad = _score(log)
    assert counts == {"scored": 0, "future": 1}
    assert bad.first["future"].line == 1


def test_a_log_of_nothing_is_no_error(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"")
    assert not sum(_score(log)[0].values())


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_gzip_is_an_error(damage: str, tmp_path: Path, shown):
    whole = gzip.compress(b"\n".join(_event(n) for n in range(20_000)))
    half = whole[: len(whole) // 2]
    log = tmp_path / "log.jsonl.gz"
    log.write_bytes(half if damage == "cut" else half + b"\xff" * len(half))
    with pytest.raises(DataError, match="cannot be read"):
        _score(log)


def test_dead_letters_can_go_to_stdout(tmp_path: Path, shown):
    log = tmp_path / "log.jsonl"
    log.write_bytes(_event(0) + b"\n{\n")
    _score(log, letters=Path("-"))
    assert not sys.stdout.closed
    assert [b"forecart-reason" in line for line in shown()] == [False, True]


def test_the_days_of_a_log_are_known_whatever_becomes_of_its_events(tmp_path: Path, shown):
    log, first, last = tmp_path / "log.jsonl", 1_767_225_600_000, 9_000_000_000_000
    log.write_bytes(b"\n".join([_event(0, first), b"{broken", _event(1, last)]))
    assert _score(log)[1].period == (first, last)
    log.write_bytes(b"timestamp,visitorid,event,itemid,transactionid\n1433221467,0,view,4016,\n")
    assert _score(log, "retailrocket")[1].days()[1].startswith("these look like seconds")
    assert _score(log, "retailrocket:s")[1].period == (1_433_221_467_000,) * 2


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zipped])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_file_is_scored_however_it_is_packed_and_encoded(
    pack: Callable[[bytes], bytes], encoding: str, tmp_path: Path, shown
):
    log, event = tmp_path / "log", _event(0, user="café").decode()
    log.write_bytes(pack(f"{event}\r\n{event.replace('e0', 'e1')}\r\n".encode(encoding)))
    assert _score(log)[0] == {"scored": 2}
    assert [json.loads(line)["user_id"] for line in shown()] == ["café"] * 2


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"timestamp": "2026-01-01T00:00:00Z"}, "training reads it"),
        ({"price": "1,299.00"}, "training reads it"),
        ({"user_id": 7}, "training reads it"),
        ({"user_id": [7]}, r"user_id: \[7\] is no id"),
        ({"item_id": None}, "no item_id"),
    ],
)
def test_a_line_that_a_topic_would_not_take_is_told_with_what_is_wrong(tmp_path: Path, field: dict, said: str):
    (tmp_path / "log").write_bytes(msgspec.json.encode(msgspec.json.decode(_event(0)) | field))
    with pytest.raises(DataError, match=said):
        _score(tmp_path / "log")


@pytest.mark.parametrize("n", [2, 20_000])
def test_an_array_is_called_so(tmp_path: Path, n: int):
    (tmp_path / "log").write_bytes(b"[" + b",".join([_event(0)] * n) + b"]")
    with pytest.raises(DataError, match="an array: write an object a line"):
        _score(tmp_path / "log")


TOPIC = """
format: json
columns: {user: user.id, item: sku, time: at, type: kind}
time: {unit: ms}
types: {view: page_view, purchase: purchased}
"""


def _of_a_shop(folder: Path, mapping: str) -> tuple[MappedFormat, Counter[str], BadRows]:
    """Score records of a shop's own shape, three of pages and one of an order, by a mapping."""
    now = int(time.time() * 1000) - HOUR
    records = [{"user": {"id": "u"}, "sku": "i", "at": now, "kind": kind} for kind in ["page_view"] * 3 + ["purchase"]]
    (folder / "shop.yaml").write_text(mapping)
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    form = load_mapping(folder / "shop.yaml")
    return form, *_score(folder / "log.jsonl", form)


def test_a_type_that_a_topic_does_not_have_is_told_with_what_it_has(tmp_path: Path):
    form, counts, bad = _of_a_shop(tmp_path, TOPIC)
    assert counts == {"scored": 3, "unknown_type": 1}
    assert form.missing() == [
        "no event is of type 'purchased' (is it 'purchase'?): the log has page_view 3, purchase 1"
    ]
    assert "'purchase'" in bad.first["unknown_type"].hint


def test_a_field_that_records_do_not_have_is_told_with_the_nearest(tmp_path: Path):
    with pytest.raises(DataError, match=r"no skus: is it sku\?"):
        _of_a_shop(tmp_path, TOPIC.replace("sku", "skus"))


def test_the_type_of_an_event_that_the_model_does_not_know_is_named(shop: Path):
    shop.write_bytes(shop.read_bytes().replace(b'"transaction"', b'"purchase"'))
    counts, bad = _score(shop)
    assert counts["unknown_type"] == 1 and "'purchase'" in bad.first["unknown_type"].hint
