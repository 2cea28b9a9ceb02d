"""A shop's own log, from its first look to scores, without a line of code."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.stream.bundle.test_onnx import DEMO
from tests.test_cli import NOWHERE, forecart, refuses

pytestmark = pytest.mark.slow  # each command is a process of its own
NAMES = {"view": "page_view", "addtocart": "add_to_cart", "transaction": "purchase"}
TINY = ("--preset", "small", "--set", "epochs=1", "--set", "judged=0")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a log as a shop's table, as its topic's JSON lines, and as ours."""
    folder = tmp_path_factory.mktemp("shop")
    lines = forecart("shoppers", "--shoppers", "120", "--days", "4", "--seed", "3").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    (folder / "ours.jsonl").write_text("\n".join(lines) + "\n")
    rows = [f"{e['user_id']},{e['timestamp']},{NAMES[e['type']]},{e['item_id']},{e['category_id']}" for e in events]
    (folder / "shop.csv").write_text("\n".join(["user,timestamp,event,product_id,category", *rows]) + "\n")
    topic = [
        {"customer": {"id": e["user_id"]}, "at": e["timestamp"] / 1000, "event": NAMES[e["type"]], "id": e["event_id"]}
        | {"product": {"sku": e["item_id"], "category": e["category_id"]}}
        for e in events
    ]
    (folder / "topic.jsonl").write_text("".join(json.dumps(record) + "\n" for record in topic))
    return folder


def mapped(shop: Path, log: str) -> str:
    path = shop / f"{log}.yaml"
    if not path.exists():
        done = forecart("map", "--data", str(shop / log), "--out", str(path))
        assert done.returncode == 0, done.stderr
        assert "What the first 10 rows become" in done.stderr and "transaction" not in path.read_text()
    return str(path)


@pytest.fixture(scope="module")
def run(shop: Path) -> str:
    """Train on the table."""
    table, log, folder = mapped(shop, "shop.csv"), str(shop / "shop.csv"), str(shop / "run")
    done = forecart("train", "--mapping", table, "--data", log, "--out", folder, "--horizon", "24h", *TINY)
    assert done.returncode == 0, done.stderr
    assert "types in the part trained on: page_view (view) " in done.stderr and "purchase (transaction) " in done.stderr
    return folder


def test_a_log_is_trained_on_and_its_topic_scored(shop: Path, run: str):
    table, topic = mapped(shop, "shop.csv"), mapped(shop, "topic.jsonl")
    log, bundle = str(shop / "shop.csv"), str(shop / "bundle")
    measured = forecart("evaluate", run, "--mapping", table, "--data", log, "--tail", "0.2")
    assert json.loads(measured.stdout)["targets"] > 10
    assert forecart("export", run, bundle).returncode == 0
    ours = forecart("score", "--bundle", bundle, "--data", str(shop / "ours.jsonl"))
    theirs = forecart("score", "--bundle", bundle, "--mapping", topic, "--data", str(shop / "topic.jsonl"))
    set_ = forecart("score", "--bundle", bundle, "--data", str(shop / "topic.jsonl"), env={"FORECART_MAPPING": topic})
    for done in (theirs, set_):
        pairs = list(zip(*(map(json.loads, each.stdout.splitlines()) for each in (ours, done)), strict=True))
        assert len(pairs) > 100 and all(a | {"scored_at": 0} == b | {"scored_at": 0} for a, b in pairs)
    assert (
        "explained"
        in forecart("explain", "--bundle", bundle, "--mapping", topic, "--data", str(shop / "topic.jsonl")).stdout
    )


def test_a_log_is_prepared_and_searched_by_a_mapping(shop: Path):
    table, log = mapped(shop, "shop.csv"), str(shop / "shop.csv")
    done = forecart("prepare", "--mapping", table, "--data", log, "--out", str(shop / "prepared"))
    assert json.loads(done.stdout)["format"] == "shop.csv.yaml"
    words = ("--mapping", table, "--data", log, "--out", str(shop / "search"), "--trials", "1", "--holdout-tail", "0.2")
    done = forecart("search", *words, "--set", "epochs=1")
    assert f"--mapping {table} --data {log}" in json.loads(done.stdout)["command"]


def test_parquet_is_read_by_a_mapping(shop: Path):
    import polars as pl

    pl.read_csv(shop / "shop.csv").write_parquet(shop / "shop.parquet")
    mapping = mapped(shop, "shop.parquet")
    done = forecart("prepare", "--mapping", mapping, "--data", str(shop / "shop.parquet"), "--out", str(shop / "pq"))
    assert json.loads(done.stdout)["events"] == len((shop / "ours.jsonl").read_text().splitlines())
    other = shop / "other.yaml"
    other.write_text(Path(mapping).read_text().replace("product_id", "product"))
    done = forecart("prepare", "--mapping", str(other), "--data", str(shop / "shop.parquet"), "--out", str(shop / "no"))
    refuses(done, 65, "no column product: is it product_id?", "its columns are user, timestamp")


@pytest.fixture(scope="module")
def wrong(shop: Path) -> dict[str, str]:
    """Write mappings whose purchases have another name than the logs', by the log."""
    found = {}
    for log in ("shop.csv", "topic.jsonl"):
        path = shop / f"wrong-{log}.yaml"
        path.write_text(Path(mapped(shop, log)).read_text().replace("purchase: purchase", "purchase: purchased"))
        found[log] = str(path)
    return found


