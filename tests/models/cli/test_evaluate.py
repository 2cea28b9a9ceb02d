"""What `evaluate` shows a person: tables that 80 columns hold, and what speaks against the figures."""

import io
from dataclasses import replace

import msgspec
import pytest
from rich.console import Console

from models.cli import evaluate
from models.cli.evaluate import _measured, _tables, _warn
from models.data.log import cutoff
from models.training.checkpoint import Checkpoint


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Listen to the console, 80 columns wide."""
    heard = io.StringIO()
    monkeypatch.setattr(evaluate, "console", Console(file=heard, width=80, markup=False))
    return heard


@pytest.mark.slow
@pytest.mark.usefixtures("few_suffice")
def test_eighty_columns_hold_names_digits_and_both_units_of_a_lead(log, checkpoint, said):
    results = _measured(checkpoint, log, "all", 0.3, True, 1, "float32")
    for title, table in _tables(results, 20, ("1h", "session")):
        assert len(title) <= 80
        evaluate.console.print(table)
    text = said.getvalue()
    assert all(name in text for name in results)
    assert "…" not in text
    hr, (low, high) = results["lstm"]["hr@20"], results["lstm"]["interval"]["hr@20"]
    assert f"{hr:.4f}" in text and f"{low:.4f} to {high:.4f}" in text
    assert f"{100 * results['STAN']['lead']['hr@20'].value:+.1f}" in text
    assert f"{100 * results['logistic']['lead']['pr_auc'].value:+.0f} %" in text


def test_who_has_seen_what_it_is_measured_on_is_told(log, checkpoint, said):
    before = int((log.time < cutoff(log, 0.3)).sum())
    figures = {"unscored": 0, "targets": 100, "targets_known": 90, "horizons": {"1h": {"labelled": 1}}}

    def warned(trained: int, tail: float = 0.3, timed: bool = True, **more: object) -> str:
        run = msgspec.structs.replace(checkpoint.run, data={"events": len(log), "trained": trained})
        point = Checkpoint(checkpoint.network, run, {})
        said.truncate(said.seek(0))
        _warn(point, replace(log, timed=timed), tail, figures | more)
        return said.getvalue()

    assert warned(before) == ""
    assert f"was trained on {len(log) - before:,}" in warned(len(log))
    assert f"was trained on {before:,} of the {len(log):,}" in warned(before, tail=0.0)
    assert "is this the shop" in warned(before, targets_known=4)
    assert "Events: 3 got no score" in warned(before, unscored=3)
    unlabelled = {"1h": {"labelled": 0}}
    assert "longer --tail" in warned(before, horizons=unlabelled)
    assert "no times" in warned(before, timed=False, horizons=unlabelled).replace("\n", " ")
