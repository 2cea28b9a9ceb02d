"""The training loop: whole sequences, both heads at once, resumable after a kill."""

import ctypes
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.baselines import LAST_ITEM, Baseline
from models.batches import Batch, Source
from models.calibrate import calibrate
from models.checkpoint import HISTORIES, STATE, WEIGHTS, Checkpoint, Run, finish, load, load_tensors, save_tensors
from models.config import PAIRS, RANDOM, TrainConfig
from models.covisits import NEAR, beside, count
from models.factors import factors
from models.heads import ANSWERS
from models.judge import fit
from models.losses import BPR_MAX, bpr_max, smoothed
from models.network import Network
from models.parallel import Ranks, join
from models.ranking import examples
from models.rehearsal import rehearse
from models.softmax import sampled_softmax
from stream.core.errors import CheckpointError

Metrics = dict[str, Any]
Ints = NDArray[np.int64]
_SAMPLE = (16, 32)  # training sequences, and their events, kept for the parity check
_FEWEST = 200  # next items for the judge to learn from; with fewer it stays silent
_ENOUGH = 2_000_000  # events for the rehearsal, which stand in memory as a whole
_ARENA_MAX = -8  # of malloc.h
_WARM_UP = 0.2  # share of the steps in which the rate rises


@dataclass(slots=True)
class Progress:
    """What a watcher of the loop hears; events and their rate count from the stage's start in this process."""

    stage: str
    step: int
    steps: int
    loss: float
    events: int
    events_per_second: float


