"""The command line: what people type, what they get, and how it refuses."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.main import get_command

from forecart import COMMANDS, app
from forecart import run as guarded
from tests.stream.bundle.test_onnx import DEMO

pytestmark = pytest.mark.slow  # each command is a process of its own
NOWHERE = "127.0.0.1:1"


def forecart(*words: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command as its user would."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FORECART_")} | {"COLUMNS": "200"} | (env or {})
    done = subprocess.run(
        [sys.executable, "-m", "forecart", *words], input=stdin, capture_output=True, env=clean, timeout=120
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def refuses(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Expect one readable message and no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("forecart: ")
    for word in words:
        assert word in done.stderr


def test_help_lists_every_command_with_its_sentence():
    done = forecart("--help")
    assert done.returncode == 0
    assert all(f" {command} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str):
    found = get_command(app).get_command(None, command)  # type: ignore[arg-type]
    for name, leaf in {command: found, **getattr(found, "commands", {})}.items():
        words = command if leaf is found else f"{command} {name}"
        told = " ".join(leaf.help.split())
        assert re.search(rf"Examples?: .*\bforecart {words}\b", told) or hasattr(leaf, "commands")


def test_a_command_whose_reader_has_gone_ends_with_141():
    with subprocess.Popen(
        [sys.executable, "-m", "forecart", "shoppers"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout and running.stderr and running.stdout.readline()
        running.stdout.close()
        assert (running.wait(60), running.stderr.read()) == (141, b"")


def test_serving_commands_do_not_wait_for_torch():
    code = "import sys, forecart, stream.cli.worker, stream.app, stream.demo.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_shoppers_are_scored_from_a_pipe():
    shop = forecart("shoppers", "--shoppers", "20", "--days", "1", "--seed", "3").stdout
    done = forecart("score", "--bundle", str(DEMO), stdin=shop.encode())
    scores = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(scores) == len(shop.splitlines()) > 20
    assert all(len(score["recommendations"]) == 20 and 0 <= score["intent"]["1h"] <= 1 for score in scores)
    assert f"{len(scores)} scored" in done.stderr


def test_what_cannot_be_scored_is_written_apart(tmp_path: Path):
    letters = tmp_path / "dead.jsonl"
    done = forecart("score", "--bundle", str(DEMO), "--dead-letters", str(letters), stdin=b'{"a"\n\xff\n')
    assert done.stdout == ""
    reasons = [json.loads(line)["forecart-reason"] for line in letters.read_text().splitlines()]
    assert reasons == ["not_json", "not_utf8"]
    refuses(done, 65, "1 row left out: not_json, first in line 1", "first in line 2", "events means")


def test_the_whole_way_from_a_log_to_scores(tmp_path: Path):
    """Train, evaluate, export, score."""
    shop, run, bundle = tmp_path / "shop.jsonl", str(tmp_path / "run"), str(tmp_path / "bundle")
    shop.write_text(forecart("shoppers", "--shoppers", "400", "--days", "2").stdout + "{broken [/foo]\n")
    log = ["--format", "events", "--data", str(shop)]
    trained = forecart(
        "train", *log, "--out", run, "--holdout-tail", "0.3", "--set", "dimension=8", "--set", "epochs=2"
    )
    assert trained.returncode == 0, trained.stderr
    assert "1 row left out: not_json, first in line" in trained.stderr
    assert json.loads(trained.stdout.splitlines()[-1])["hr@20"] > 0
    assert {"loss.png", "run.json", "weights.npz"} <= {path.name for path in Path(run).iterdir()}
    measured = forecart("evaluate", run, *log, "--tail", "0.3", "--baselines")
    line = json.loads(measured.stdout.splitlines()[-1])
    names = {"hr@20", "mrr@20", "ndcg@20", "pr_auc", "roc_auc", "log_loss", "brier", "ece"}
    assert names | {"users", "events", "positives"} <= set(line)
    rivals = {"popularity", "last-item", "own-items", "category-popularity", "V-SkNN", "STAN", "lightgbm", "logistic"}
    assert set(line["baselines"]) == rivals
    assert line["baselines"]["lightgbm"]["lead"].keys() == {"pr_auc"}
    chosen = json.loads(trained.stdout.splitlines()[-1])
    assert line["hr@20"] == pytest.approx(chosen["hr@20"], abs=0.01)
    assert line["hr@20_joined"] == pytest.approx(chosen["hr@20_joined"], abs=0.01)
    assert line["targets_joined"] == chosen["targets_joined"] > 0
    page = tmp_path / "report.html"
    reported = forecart("report", run, *log, "--tail", "0.3", "--rounds", "20", "--out", str(page))
    told = json.loads(reported.stdout.splitlines()[-1])
    assert told["report"] == str(page)
    assert told["hr@20"] == pytest.approx(line["hr@20"])
    assert told["intervals"]["hr@20"][0] <= told["hr@20"] <= told["intervals"]["hr@20"][1]
    assert "not_json" in page.read_text()
    refuses(forecart("report", run, run, *log, "--out", str(page)), 78, "named twice")
    exported = forecart("export", run, bundle)
    assert json.loads(exported.stdout)["model"]
    assert forecart("score", "--bundle", bundle, stdin=shop.read_bytes()).stdout.count("\n") > 100
    by_events = json.loads(forecart("explain", "--bundle", bundle, stdin=shop.read_bytes()).stdout)
    by_gradients = json.loads(forecart("attribute", run, *log).stdout)
    assert by_events["user_id"] == by_gradients["user_id"]
    assert by_events["intent"]["1h"] == pytest.approx(by_gradients["intent"]["1h"], abs=2e-3)
    assert by_events["fields"].keys() == by_gradients["fields"].keys()
    refuses(forecart("train", *log, "--out", run), 78, "finished run")
    refuses(forecart("export", run, bundle), 78, "exists")


def test_intent_is_compared_with_the_truth(tmp_path: Path):
    """Simulate, and compare on the events whose true probabilities are known."""
    shoppers = ["shoppers", "--shoppers", "400", "--days", "2"]
    shop, truth = tmp_path / "shop.jsonl", tmp_path / "truth.jsonl"
    shop.write_text(forecart(*shoppers).stdout)
    truth.write_text(forecart(*shoppers, "--truth", "1h").stdout)
    dials = ["--folds", "2", "--rounds", "20", "--set", "dimension=8", "--set", "epochs=1"]
    horizons = ["--horizon", "1h", "--horizon", "session"]
    words = ["intent", "--format", "events", "--data", str(shop), *dials, *horizons]
    compared = forecart(*words, "--truth", str(truth))
    assert compared.returncode == 0, compared.stderr
    found = json.loads(compared.stdout.splitlines()[-1])["horizons"]
    assert found.keys() == {"1h", "session"}
    names = {"lstm", "lightgbm", "logistic", "base rate"}
    assert found["session"]["contenders"].keys() == names
    known = found["1h"]["contenders"]
    assert known.keys() == names | {"truth"}
    # A truth of the wrong events, or in another order, would be no better than anybody.
    assert known["truth"]["log_loss"][0] < min(known[name]["log_loss"][0] for name in names)
    assert known["truth"]["roc_auc"][0] > 0.6
    value, low, high = found["1h"]["pr_auc_of_lstm_above"]["truth"]
    assert low <= value <= high
    refuses(forecart(*words, *["--truth", str(truth)] * 3), 78, "more --truth than horizons")
    refused = forecart(*words, "--truth", str(shop))
    assert (refused.returncode, refused.stdout) == (65, "")
    assert "no probability of each event" in refused.stderr


def test_dials_are_searched_and_the_search_goes_on(tmp_path: Path):
    shop = tmp_path / "shop.jsonl"
    shop.write_text(forecart("shoppers", "--shoppers", "100", "--days", "2").stdout)
    dials = ["--holdout-tail", "0.3", "--set", "dimension=8", "--set", "epochs=1", "--set", "lr=0.003"]
    words = ["search", "--format", "events", "--data", str(shop), "--out", str(tmp_path / "search"), *dials]
    first = forecart(*words, "--trials", "1")
    assert first.returncode == 0, first.stderr
    found = json.loads(forecart(*words, "--trials", "2").stdout)
    assert found["trials"] == 2
    assert found["best"] >= json.loads(first.stdout)["best"]
    fixed = "--preset small --seed 0 --set dimension=8 --set epochs=1 --set lr=0.003 --set "
    assert found["command"].startswith(f"forecart train --format events --data {shop} {fixed}")
    assert found["command"].endswith(f"--holdout-tail 0.3 --device cpu --out {tmp_path / 'search' / 'best'}")
    assert "lr" not in found["dials"]
    shop.write_text(forecart("shoppers", "--shoppers", "90", "--days", "2").stdout)
    other = forecart(*words, "--trials", "3")
    assert (other.returncode, other.stdout) == (78, "") and "holds a search of another log" in other.stderr
    assert [path.name for path in (tmp_path / "search").iterdir()] == ["trials.jsonl"]


def test_a_prepared_log_is_trained_from(tmp_path: Path):
    shop, parts = tmp_path / "shop.jsonl", str(tmp_path / "parts")
    shop.write_text(forecart("shoppers", "--shoppers", "400", "--days", "2").stdout + "{broken [/foo]\n")
    prepare = ["prepare", "--format", "events", "--data", str(shop), "--out", parts, "--each", "400"]
    done = forecart(*prepare)
    assert "1 row left out: not_json, first in line" in done.stderr
    facts = json.loads(done.stdout)
    assert facts["bad"] == {"not_json": 1}
    assert facts["partitions"] > 1
    dials = ["--set", "dimension=8", "--set", "epochs=1", "--holdout-tail", "0.5"]
    trained = forecart("train", "--data", parts, "--out", str(tmp_path / "run"), *dials)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["hr@20"] > 0
    refuses(forecart(*prepare), 78, "holds a prepared log")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["score", "--bundle", "none"], 78, "there is no bundle"),
        (["score", "--bundle", str(DEMO), "--format", "xml"], 78, "there is no format"),
        (["score", "--bundle", str(DEMO), "--data", "none"], 65, "cannot be read"),
        (["explain", "--bundle", "none"], 78, "there is no bundle"),
        (["explain", "--bundle", str(DEMO), "--format", "xml"], 78, "there is no format"),
        (["explain", "--bundle", str(DEMO)], 65, "no event was scored"),
        (["attribute", "none", "--format", "events", "--data", "none"], 66, "is missing"),
        (["worker"], 78, "no bundle is given"),
        (["worker", "--set", "colour=red"], 78, "there is no setting 'colour'"),
        (["worker", "--set", "colour"], 78, "--set name=value"),
        (["worker", "--config", "none.toml"], 78, "cannot be read"),
        (["train", "--format", "events", "--data", "none"], 65, "cannot be read"),
        (["train", "--format", "events", "--data", "none", "--set", "depth=3"], 78, "depth"),
        (["train", "--format", "events", "--data", "none", "--horizon", "soon"], 78, "24h"),
        (["train", "--format", "events", "--data", "none", "--device", "cuda"], 78, "CUDA"),
        (["train", "--format", "events", "--data", "none", "--set", "dropout=2"], 78, "dropout is 2"),
        (["intent", "--format", "events", "--data", "none", "--preset", "huge"], 78, "no preset 'huge'"),
        (["train", "--format", "events", "--data", "none", "--set", "lr=-1"], 78, "lr is -1"),
        (["train", "--format", "events", "--data", "none", "--set", "lr"], 78, "--set name=value"),
        (["train", "--format", "events", "--data", "none", "--set", "lr=fast"], 78, "lr: expected `float`"),
        (["train", "--format", "events", "--data", "none", "--set", "epochs=three"], 78, "epochs=VALUE, such as 3"),
        (["catalog", "load", "none", "--topic", "c"], 65, "check the path"),
        (["train", "--format", "events", "--data", "none", "--set", "order=best"], 78, "there is no order 'best'"),
        (["train", "--data", "none", "--seed", "1", "--set", "seed=2"], 78, "seed is given twice"),
        (["train", "--format", "xml", "--data", "none"], 78, "there is no format"),
        (["train", "--format", "taobao", "--data", "none", "--set", "epoch=1"], 78, "there is no setting 'epoch'"),
        (["train", "--format", "taobao", "--data", "none", "--preset", "huge"], 78, "there is no preset 'huge'"),
        (["evaluate", "none", "--format", "events", "--data", "none", "--device", "cuda"], 78, "CUDA"),
        (["evaluate", "none", "--format", "events", "--data", "none"], 66, "is missing"),
        (["report", "none", "--format", "events", "--data", "none"], 66, "is missing"),
        (["report", "x", "--format", "events", "--data", "x", "--out", "none/r.html"], 78, "there is no folder none"),
        (["export", "none", "bundle"], 66, "is missing"),
        (["train", "--data", "none"], 78, "no format is given"),
        (["prepare", "--format", "xml", "--data", "none", "--out", "none"], 78, "there is no format"),
        (["prepare", "--data", "none", "--out", "/dev/null/none"], 78, "cannot write /dev/null/none: Not a directory"),
        (["train", "--format", "events", "--data", "none", "--out", __file__], 78, "cannot write"),
        (["train", "--format", "events", "--data", "none", "--out", f"{__file__}/x"], 78, "cannot write"),
        (["train", "--format", "events", "--data", "none", "--out", "/proc/x"], 78, "cannot write /proc/x"),
        (["search", "--format", "events", "--data", "none", "--out", __file__], 78, "cannot write"),
        (["report", "none", "--format", "events", "--data", "none", "--out", "/proc/r.html"], 78, "cannot write /proc"),
        (["broker", "--port", "0", "--data-dir", __file__], 78, f"cannot read or write {__file__}: File exists"),
        (["shoppers", "--begin", "soon"], 78, "2026-01-01"),
        (["map", "--data", "-"], 78, "give a file"),
        (["train", "--format", "csv", "--data", "none"], 78, "forecart map --data FILE"),
    ],
)  # fmt: skip
def test_a_wrong_word_gets_a_message_and_a_remedy(words: list[str], code: int, message: str, tmp_path: Path):
    refuses(forecart(*words), code, message)


def test_a_path_that_fails_on_the_way_is_named(capsys: pytest.CaptureFixture[str]):
    assert guarded(lambda: Path(__file__, "bundle").mkdir()) == 78
    told = capsys.readouterr().err
    assert told.startswith(f"forecart: cannot read or write {__file__}/bundle: Not a directory\n  check the path")


def test_what_fails_without_a_path_is_no_message():
    def fail() -> None:
        raise OSError(9, "Bad file descriptor")

    with pytest.raises(OSError, match="Bad file descriptor"):
        guarded(fail)


def test_the_settings_page_is_up_to_date():
    """Fail where docs/settings.md lacks a setting: write `forecart settings --markdown` into it."""
    page = Path(__file__).parents[1] / "docs/settings.md"
    assert page.read_text().endswith(forecart("settings", "--markdown").stdout)


def test_settings_are_shown_as_they_are():
    shown = json.loads(forecart("settings", "--json", env={"FORECART_GROUP": "shop"}).stdout)
    assert shown["group"] == "shop"
    assert shown["metrics_host"] == "127.0.0.1"


def test_an_unknown_setting_in_the_environment(tmp_path: Path):
    done = forecart("worker", "--bundle", str(DEMO), env={"FORECART_BROKERS": "x"})
    refuses(done, 78, "FORECART_BROKERS", "bootstrap_servers")


@pytest.mark.parametrize(
    "words",
    [
        ["worker", "--bundle", str(DEMO)],
        ["topics", "plan"],
        ["capture", "--topic", "scores", "--out", "-"],
        ["score", "--bundle", str(DEMO)],
        ["settings"],
    ],
)
def test_an_impossible_value_in_the_environment(words: list[str]):
    refuses(forecart(*words, env={"FORECART_METRICS_PORT": "abc"}), 78, "metrics_port", "FORECART_METRICS_PORT")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("security.protocol=BOGUS", "line 1 of"),
        ("security.protocol=SSL\nssl.ca.location=none.pem", "ssl.ca.location failed"),
        ("security.protocol=SASL_SSL\nsasl.mechanism=BOGUS", "line 2 of"),
        ("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN", "sasl.username"),
        ("sasl.passwort: hunter2", "line 1 of"),
    ],
)
@pytest.mark.parametrize("words", [["worker", "--bundle", str(DEMO)], ["topics", "plan"]])
def test_a_wrong_connection_property(words: list[str], lines: str, message: str, tmp_path: Path):
    (tmp_path / "kafka.properties").write_text(lines)
    done = forecart(*words, env={"FORECART_KAFKA_PROPERTIES": str(tmp_path / "kafka.properties")})
    refuses(done, 78, message)
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["topics", "plan"],
        ["replay", "--format", "sessions", "--data", "-"],
        ["demo"],
    ],
)
def test_an_unreachable_broker_is_told_within_half_a_minute(words: list[str]):
    began = time.monotonic()
    done = forecart(*words, "--bootstrap-servers", NOWHERE)
    waiting, _, rest = done.stderr.partition("\n")
    assert waiting.endswith(f"waiting for Kafka at {NOWHERE}")
    done.stderr = rest
    refuses(done, 69, "no Kafka broker answers", "--bootstrap-servers")
    assert time.monotonic() - began < 30


def test_faust_finds_the_app_and_importing_builds_nothing():
    code = "import stream.app; print('app' in vars(stream.app))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    faust = Path(sys.executable).with_name("faust")
    env = {k: v for k, v in os.environ.items() if not k.startswith("FORECART_")} | {"FORECART_START": "middle"}
    done = subprocess.run([faust, "-A", "stream.app", "worker"], capture_output=True, text=True, env=env)
    assert done.returncode == 78
    assert "start" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_load_is_planned_for_people_and_for_machines():
    words = ["capacity", "--events-per-second", "100000", "--users", "50000000"]
    found = json.loads(forecart(*words, "--json").stdout)
    assert found["partitions"] >= found["workers"] == max(found["by"].values())
    assert found["first"] in {*found["by"], "one worker", "brokers", "partitions"}
    shown = forecart(*words).stdout
    assert "100,000 events/s of 50,000,000 users" in shown
    assert f"{found['partitions']:,}" in shown
    assert json.loads(forecart(*words, "--json", "--recommend").stdout)["workers"] >= found["workers"]
