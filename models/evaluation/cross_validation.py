"""An honest comparison of purchase intent: trained on other users' past, tested on these users' last days.

Each fold's models see neither its users nor anything from the cutoff on, but for the base rate: a single number.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.baselines.tabular_features import table
from models.data.log import Bools, Ints, Log, labels
from models.data.sequences import Sequences
from models.evaluation.prequential import evaluate
from models.evaluation.torch_step import describe, torch_step
from models.training.checkpoint import Run
from models.training.config import TrainConfig
from models.training.epochs import Progress, train
from stream.core.errors import DataError
from stream.core.hashing import fingerprints
from stream.core.manifest import STATES, TaskSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pooled:
    """What was predicted for the held-out events of all folds: `p` (n, horizons) by compared model."""

    rows: Ints  # places in the log
    user: Ints
    label: Bools  # (n, horizons), as is `known`
    known: Bools
    p: dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Split:
    """One fold: what its compared models learn from, which events they are tested on, and until when they know."""

    number: int
    log: Log
    train: Bools
    test: Bools
    since: int
    end: int


Predict = Callable[[Split], Floats]
"""From a fold to the probabilities (n, horizons) of the events that are tested."""


def splits(log: Log, folds: int, since: int) -> Iterator[Split]:
    """Deal the users out over the folds by the hash of their names."""
    fold = (fingerprints(log.users) % np.uint64(folds)).astype(np.int64)[log.user]
    for number in range(folds):
        mine, past = fold == number, log.time < since
        yield Split(number, log, ~mine & past, mine & ~past, since, int(log.time.max()))


def crossfit(
    parts: list[Split], meaning: TaskSpec, contenders: dict[str, Predict], watch: Callable[[str], None]
) -> Pooled:
    """Let each compared model predict each fold's held-out events."""
    log, end = parts[0].log, parts[0].end
    label, known = labels(log, meaning, end)
    found: dict[str, list[Floats]] = {name: [] for name in contenders}
    for part in parts:
        for name, predict in contenders.items():
            watch(f"fold {part.number + 1} of {len(parts)}: {name}")
            found[name].append(predict(part))
    each = np.concatenate([np.flatnonzero(part.test) for part in parts])
    p = {name: np.concatenate(parts) for name, parts in found.items()}
    return Pooled(each, log.user[each], label[each], known[each], p)


def check(parts: list[Split], meaning: TaskSpec) -> None:
    """Raise DataError where a fold has nobody to test or lacks labels of either kind, or where no label is tested."""
    log, since, of = parts[0].log, parts[0].since, len(parts)
    if empty := [part.number + 1 for part in parts if not part.test.any()]:
        raise DataError(f"fold {empty[0]} of {of} has no event to test", "give fewer --folds or a longer --tail")
    _, known = labels(log, meaning, parts[0].end)
    for place, horizon in enumerate(meaning.horizons):
        if not known[log.time >= since, place].any():
            remedy = "give a longer --tail or a shorter --horizon"
            raise DataError(f"no event of the tail is followed by {horizon} of log", remedy)
    for part in parts:
        label, known = labels(log.where(part.train), meaning, since)
        for place, horizon in enumerate(meaning.horizons):
            yes, no = (int((known & side)[:, place].sum()) for side in (label, ~label))
            if not yes or not no:
                fold = f"fold {part.number + 1} of {of}"
                raise DataError(
                    f"{fold} would learn from {yes:,} purchases and {no:,} others within {horizon}",
                    "give a shorter --horizon, fewer --folds, a shorter --tail or a log with more purchases",
                )


def base_rate(meaning: TaskSpec) -> Predict:
    """Predict the share of positives before the tail: one for all folds, since pooled rates would rank the folds."""

    def predict(part: Split) -> Floats:
        label, known = labels(part.log.where(part.log.time < part.since), meaning, part.since)
        rate = (label & known).sum(0) / np.maximum(known.sum(0), 1)
        return np.tile(rate, (int(part.test.sum()), 1))

    return predict


def tabular(fit: Callable[..., Any], log: Log, meaning: TaskSpec, seed: int) -> Predict:
    """Predict by a model of the features, one a horizon."""
    x = table(log, meaning)

    def predict(part: Split) -> Floats:
        seen = part.log.where(part.train)
        label, known = labels(seen, meaning, part.since)
        given, asked = x[part.train], x[part.test]
        columns = [
            fit(given[known[:, j]], label[known[:, j], j], seen.user[known[:, j]], seed)(asked)
            for j in range(len(meaning.horizons))
        ]
        return np.stack(columns, 1)

    return predict


def recurrent(config: TrainConfig, meaning: TaskSpec, watch: Callable[[Progress], None]) -> Predict:
    """Predict by the LSTM, trained for the fold and run through the path of serving."""

    def predict(part: Split) -> Floats:
        seen = part.log.where(part.train)
        run = Run.over(seen, config, meaning)
        facts, vocab = run.meaning, run.vocabulary
        with TemporaryDirectory() as folder:
            done = train(Sequences(seen, vocab, facts, part.since, config.longest), run, Path(folder), watch)
        theirs = np.isin(part.log.user, part.log.user[part.test])
        whole = part.log.where(theirs)
        size = describe(done, STATES[0], model="1")
        step = torch_step(done, recommend=False)
        sequences = Sequences(whole, vocab, facts, part.end, config.longest)
        found = evaluate(whole, sequences, size, step, step, None, part.since, part.end)
        p = np.full((len(whole), len(meaning.horizons)), np.nan)
        p[found.rows] = found.intent
        return p[part.test[theirs]]

    return predict