class Candidates:
    """Draw the items that a step's softmax runs over beside each target: all where they are few, else negatives.

    They come by popularity to a power. `log_q` is the log of an item's probability to be among them. Given is how
    often each item occurs, (items + 1,).
    """

    def __init__(self, seen: Ints, config: TrainConfig) -> None:
        items = len(seen) - 1
        weight = seen.astype(np.float64) ** config.popularity_power
        weight[0] = 0
        self.everything = torch.arange(1, items + 1, device=config.device) if items <= config.negatives else None
        self.weight = torch.from_numpy(weight / max(weight.sum(), 1.0)).to(config.device)
        self.n = config.negatives

    def draw(self, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the candidates in ascending order, each target's place among them, and the log_q.

        A target that was not drawn has another item's place.
        """
        if self.everything is not None:
            return self.everything, target - 1, torch.zeros(len(self.everything), device=target.device)
        drawn = torch.unique(torch.multinomial(self.weight, self.n, replacement=True))
        place = torch.searchsorted(drawn, target).clamp_max(len(drawn) - 1)
        return drawn, place, torch.log(-torch.expm1(-self.n * self.weight[drawn])).float()


def losses(
    network: Network, batch: Batch, candidates: Candidates, category_of: Tensor, config: TrainConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the heads' mean losses over a batch: next item, the mixture around it, purchase."""
    # Hiding an item at times trains the fallback that serving takes for an item it has never seen.
    hide = torch.rand(batch.item.shape, device=batch.item.device) < config.unknown_rate
    given = (batch.item, batch.category, batch.type, batch.numeric)
    out = network(*given, **network.state(len(batch.item)), support=batch.beside[..., ANSWERS - 1 :], hide=hide)
    asked = (batch.target > 0) & (batch.target < len(category_of))
    target = batch.target[asked]
    drawn, place, log_q = candidates.draw(target)
    listed, n = torch.cat([target, drawn]), len(target)
    vectors = network.catalog(listed, category_of[listed])
    query, own, others = out.query[asked], vectors[:n], vectors[n:]
    next_item, log_p = sampled_softmax(query, own, others, place, log_q)
    if config.loss == BPR_MAX:
        next_item = bpr_max(query, own, others, target, drawn)
    if config.smoothing:
        next_item = next_item + config.smoothing * smoothed(query, own, others)
    mixture = network.mixture.loss(out.gate[asked], log_p, batch.beside[asked])
    purchase = network.purchase.loss(out.intent, batch.label, batch.known, config.purchase_weight)
    n = max(n, 1)
    return next_item / n, mixture / n, purchase / batch.known.sum().clamp(min=1)


@dataclass(slots=True)
class Trainer:
    """A run in progress: what a kill would lose, and how to take it up again."""

    run: Run
    folder: Path
    network: Network
    optimizer: torch.optim.Optimizer
    an_epoch: int  # steps
    ranks: Ranks = field(default_factory=Ranks)
    done: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 4)  # item, mixture and intent loss, steps
    epochs: list[Metrics] = field(default_factory=list)
    average: AveragedModel | None = None

    @property
    def best(self) -> Network:
        """Return the network to be measured and kept: the average of the steps, if there is one."""
        if not self.average:
            return self.network
        found = self.average.module
        assert isinstance(found, Network)
        return found

    @classmethod
    def begin(cls, run: Run, folder: Path, ranks: Ranks) -> Self:
        """Set out with new weights and an epoch of no steps."""
        config = run.config
        torch.manual_seed(config.seed)
        network = run.network().to(config.device)
        weights = network.parameters()
        optimizer = torch.optim.AdamW(weights, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        return cls(run, folder, network, optimizer, 0, ranks)

    @property
    def steps(self) -> int:
        """Return the steps of the whole run."""
        return self.run.config.epochs * self.an_epoch

    def save(self) -> None:
        """Write the state of now."""
        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer/{index}/{name}": value for name, value in state.items()})
        if self.average:
            tensors.update({f"average/{name}": value for name, value in self.average.state_dict().items()})
        tensors["rng"] = torch.get_rng_state()
        if self.run.config.device.startswith("cuda"):
            tensors["rng/cuda"] = torch.cuda.get_rng_state(self.run.config.device)
        facts = {"done": self.done, "sums": self.sums, "epochs": self.epochs}
        save_tensors(self.folder / STATE, tensors, facts | self.run.identity())

    def resume(self) -> None:
        """Take up the interrupted run in the folder, if there is one; raise CheckpointError if it is another."""
        if not (self.folder / STATE).exists():
            return
        tensors, facts = load_tensors(self.folder / STATE)
        if other := [name for name, mine in self.run.identity().items() if facts.get(name) != mine]:
            raise CheckpointError(
                f"{self.folder} holds an interrupted run with other settings or data: {', '.join(other)}",
                "give another --out, or delete the folder",
            )
        self.network.load_state_dict(
            {k.removeprefix("network/"): v for k, v in tensors.items() if k.startswith("network/")}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        if self.average:
            found = {k.removeprefix("average/"): v for k, v in tensors.items() if k.startswith("average/")}
            self.average.load_state_dict(found)
        torch.set_rng_state(tensors["rng"])
        if "rng/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng/cuda"], self.run.config.device)
        self.done, self.sums, self.epochs = facts["done"], facts["sums"], facts["epochs"]

    def rate(self) -> float:
        """Return the learning rate of the coming step: up linearly, down by a cosine (Smith, 2018)."""
        place = self.done / self.steps
        if place < _WARM_UP:
            return self.run.config.lr * (place + 1 / self.steps) / _WARM_UP
        return self.run.config.lr * (1 + math.cos(math.pi * (place - _WARM_UP) / (1 - _WARM_UP))) / 2

    def update(self, batch: Batch, candidates: Candidates, category_of: Tensor) -> float:
        """Take one step of the optimizer; return the loss."""
        config = self.run.config
        batch, (asked, known) = self.ranks.share(batch)
        self.ranks.roll(config.seed, self.done)
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        batch = batch.to(config.device)
        item_loss, mixture_loss, intent_loss = losses(self.network, batch, candidates, category_of, config)
        parts = asked * item_loss, asked * mixture_loss, known * intent_loss
        loss = parts[0] + config.intent_weight * parts[2]
        if self.done < self.an_epoch:
            # Later the LSTM knows the sequences, and the gates would trust it more than it deserves on new ones.
            loss = loss + parts[1]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        found = self.ranks.gather(self.network, parts)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.network)
        self.done += 1
        self.sums = [a + b for a, b in zip(self.sums, (*found, 1), strict=True)]
        return found[0] + found[1] + config.intent_weight * found[2]

    def release(self) -> None:
        """Give back what only steps need: a second network is trained beside this one."""
        self.optimizer.state.clear()
        self.network.zero_grad(set_to_none=True)
        if trim := _glibc("malloc_trim"):
            trim(0)

    def end_epoch(self, validate: Callable[[Network], Metrics] | None) -> None:
        """Measure the epoch, keep its weights if it is the best so far, and save."""
        *sums, steps = self.sums
        names = ("item_loss", "mixture_loss", "intent_loss")
        record: Metrics = {"epoch": len(self.epochs) + 1} | {n: v / steps for n, v in zip(names, sums, strict=True)}
        self.best.eval()
        if validate:
            record |= validate(self.best)
        best = max((e.get("selection", 0.0) for e in self.epochs), default=-math.inf)
        if not validate or record["selection"] > best:
            save_tensors(self.folder / WEIGHTS, self.best.state_dict())
        self.epochs.append(record)
        self.sums = [0.0] * 4
        self.save()