def _lost(done: subprocess.CompletedProcess[str]) -> bool:
    return "no event is of type 'purchased' (is it 'purchase'?): the log has page_view" in done.stderr


@pytest.mark.parametrize("log", ["shop.csv", "topic.jsonl"])
def test_a_type_that_is_not_there_is_told_where_a_bundle_reads(shop: Path, wrong: dict[str, str], log: str):
    words = ("--bundle", str(DEMO), "--mapping", wrong[log], "--data", str(shop / log))
    scored, explained = forecart("score", *words), forecart("explain", *words)
    assert scored.returncode == explained.returncode == 0, scored.stderr + explained.stderr
    assert _lost(scored) and _lost(explained) and " unknown_type" in scored.stderr
    if log == "topic.jsonl":
        assert "the model knows no type 'purchase'" in scored.stderr


def test_a_type_that_is_not_there_is_told_where_a_run_reads(shop: Path, wrong: dict[str, str], run: str):
    log = ("--data", str(shop / "shop.csv"))
    wordings = (
        ("evaluate", run, "--tail", "0.2"),
        ("report", run, "--tail", "0.2", "--rounds", "20", "--out", str(shop / "report.html")),
        ("attribute", run),
    )
    for words in wordings:
        good = forecart(*words, *log, "--mapping", mapped(shop, "shop.csv"))
        assert good.returncode == 0 and "no event is of type" not in good.stderr, good.stderr
        assert _lost(forecart(*words, *log, "--mapping", wrong["shop.csv"]))


def test_intents_are_compared_by_a_mapping(shop: Path, wrong: dict[str, str]):
    words = ("intent", "--data", str(shop / "shop.csv"), "--folds", "2", "--rounds", "10", "--set", "epochs=1")
    words += ("--horizon", "1h", "--tail", "0.5")
    done = forecart(*words, "--mapping", mapped(shop, "shop.csv"))
    assert done.returncode == 0 and json.loads(done.stdout)["format"] == "shop.csv.yaml", done.stderr
    assert _lost(forecart(*words, "--mapping", wrong["shop.csv"]))


def test_a_type_that_is_not_there_ends_a_training_before_it_begins(shop: Path, wrong: dict[str, str]):
    done = forecart(
        "train", "--mapping", wrong["shop.csv"], "--data", str(shop / "shop.csv"), "--out", str(shop / "no")
    )
    assert done.returncode == 65 and "Traceback" not in done.stderr
    assert _lost(done)


def test_a_column_that_is_not_there_is_told_before_kafka_is_waited_for(shop: Path):
    other = shop / "no-column.yaml"
    other.write_text(Path(mapped(shop, "shop.csv")).read_text().replace("product_id", "product"))
    words = ("--mapping", str(other), "--data", str(shop / "shop.csv"), "--bootstrap-servers", NOWHERE)
    refuses(forecart("replay", *words), 65, "it names no column product (is it product_id?)")


def test_a_mapping_without_a_needed_column_is_not_written(shop: Path):
    (shop / "odd.csv").write_text("a,timestamp,b\nx,2026-03-04T12:00:00Z,y\n")
    done = forecart("map", "--data", str(shop / "odd.csv"))
    assert done.returncode == 65 and "which column is the user and the item?" in done.stderr
    assert not done.stdout


def test_a_format_is_asked_for(shop: Path):
    refuses(forecart("train", "--data", str(shop / "shop.csv")), 78, "no format is given", "forecart map --data FILE")
    done = forecart("evaluate", "run", "--data", "x", "--format", "events", "--mapping", "y")
    assert done.returncode != 0 and "Traceback" not in done.stderr


def test_purchases_of_another_name_are_asked_for_and_their_intent_is_not_published(shop: Path):
    """Train on a log whose purchases no one has named, and score by what comes of it."""
    odd, run, bundle = shop / "odd.jsonl", str(shop / "odd-run"), str(shop / "odd-bundle")
    odd.write_text((shop / "ours.jsonl").read_text().replace('"transaction"', '"purchase"'))
    log = ("--format", "events", "--data", str(odd))
    said = forecart("train", *log, "--out", run, "--horizon", "24h", *TINY).stderr
    begun = said.split("training")[0]
    assert "types in the part trained on: view " in begun and "of their own, without a meaning: purchase" in begun
    assert "no event is a purchase, which is called transaction: is it 'purchase'?" in begun
    assert "purchases within 24h: nothing is learned" in begun
    assert "no `intent` within 24h is published" in forecart("export", run, bundle).stderr
    assert json.loads((Path(bundle) / "manifest.json").read_text())["unlearned"] == ["24h"]
    scores = list(map(json.loads, forecart("score", "--bundle", bundle, *log).stdout.splitlines()))
    assert len(scores) > 100 and not any("intent" in score for score in scores)
    explained = forecart("explain", "--bundle", bundle, *log)
    assert explained.returncode == 0 and json.loads(explained.stdout)["intent"] == {}
    assert forecart("export", "--any-intent", run, bundle + "-asked").returncode == 0
    asked = forecart("score", "--bundle", bundle + "-asked", *log).stdout.splitlines()
    assert "24h" in json.loads(asked[0])["intent"]
