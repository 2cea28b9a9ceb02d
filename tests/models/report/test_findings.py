"""The plain words: each is said when it holds, and not otherwise."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.evaluation.bootstrap import Interval
from models.report.charts import percent
from models.report.findings import GOOD, POOR, WATCH, best, findings
from stream.formats.registry import BadRow


def _said(report, topic):
    return next(((f.kind, f.text) for f in findings(report) if f.text.startswith(topic)), (None, ""))


def _with(report, name="tiny", **figures):
    old = report.contenders[name]
    new = replace(old, figures=old.figures | {n.replace("_20", "@20"): Interval(*v) for n, v in figures.items()})
    return replace(report, contenders=report.contenders | {name: new})


def _versus(report, low, high):
    old = report.contenders["popularity"]
    better = old.better | {"hr@20": Interval((low + high) / 2, low, high)}
    return replace(report, contenders=report.contenders | {"popularity": replace(old, better=better)})


@pytest.mark.parametrize(("low", "high", "kind"), [(0.1, 0.2, GOOD), (-0.2, -0.1, POOR), (-0.1, 0.3, WATCH)])
def test_better_is_what_the_interval_of_the_difference_says(report, low, high, kind):
    found, text = _said(_versus(report, low, high), "Next item")
    assert found == kind
    assert "popularity" in text


@pytest.mark.parametrize(("ece", "kind"), [(0.005, GOOD), (0.02, WATCH), (0.2, POOR)])
def test_calibration_is_judged_by_its_error(report, ece, kind):
    assert _said(_with(report, ece=(ece, ece / 2, ece * 2)), "Calibration")[0] == kind


def test_poor_comes_first(report):
    kinds = [f.kind for f in findings(_versus(report, -0.2, -0.1))]
    assert kinds == sorted(kinds, key=(POOR, WATCH, GOOD).index)
    assert kinds[0] == POOR


def test_few_purchases_and_none(report):
    few = replace(report, examples=report.examples | {"positives": 19})
    assert "mostly noise" in _said(few, "Only 19")[1]
    none = replace(report, examples=report.examples | {"positives": 0})
    assert _said(none, "Purchases: the held-out part has none")[0] == WATCH
    short = replace(report, examples=report.examples | {"positives": 0, "labelled": 0})
    assert "followed by 1h of log" in _said(short, "Purchases")[1]


def test_drift_and_rejected_rows(report):
    calm = replace(report, audit=replace(report.audit, drift={"weekday": 0.05}, rejected=[]))
    assert (_said(calm, "Drift")[0], _said(calm, "Rows")[0]) == (GOOD, GOOD)
    moved = replace(report, audit=replace(report.audit, drift={"weekday": 0.2, "hour": 0.05}))
    assert _said(moved, "Drift") == (WATCH, "Drift: no feature shifted, but weekday moved moderately.")
    lost = [(BadRow(3, "not_json", "{"), report.audit.events)]
    loud = replace(report, audit=replace(report.audit, drift={"weekday": 0.3, "hour": 0.1}, rejected=lost))
    assert _said(loud, "Drift") == (WATCH, "Drift: weekday shifted between training and the held-out part.")
    assert _said(loud, "Rows")[0] == WATCH


def test_a_run_that_saw_what_it_is_measured_on_is_told(report):
    def trained(epochs=(), **data):
        run = report.runs["tiny"]
        run = msgspec.structs.replace(run, data=data, epochs=list(epochs))
        return replace(report, runs={"tiny": run})

    events, before = report.audit.events, report.audit.before
    assert _said(trained(events=events, trained=before), "Split")[0] == GOOD
    assert _said(trained(events=events, trained=events), "Split")[0] == POOR
    assert _said(trained(events=events - 1, trained=before), "Split")[0] == WATCH
    assert _said(trained(), "Split")[0] == WATCH
    chosen = trained([{"epoch": 1, "selection": 0.1}], events=events, trained=before)
    assert "chose its epoch" in _said(chosen, "Split")[1]


def test_cold_targets_that_are_never_hit_are_poor(report):
    cut = report.slices["novelty"]
    cold = replace(cut, part=np.full(len(cut.part), 2))
    curve = replace(report.first.curves["novelty"], y=np.zeros(4))
    first = replace(report.first, curves=report.first.curves | {"novelty": curve})
    changed = replace(report, slices=report.slices | {"novelty": cold}, contenders=report.contenders | {"tiny": first})
    assert _said(changed, "Cold start")[0] == POOR


def test_the_strongest_baseline_is_no_run(report):
    assert best(report, "hr@20")[0] == "popularity"
    assert best(replace(report, runs=dict.fromkeys(report.contenders)), "hr@20") is None


def test_probabilities_worse_than_the_rate_are_said_so(report):
    assert _said(_with(report, log_loss=(5.0, 4.0, 6.0)), "Purchases: a log loss")[0] == POOR
    assert "Purchases: a log loss" not in " ".join(f.text for f in findings(_with(report, log_loss=(0.0, 0.0, 0.0))))


def test_what_is_new_to_the_shopper_is_told_apart_with_the_strongest_baseline(report):
    kind, text = _said(report, "New to the shopper")
    cut, curves = report.slices["return"], [m.curves["return"].y[1] for m in report.contenders.values()]
    assert kind == WATCH
    assert f"{percent(curves[0])} of those are hit, {percent(curves[1])} by popularity" in text
    assert percent(cut.count[1] / cut.count.sum()) in text
    met = replace(report, slices=report.slices | {"return": replace(cut, part=np.zeros_like(cut.part))})
    assert _said(met, "New to the shopper") == (None, "")
