"""Figures of too few examples: none, wherever people or programs read them, and why."""

import io
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from rich.console import Console

from models.cli import intent
from models.cli import train as cli
from models.cli.evaluate import _measured, _tables
from models.data.log import cutoff
from models.data.sequences import Sequences
from models.enough import FEWEST, RULE, SHOPPERS, TOO_FEW, enough
from models.evaluation.comparison import model
from models.evaluation.cross_validation import Pooled
from models.evaluation.metrics import INTENT
from models.evaluation.prequential import evaluate, summary
from models.evaluation.validation import Holdout
from models.report.build import gather
from models.report.findings import findings
from models.report.html import render
from models.training.config import TrainConfig
from models.training.epochs import train
from tests.models.conftest import MEANING, small_run

RANKING = ("hr@20", "mrr@20", "ndcg@20")


def test_the_rule_is_the_stated_one():
    assert enough(FEWEST, SHOPPERS)
    assert not enough(FEWEST - 1, SHOPPERS) and not enough(FEWEST, SHOPPERS - 1)
    assert str(FEWEST) in RULE and str(SHOPPERS) in RULE


@pytest.fixture
def measured(log, checkpoint):
    """Measure the last two in a hundred: some 40 next items, and no purchase."""
    since, end = cutoff(log, 0.02), int(log.time.max())
    found = evaluate(log, Sequences(log, checkpoint.run.vocabulary, MEANING, end, 64), *model(checkpoint), since, end)
    assert 0 < len(found.rank) < FEWEST
    return found


def test_too_few_give_null_and_their_count(measured):
    found = summary(measured, 20, MEANING.horizons)
    assert [found[name] for name in (*RANKING, "hr@20_known", "mrr@20_new", "hr@20_joined", *INTENT)] == [None] * 11
    assert 0 < found["targets_known"] <= found["targets"] < FEWEST
    assert found["horizons"]["session"]["pr_auc"] is None


def test_enough_of_all_can_be_too_few_of_a_part(log, checkpoint):
    since, end = cutoff(log, 0.1), int(log.time.max())
    whole = Sequences(log, checkpoint.run.vocabulary, MEANING, end, 64)
    examples = evaluate(log, whole, *model(checkpoint), since, end)
    examples = replace(examples, fresh=np.arange(len(examples.rank)) < FEWEST - 1)
    found = summary(examples, 20, MEANING.horizons)
    assert found["hr@20"] is not None and found["hr@20_known"] is not None
    assert (found["hr@20_new"], found["targets_new"]) == (None, FEWEST - 1)


def test_many_events_of_one_shopper_are_too_few(log, checkpoint):
    since, end = cutoff(log, 0.3), int(log.time.max())
    whole = Sequences(log, checkpoint.run.vocabulary, MEANING, end, 64)
    examples = evaluate(log, whole, *model(checkpoint), since, end)
    assert summary(examples, 20, MEANING.horizons)["hr@20"] is not None
    assert summary(replace(examples, users=1), 20, MEANING.horizons)["hr@20"] is None


def test_the_tables_of_evaluate_say_too_few(log, checkpoint, monkeypatch):
    heard = io.StringIO()
    console = Console(file=heard, width=80, markup=False)
    results = _measured(checkpoint, log, "all", 0.02, True, 1, "float32")
    for _, table in _tables(results, 20, ("1h", "session")):
        console.print(table)
    text = heard.getvalue()
    assert text.count(TOO_FEW) >= 2 * len(RANKING) * 2 + len(INTENT)
    assert "0." not in text and "lightgbm" in text
    assert results["STAN"]["lead"] == {} and results["lstm"]["interval"] == {}


def test_the_report_says_too_few(log, checkpoint, measured):
    found = gather({"tiny": measured}, {"tiny": checkpoint.run}, log, cutoff(log, 0.02), rounds=20)
    assert found.first.figures == {} and found.first.curves == {}
    page = render(found, "shop", datetime(2026, 1, 2, tzinfo=UTC))
    assert page.count(f"<b>{TOO_FEW}</b>") == len(found.metrics)
    assert "Too few to draw" in page and RULE in page
    said = [finding.text for finding in findings(found)]
    assert any(text.startswith("Next item:") and "too few" in text for text in said)


def test_a_part_of_the_report_with_too_few_has_no_figure(log, checkpoint):
    since, end = cutoff(log, 0.3), int(log.time.max())
    whole = Sequences(log, checkpoint.run.vocabulary, MEANING, end, 64)
    examples = evaluate(log, whole, *model(checkpoint), since, end)
    found = gather({"tiny": examples}, {"tiny": checkpoint.run}, log, since, rounds=20)
    few = 0
    for name, cut in found.slices.items():
        assert (np.isnan(found.first.curves[name].y) == (cut.count < FEWEST)).all()
        few += ((cut.count > 0) & (cut.count < FEWEST)).sum()
    assert few
    assert f"<td>{TOO_FEW}</td>" in render(found, "shop", datetime(2026, 1, 2, tzinfo=UTC))


def test_contenders_for_purchases_are_not_compared_on_too_few():
    n = 200
    label = np.zeros((n, 1), bool)
    label[: FEWEST - 1] = True
    p = np.linspace(0, 1, n)[:, None]
    pooled = Pooled(np.arange(n), np.arange(n), label, np.ones((n, 1), bool), {"lstm": p, "base rate": p / 2})
    found = intent.compared(pooled, 0, 20, 0)
    assert found["positives"] == FEWEST - 1
    assert found["contenders"]["lstm"] == dict.fromkeys(INTENT)
    heard = io.StringIO()
    Console(file=heard, width=80).print(intent._table("1h", found))
    assert heard.getvalue().count(TOO_FEW) == 2 * len(INTENT) + 1


def test_an_epoch_is_not_chosen_by_too_few(log, tmp_path):
    sequences, run = small_run(log, judged=0.0)
    validate = Holdout.over(log, run, cutoff(log, 0.02), int(log.time.max()))
    done = train(sequences, run, tmp_path, validate=validate)
    assert done.run.metrics["epoch"] == 2
    assert "selection" not in done.run.metrics


@pytest.mark.parametrize(("users", "warned"), [(1, True), (SHOPPERS, False)])
def test_a_model_of_few_shoppers_is_told(log, monkeypatch, users: int, warned: bool):
    heard = io.StringIO()
    monkeypatch.setattr(cli, "console", Console(file=heard, width=120))
    cli.prepared(log.where(log.user < users), TrainConfig(), MEANING, {}, 0.0)
    assert ("trained on 1 shopper: a model of so few" in heard.getvalue()) == warned