def train(
    source: Source,
    run: Run,
    folder: Path,
    watch: Callable[[Progress], None] = lambda _: None,
    validate: Callable[[Network], Metrics] | None = None,
    conclude: Callable[[Checkpoint], None] = lambda _: None,
) -> Checkpoint:
    """Train, or go on where the run in `folder` was interrupted; the judge learns at the end.

    `validate` returns metrics with the key `selection`: the epoch where it is highest is kept, without it the
    last one. A run that resumes ends with the weights that it would have had without the interruption.
    `conclude` can complete the run before it is marked finished. Of several ranks the first alone writes, validates,
    trains the judge and is watched.
    """
    config = run.config
    _spare_memory()
    trainer, candidates = _start(run, folder, source, join(config.device))
    _learn(trainer, candidates, source, watch, config.epochs, validate)
    if trainer.ranks.first:
        done = _finished(trainer, source, watch, validate, conclude)
    trainer.ranks.leave()
    return done if trainer.ranks.first else load(folder, config.device)


def _spare_memory() -> None:
    """Keep what the libraries below hold back small; it is half of all memory else.

    oneDNN keeps compiled products by shape, and batches have a thousand shapes. Gradients are made on a thread of
    its own, whose freed blocks would serve nobody else: all threads share one arena, where the C library is glibc.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
    if option := _glibc("mallopt"):
        option(_ARENA_MAX, 1)


def _glibc(name: str) -> Callable[..., int] | None:
    """Return a function of the C library, where it has it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


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
    seen = 0
    while trainer.done < epochs * trainer.an_epoch:
        epoch, place = divmod(trainer.done, trainer.an_epoch)
        for batch in source.batches(budget, np.random.default_rng((config.seed, epoch)), place):
            loss = trainer.update(batch, candidates, category_of)
            seen += batch.events
            now = time.monotonic()
            if first:
                watch(Progress(stage, trainer.done, trainer.steps, loss, seen, seen / (now - began)))
            # After an epoch's last step only the epoch's end saves: a run resumed between them would skip that end.
            if first and now - saved > config.state_every and trainer.done % trainer.an_epoch:
                trainer.save()
                saved = now
        if first:
            trainer.end_epoch(validate)
        saved = time.monotonic()


def _start(run: Run, folder: Path, source: Source, ranks: Ranks) -> tuple[Trainer, Candidates]:
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer.begin(run, folder, ranks)
    if run.config.order == RANDOM:
        source.shuffle(run.config.seed)
    tally = count(source, len(run.items))
    tables = tally.tables()
    trainer.network.mixture.know(tables)
    trainer.network.popularity.copy_(torch.from_numpy(tally.popularity()))
    if run.config.start == PAIRS:
        directions = torch.from_numpy(factors(tables[NEAR.name], run.config.dimension, run.config.seed))
        ranks.follow(directions := directions.to(run.config.device))
        trainer.network.begin_from(directions)
    source.learn(beside, tally.apart())
    trainer.an_epoch = source.count(run.config.budget(source.events))
    if decay := run.config.averaging:
        averaging = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        trainer.average = AveragedModel(trainer.network, multi_avg_fn=averaging)
    trainer.resume()
    ranks.agree((trainer.done, trainer.an_epoch, run.identity()), "data, settings or the run they take up")
    return trainer, Candidates(tally.seen[0], run.config)


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


def _rehearse(trainer: Trainer, source: Source, watch: Callable[[Progress], None]) -> None:
    """Let judge and calibration learn from the log's latest part, behind a network trained alike on what is before."""
    run, folder, seed = trainer.run, trainer.folder / "rehearsal", trainer.run.config.seed
    narrow, first, later = rehearse(source.sampled(_ENOUGH, seed), run, run.config.judged)
    asked = int((later.target > 0).sum())
    if not first.events or max(asked, later.known.sum()) < _FEWEST:
        return
    before, candidates = _start(narrow, folder, first, Ranks())
    _learn(before, candidates, first, watch, run.metrics["epoch"], stage="rehearsing")
    before.release()
    seen = before.best.eval()
    run.calibration = calibrate(seen, later, run.meaning.horizons, seed)
    if asked >= _FEWEST:
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
