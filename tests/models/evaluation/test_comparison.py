"""Contenders side by side: who they are, and how sure their distance is."""

import numpy as np
import pytest

from models.baselines.tabular_models import TABULAR
from models.data.log import cutoff
from models.data.sequences import Sequences
from models.evaluation.comparison import compare, model, rivals, tabular_rivals
from models.evaluation.metrics import pr_auc
from models.evaluation.prequential import Examples, evaluate
from models.report.svg import LOOKS
from models.training.checkpoint import Checkpoint
from stream.core.manifest import STATES
from tests.models.conftest import MEANING, small_run


def _examples(rank: list[int], user: list[int]) -> Examples:
    none = np.zeros(0)
    rows = np.arange(len(rank))
    return Examples(
        rank=np.array(rank), rank_user=np.array(user), known_item=np.ones(len(rank), bool),
        joined=np.zeros(len(rank), bool), fresh=np.ones(len(rank), bool),
        probability=none, label=none, label_user=none, rows=none, intent=none, labels=none, known=none,
        events=len(rank), users=len(user), rank_row=rows, label_row=none,
    )  # fmt: skip


def test_intervals_hold_the_figure_and_leads_are_paired():
    user = np.repeat(np.arange(40), 3)
    random = np.random.default_rng(0)
    worse = np.where(random.random(120) < 0.3, random.integers(2, 21, 120), 0)
    better = np.where(worse > 0, worse - 1, 0)  # one rank better wherever there is a hit
    found = compare({"it": _examples(better, user), "other": _examples(worse, user)}, "it", 20)
    assert "lead" not in found["it"]
    low, high = found["it"]["interval"]["hr@20"]
    assert low < (better > 0).mean() < high
    hits, ranks = found["other"]["lead"]["hr@20"], found["other"]["lead"]["mrr@20"]
    assert hits == (0, 0, 0)  # the same hits in each round, however few shoppers are drawn
    gain = np.where(worse > 0, 1 / np.maximum(better, 1) - 1 / np.maximum(worse, 1), 0).mean()
    assert ranks.value == pytest.approx(gain)
    assert 0 < ranks.low < gain < ranks.high


def test_without_targets_there_are_no_intervals():
    empty = _examples([], [])
    assert compare({"a": empty, "b": empty}, "a", 20)["b"] == {"interval": {}, "lead": {}}


def test_a_model_is_compared_with_all_others(log, checkpoint):
    _, run = small_run(log, model="last-item")
    since, end = cutoff(log, 0.3), int(log.time.max())
    before = Sequences(log.where(log.time < since), run.vocabulary, MEANING, since, 64)
    own = Checkpoint(run.baseline(), run, {})
    own.network.learn(before, followed=True)
    beside = ["own-items", "category-popularity", "V-SkNN", "STAN"]
    assert list(rivals(checkpoint.run, before)) == ["popularity", "last-item", *beside]
    assert 1 + len(rivals(checkpoint.run, before)) + len(TABULAR) <= LOOKS  # each has a look of its own in the report
    entered = {"last-item": model(own)} | rivals(run, before)
    assert list(entered) == ["last-item", "popularity", *beside]
    whole = Sequences(log, run.vocabulary, MEANING, end, 64)
    found = {name: evaluate(log, whole, *contender, since, end) for name, contender in entered.items()}
    hits = {name: (examples.rank > 0).mean() for name, examples in found.items()}
    assert min(hits["STAN"], hits["V-SkNN"], hits["last-item"]) > hits["popularity"]
    users = [examples.rank_user for examples in found.values()]
    assert all(np.array_equal(users[0], other) for other in users)


def test_a_model_is_measured_with_states_as_they_are_served(log, checkpoint):
    since, end = cutoff(log, 0.3), int(log.time.max())
    whole = Sequences(log, checkpoint.run.vocabulary, MEANING, end, 64)
    assert model(checkpoint).manifest.state_dtype == STATES[0] == "float16"
    served, exact = (evaluate(log, whole, *model(checkpoint, state), since, end) for state in STATES)
    assert (served.intent != exact.intent).any()
    assert served.intent == pytest.approx(exact.intent, abs=0.01)
    assert abs((served.rank > 0).mean() - (exact.rank > 0).mean()) < 0.01


@pytest.mark.usefixtures("few_suffice")
def test_purchases_are_also_told_from_hand_made_features_learned_before_the_tail(log, checkpoint):
    run, since, end = checkpoint.run, cutoff(log, 0.3), int(log.time.max())
    whole = Sequences(log, run.vocabulary, MEANING, end, 64)
    own = evaluate(log, whole, *model(checkpoint), since, end)
    found = tabular_rivals(run, log, since, own)
    assert list(found) == ["lightgbm", "logistic"]
    for examples in found.values():
        assert not len(examples.rank)
        assert examples.intent.shape == own.intent.shape
        assert pr_auc(examples.label, examples.probability) > 1.2 * own.label.mean()
    leads = compare({"lstm": own, **found}, "lstm", 20)
    ahead = leads["logistic"]["lead"]["pr_auc"]
    assert list(leads["logistic"]["lead"]) == ["pr_auc"]
    values = [pr_auc(own.label, one.probability) for one in (own, found["logistic"])]
    assert ahead.value == pytest.approx(values[0] / values[1] - 1)
    assert ahead.low < ahead.value < ahead.high


def test_what_comes_after_changes_no_prediction_of_theirs(log, checkpoint):
    run, since, end = checkpoint.run, cutoff(log, 0.3), int(log.time.max())
    seen = log.where(log.time < end - (end - since) // 2)
    predicted = []
    for part in (log, seen):
        whole = Sequences(part, run.vocabulary, MEANING, end, 64)
        own = evaluate(part, whole, *model(checkpoint), since, end)
        rows = dict(zip(zip(part.user[own.rows], part.time[own.rows], strict=True), range(len(own.rows)), strict=True))
        predicted.append((rows, tabular_rivals(run, part, since, own)["lightgbm"].intent))
    (whole_rows, whole_p), (rows, p) = predicted
    assert len(rows) > 100
    both = [(whole_rows[at], n) for at, n in rows.items()]
    assert np.allclose(whole_p[[w for w, _ in both]], p[[n for _, n in both]])


def test_without_purchases_before_the_tail_nobody_learns_of_them(log, checkpoint):
    run, since, end = checkpoint.run, cutoff(log, 0.3), int(log.time.max())
    buys = log.type == log.types.index(MEANING.purchase)
    part = log.where(~buys | (log.time >= since))
    own = evaluate(part, Sequences(part, run.vocabulary, MEANING, end, 64), *model(checkpoint), since, end)
    assert own.label.any()
    assert tabular_rivals(run, part, since, own) == {}
