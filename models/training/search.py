"""Dials found by trial: a bounded search that can be interrupted, and goes on where it was."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from stream.core.errors import SettingError

Dials = dict[str, float]
# Called with a trial's dials and with what hears each epoch's figure; returns the best one.
Train = Callable[[Dials, Callable[[int, float], None]], float]
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
_UNTRIED = 4  # trials before any is given up early


Pruned = optuna.TrialPruned
"""What a trial ends by that is given up early."""


class Bounds(NamedTuple):
    """Between which values a dial is searched; in `log` steps where its order of magnitude is in question.

    A dial whose bounds are whole numbers is one.
    """

    low: float
    high: float
    log: bool = False


SPACE = {
    "dimension": Bounds(32, 256, log=True),
    "negatives": Bounds(512, 16384, log=True),
    "lr": Bounds(1e-3, 1e-2, log=True),
    "dropout": Bounds(0.1, 0.5),
    "scale": Bounds(10.0, 18.0),
    "weight_decay": Bounds(1e-3, 1e-1, log=True),
    "popularity_power": Bounds(0.5, 1.0),
    "unknown_rate": Bounds(0.0, 0.2),
    "smoothing": Bounds(0.0, 0.2),
    "intent_weight": Bounds(0.1, 10.0, log=True),
    "intent_dropout": Bounds(0.0, 0.5),
    "intent_reach": Bounds(0.0, 1.0),
}


class Result(NamedTuple):
    """One trial: what it tried, how far it got, and whether it was given up early."""

    dials: Dials
    value: float
    pruned: bool


def search(
    journal: Path,
    train: Train,
    first: Dials,
    trials: int,
    identity: dict[str, Any],
    seconds: float = float("inf"),
    seed: int = 0,
    heard: Callable[[int, Result], None] = lambda _number, _result: None,
) -> list[Result]:
    """Run trials until `trials` have ended, those in the journal included, or the time is up; return them best first.

    The first trial takes the dials `first`, names of `SPACE`, the others come from a tree-structured Parzen
    estimator (Bergstra et al., 2011); one that is behind the median after an epoch is given up. A trial that was
    interrupted is run again. Raises SettingError where the journal is of another search, whose `identity` differs.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_UNTRIED)
    study = optuna.create_study(
        storage=storage, study_name="forecart", direction="maximize", load_if_exists=True, pruner=pruner
    )
    if study.user_attrs.get("identity", identity) != identity:
        raise SettingError(f"{journal.parent} holds a search of another log or with other dials", "give another --out")
    study.set_user_attr("identity", identity)
    for cut in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(cut.number, state=TrialState.FAIL)
        study.enqueue_trial(cut.params, skip_if_exists=False)
    if not study.trials:
        study.enqueue_trial(first)
    until = time.monotonic() + seconds
    while (number := len(study.get_trials(states=_ENDED))) < trials and time.monotonic() < until:
        study.sampler = optuna.samplers.TPESampler(seed=seed + number, n_startup_trials=_UNTRIED)
        heard(number + 1, _one(study, train, list(first)))
    ended = [Result(t.params, t.value or 0.0, t.state == TrialState.PRUNED) for t in study.get_trials(states=_ENDED)]
    return sorted(ended, key=lambda result: (result.pruned, -result.value))


def _one(study: optuna.Study, train: Train, names: list[str]) -> Result:
    trial = study.ask()
    dials = {name: _suggested(trial, name, SPACE[name]) for name in names}
    try:
        value = train(dials, lambda epoch, figure: _report(trial, epoch, figure))
    except Pruned:
        told = study.tell(trial, state=TrialState.PRUNED)
        return Result(dials, told.value or 0.0, pruned=True)
    study.tell(trial, value)
    return Result(dials, value, pruned=False)


def _suggested(trial: Trial, name: str, bounds: Bounds) -> float:
    if isinstance(bounds.low, int) and isinstance(bounds.high, int):
        return trial.suggest_int(name, bounds.low, bounds.high, log=bounds.log)
    return trial.suggest_float(name, bounds.low, bounds.high, log=bounds.log)


def _report(trial: Trial, epoch: int, figure: float) -> None:
    trial.report(figure, epoch)
    if trial.should_prune():
        raise Pruned
