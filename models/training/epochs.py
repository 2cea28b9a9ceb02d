"""The training loop: whole sequences, both heads at once, resumable after a kill."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.data.cooccurrence import NEAR, beside, count
from models.data.sequences import Source
from models.network.embedding_init import factors
from models.network.lstm import Network
from models.network.popularity import LAST_ITEM, Baseline
from models.training import allocator
from models.training.calibration import calibrate
from models.training.checkpoint import HISTORIES, WEIGHTS, Checkpoint, Run, finish, load, load_tensors, save_tensors
from models.training.config import PAIRS, RANDOM, TrainConfig
from models.training.distributed import Ranks, join
from models.training.interrupts import held_back
from models.training.objective import Candidates
from models.training.reranker_fit import examples, fit
from models.training.temporal_holdout import rehearse
from models.training.threads import threads
from models.training.trainer import Metrics, Trainer

Ints = NDArray[np.int64]
_SAMPLE = (16, 32)  # training sequences, and their events, kept for the parity check
_FEWEST = 200  # next items for the reranker to learn from; with fewer it stays silent
_ENOUGH = 2_000_000  # events for the temporal holdout, which stand in memory as a whole


@dataclass(slots=True)
class Progress:
    """What a watcher of the loop hears; events and their rate count from the stage's start in this process."""

    stage: str
    step: int
    steps: int
    epoch: int  # from 1
    epochs: int
    loss: float  # mean of the epoch so far
    events: int
    events_per_second: float
    ended: Metrics | None = None  # what the epoch gave, once it is measured


def train(
    source: Source,
    run: Run,
    folder: Path,
    watch: Callable[[Progress], None] = lambda _: None,
    validate: Callable[[Network], Metrics] | None = None,
    conclude: Callable[[Checkpoint], None] = lambda _: None,
) -> Checkpoint:
    """Train, or go on where the run in `folder` was interrupted; the reranker learns at the end.

    `validate` returns metrics, and with enough examples the key `selection`: the epoch where it is highest is kept,
    without it the last one. A run that resumes ends with the weights that it would have had without the interruption.
    `conclude` can complete the run before it is marked finished. Of several ranks the first alone writes, validates,
    trains the reranker and is watched.
    """
    config = run.config
    allocator.spare()
    with threads(config, source.events):
        trainer, candidates = _start(run, folder, source, join(config.device))
        _learn(trainer, candidates, source, watch, config.epochs, validate)
        if trainer.ranks.first:
            done = _finished(trainer, source, watch, validate, conclude)
    trainer.ranks.leave()
    return done if trainer.ranks.first else load(folder, config.device)


def _learn(
    trainer: Trainer,
    candidates: Candidates,
    source: Source,
    watch: Callable[[Progress], None],
    epochs: int,
    validate: Callable[[Network], Metrics] | None = None,
    stage: str = "training",
) -> None:
    """Take what is left of the steps of a run's first `epochs`."""
    run, config, first = trainer.run, trainer.run.config, trainer.ranks.first
    budget = config.budget(source.events)
    category_of = torch.tensor([0, *run.category_of], device=config.device)
    began = saved = time.monotonic()
    seen, steps = 0, epochs * trainer.an_epoch
    while trainer.done < steps:
        epoch, place = divmod(trainer.done, trainer.an_epoch)
        with held_back(trainer.ranks.size == 1) as stopped:
            for batch in source.batches(budget, np.random.default_rng((config.seed, epoch)), place):
                trainer.update(batch, candidates, category_of)
                seen += batch.events
                now = time.monotonic()
                rate = seen / (now - began)
                here = Progress(stage, trainer.done, steps, epoch + 1, epochs, trainer.loss, seen, rate)
                if first:
                    watch(here)
                # After an epoch's last step only its end saves: a run resumed between them would skip that end.
                due = stopped() or now - saved > config.state_every
                if first and due and trainer.done % trainer.an_epoch:
                    trainer.save()
                    saved = now
                    if stopped():
                        raise KeyboardInterrupt
        if first:
            trainer.end_epoch(validate)
            watch(replace(here, ended=trainer.epochs[-1]))
        if stopped():
            raise KeyboardInterrupt
        saved = time.monotonic()


