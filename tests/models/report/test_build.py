"""The report's numbers: those of the evaluation, and what must hold between them."""

import numpy as np
import pytest

from models.evaluation.metrics import INTENT
from models.evaluation.prequential import Examples
from models.report.build import gather


def _examples(rank, label, p):
    n, m = len(rank), len(label)
    rows = np.arange(n)
    return Examples(
        rank=np.array(rank, np.int64), rank_user=rows // 2, known_item=np.ones(n, bool),
        joined=np.zeros(n, bool), fresh=np.ones(n, bool),
        probability=np.array(p, np.float64), label=np.array(label, bool), label_user=np.arange(m) // 2,
        rows=np.arange(m), intent=np.array(p, np.float64)[:, None], labels=np.array(label, bool)[:, None],
        known=np.ones((m, 1), bool), events=n, users=n // 2 + 1, rank_row=rows, label_row=np.arange(m),
    )  # fmt: skip


def test_figures_are_the_metrics_and_lie_in_their_intervals(report):
    own = report.contenders["tiny"].figures
    assert set(own) == {"hr@20", "mrr@20", "ndcg@20", *INTENT}
    for name in ("hr@20", "mrr@20", "pr_auc", "roc_auc", "brier"):
        assert own[name].low < own[name].value < own[name].high


def test_curves_end_where_the_figures_are(report):
    for measured in report.contenders.values():
        rank = measured.curves["rank"]
        assert (np.diff(rank.y) >= 0).all()
        assert (rank.y[-1], rank.low[-1], rank.high[-1]) == pytest.approx(tuple(measured.figures["hr@20"]))
        for name, cut in report.slices.items():
            curve = measured.curves[name]
            total = np.nansum(curve.y * cut.count) / cut.count.sum()
            assert total == pytest.approx(measured.figures["hr@20"].value)
            assert (np.isnan(curve.y) == (cut.count == 0)).all()


def test_purchase_curves_hold_together(report):
    curves = report.contenders["tiny"].curves
    gain, lift, precision, reliable = (curves[name] for name in ("gain", "lift", "precision", "reliability"))
    assert gain.y[-1] == gain.x[-1] == 1
    assert (np.diff(gain.y) >= 0).all() and (np.diff(gain.x) > 0).all()
    assert lift.y == pytest.approx(gain.y / gain.x)
    assert precision.y == pytest.approx(lift.y * report.rate)
    assert precision.x == pytest.approx(gain.y)
    assert reliable.y.mean() == pytest.approx(report.rate, abs=0.01)
    assert len(reliable.x) == 10 and (np.diff(reliable.x) > 0).all()


def test_a_contender_that_tells_nobody_apart_has_no_purchase_curves(report):
    popular = report.contenders["popularity"]
    assert "precision" not in popular.curves
    assert popular.figures["pr_auc"].value == pytest.approx(report.rate)


def test_the_first_is_compared_with_the_others_in_the_same_rounds(report):
    better = report.contenders["popularity"].better
    figures = [m.figures["hr@20"].value for m in report.contenders.values()]
    assert better["hr@20"].value == pytest.approx(figures[0] - figures[1])
    assert report.first.better == {}


@pytest.mark.usefixtures("few_suffice")
def test_without_purchases_or_next_items_there_are_no_figures_of_them(log, report):
    nothing = _examples([], [], [])
    found = gather({"tiny": nothing}, report.runs, log, int(log.time.max()), rounds=20)
    assert found.first.figures == {} and found.first.curves == {}
    quiet = _examples([1, 0, 3], [False] * 5, [0.1, 0.2, 0.3, 0.4, 0.5])
    figures = gather({"tiny": quiet}, report.runs, log, int(np.median(log.time)), rounds=20).first.figures
    assert set(figures) == {"hr@20", "mrr@20", "ndcg@20"}
    assert figures["hr@20"].value == pytest.approx(2 / 3)
