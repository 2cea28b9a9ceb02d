"""What a person sees of a training: a bar with the time left, a line an epoch, a table beside the baselines."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from models.cli import progress
from models.cli.progress import compared, watched
from models.data.log import cutoff
from models.evaluation.validation import Holdout
from models.training.epochs import Progress, rehearsal, train
from tests.models.conftest import small_run


def _listen(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> io.StringIO:
    heard = io.StringIO()
    console = Console(file=heard, width=120, markup=False, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(progress, "console", console)
    return heard


@pytest.fixture
def held(log):
    sequences, run = small_run(log, judged=0.1)
    return sequences, run, Holdout.over(log, run, cutoff(log, 0.3), int(log.time.max()))


def test_a_training_says_one_line_an_epoch_where_there_is_no_terminal(held, tmp_path, monkeypatch):
    sequences, run, holdout = held
    heard = _listen(monkeypatch, terminal=False)
    with watched(run, rehearsal(run.config, sequences.events)) as watch:
        train(sequences, run, tmp_path, watch, holdout)
    lines = heard.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        *("training, epoch 1 of 2", "training, epoch 2 of 2"),
        *(f"second training, epoch {n + 1} of {run.metrics['epoch']}" for n in range(run.metrics["epoch"])),
    ]
    assert all(re.search(r"loss \d+\.\d+,.* so far, about \d:\d\d:\d\d left", line) for line in lines)
    assert all("hit rate@20" in line and "=" not in line for line in lines[:2])


def test_a_terminal_has_a_bar_with_the_time_left(held, monkeypatch):
    _, run, _ = held
    heard = _listen(monkeypatch, terminal=True)
    first = Progress("training", 1, 20, 1, 2, 3.0, 100, 50.0)
    with watched(run, 0.5) as watch:
        for step in range(1, 16):
            watch(replace(first, step=step))
    text = heard.getvalue()
    assert "training, epoch 1 of 2" in text and "━" in text and "loss 3.000" in text
    assert "50%" in text  # 15 of 20 steps, and 10 of a rehearsal
    assert re.search(r"\d:\d\d:\d\d left", text)


def test_the_bar_goes_on_in_the_rehearsal_and_ends_with_it(held, monkeypatch):
    _, run, _ = held
    _listen(monkeypatch, terminal=True)
    with watched(run, 0.5) as watch:
        watch(Progress("training", 20, 20, 2, 2, 3.0, 100, 50.0))
        (task,) = watch.__self__.bars.tasks
        assert (task.completed, task.total) == (20, 30)
        watch(Progress("second training", 1, 8, 1, 1, 3.0, 100, 50.0))
        assert (task.completed, task.total) == (21, 28)
        watch(Progress("second training", 8, 8, 1, 1, 3.0, 100, 50.0))
        assert task.completed == task.total


def test_a_run_that_goes_on_says_where(held, monkeypatch):
    _, run, _ = held
    heard = _listen(monkeypatch, terminal=False)
    with watched(run, 0.0) as watch:
        watch(Progress("training", 11, 20, 2, 2, 3.0, 100, 50.0))
    assert heard.getvalue() == "training goes on after step 10 of 20\n"


def test_the_table_has_few_named_figures_beside_the_baselines(held, checkpoint, monkeypatch):
    sequences, run, holdout = held
    heard = _listen(monkeypatch, terminal=False)
    found = {"lstm": holdout(checkpoint.network)} | holdout.baselines(sequences)
    compared(found, run)
    text = heard.getvalue()
    assert list(found) == ["lstm", "popularity", "last-item", "own-items"]
    assert all(f"\n{name} " in text for name in found)
    head = text.splitlines()[1].split("  ")
    assert [name.strip() for name in head if name.strip()] == [
        *("hit rate@20", "MRR@20", "hit rate@20 new", "PR-AUC", "calibration error")
    ]
    assert f"{found['lstm']['targets']:,} next items" in text
    assert "too few: fewer than 50" in text  # purchases


def test_without_a_tail_there_is_a_word_instead_of_a_table(held, monkeypatch):
    heard = _listen(monkeypatch, terminal=False)
    compared({}, held[1])
    assert "--holdout-tail" in heard.getvalue()