def _start(run: Run, folder: Path, source: Source, ranks: Ranks) -> tuple[Trainer, Candidates]:
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer.begin(run, folder, ranks)
    if run.config.order == RANDOM:
        source.shuffle(run.config.seed)
    seen = _count(trainer, source) if run.config.item_weight else np.zeros(len(run.items) + 1, np.int64)
    trainer.an_epoch = source.count(run.config.budget(source.events))
    if decay := run.config.averaging:
        averaging = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        trainer.average = AveragedModel(trainer.network, multi_avg_fn=averaging)
    trainer.resume()
    ranks.agree((trainer.done, trainer.an_epoch, run.identity()), "data, settings or the run they take up")
    return trainer, Candidates(seen, run.config)


def _count(trainer: Trainer, source: Source) -> Ints:
    """Fill the tables that are counted, and let item vectors start from them; return how often items occur."""
    network, config = trainer.network, trainer.run.config
    tally = count(source, len(network.popularity) - 1)
    tables = tally.tables()
    network.mixture.know(tables)
    network.popularity.copy_(torch.from_numpy(tally.popularity()))
    if config.start == PAIRS:
        directions = torch.from_numpy(factors(tables[NEAR.name], config.dimension, config.seed)).to(config.device)
        trainer.ranks.follow(directions)
        network.begin_from(directions)
    source.learn(beside, tally.apart())
    seen: Ints = tally.seen[0]
    return seen


def _finished(
    trainer: Trainer,
    source: Source,
    watch: Callable[[Progress], None],
    validate: Callable[[Network], Metrics] | None,
    conclude: Callable[[Checkpoint], None],
) -> Checkpoint:
    """Load the best epoch's weights, and let judge and calibration learn."""
    run, network, folder = trainer.run, trainer.network, trainer.folder
    run.epochs = trainer.epochs
    run.metrics = max(trainer.epochs, key=lambda e: e.get("selection", e["epoch"]))
    network.load_state_dict(load_tensors(folder / WEIGHTS)[0])
    network.eval()
    trainer.release()
    if run.config.judged:
        _rehearse(trainer, source, watch)
        save_tensors(folder / WEIGHTS, network.state_dict())
    conclude(Checkpoint(network, run, {}))
    if validate and (run.config.judged or run.novelty):  # else the epoch's figures stand
        run.metrics = run.metrics | validate(network)
    return _concluded(folder, network, run, source)


def rehearsal(config: TrainConfig, events: int) -> float:
    """Return how many steps the temporal holdout takes at most, as a share of the training's."""
    return min(_ENOUGH / events, 1.0) * (1 - config.judged) if config.judged else 0.0


def _rehearse(trainer: Trainer, source: Source, watch: Callable[[Progress], None]) -> None:
    """Let judge and calibration learn from the log's latest part, behind a network trained alike on what is before."""
    run, folder, seed = trainer.run, trainer.folder / "rehearsal", trainer.run.config.seed
    narrow, first, later = rehearse(source.sampled(_ENOUGH, seed), run, run.config.judged)
    asked = int((later.target > 0).sum())
    if not first.events or max(asked, later.known.sum()) < _FEWEST:
        return
    before, candidates = _start(narrow, folder, first, Ranks())
    _learn(before, candidates, first, watch, run.metrics["epoch"], stage="second training")
    before.release()
    seen = before.best.eval()
    run.calibration = calibrate(seen, later, run.meaning.horizons, seed)
    if asked >= _FEWEST and run.config.item_weight:
        torch.manual_seed(seed)
        gain = fit(trainer.network.judge, *examples(seen, later, narrow), seed)
        run.data["judge"] = {"instances": asked, "gain": gain}
    shutil.rmtree(folder)


def count_baseline(
    source: Source, run: Run, folder: Path, validate: Callable[[Baseline], Metrics] | None = None
) -> Checkpoint:
    """Count the run's baseline, and measure it if asked."""
    folder.mkdir(parents=True, exist_ok=True)
    network = run.baseline()
    network.learn(source, followed=run.config.model == LAST_ITEM)
    save_tensors(folder / WEIGHTS, network.state_dict())
    run.metrics = validate(network) if validate else {}
    return _concluded(folder, network, run, source)


def _concluded(folder: Path, network: Network | Baseline, run: Run, source: Source) -> Checkpoint:
    histories = {name: torch.from_numpy(values) for name, values in source.sample(*_SAMPLE).items()}
    save_tensors(folder / HISTORIES, histories)
    finish(folder, run)
    return Checkpoint(network.eval(), run, histories)
