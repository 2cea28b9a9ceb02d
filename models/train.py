"""The training loop: whole sequences, both heads at once, resumable after a kill."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.baselines import LAST_ITEM, Baseline
from models.batches import Batch, Sequences, catalogued
from models.checkpoint import HISTORIES, STATE, WEIGHTS, Checkpoint, Run, finish, load_tensors, save_tensors
from models.config import TrainConfig
from models.covisits import count, popularity
from models.heads import ANSWERS
from models.judge import fit
from models.network import Network
from models.ranking import examples
from models.softmax import sampled_softmax
from stream.core.errors import CheckpointError

Metrics = dict[str, Any]
Ints = NDArray[np.int64]
_SAMPLE = (16, 32)  # training sequences, and their events, kept for the parity check
_FEWEST = 200  # next items for the judge to learn from; with fewer it stays silent
_WARM_UP = 0.2  # share of the steps in which the rate rises


@dataclass(slots=True)
class Progress:
    """What a watcher of the loop hears after each step; rates count from this process's start."""

    step: int
    steps: int
    loss: float
    events_per_second: float


class Candidates:
    """Draw the items that a step's softmax runs over: all where they are few, else its targets and negatives.

    Negatives come by popularity to a power. `log_q` is the log of an item's probability to be among them, as a
    target or as a negative.
    """

    def __init__(self, item: Ints, target: Ints, items: int, config: TrainConfig) -> None:
        weight = np.bincount(catalogued(item, items), minlength=items + 1).astype(np.float64) ** config.popularity_power
        weight[0] = 0
        asked = np.bincount(catalogued(target, items), minlength=items + 1).astype(np.float64)
        asked[0] = 0
        self.everything = torch.arange(1, items + 1, device=config.device) if items <= config.negatives else None
        self.weight = torch.from_numpy(weight / max(weight.sum(), 1.0)).to(config.device)
        self.asked = torch.from_numpy(asked / max(asked.sum(), 1.0)).to(config.device)
        self.n = config.negatives

    def draw(self, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the candidates in ascending order, each target's place among them, and the log_q."""
        if self.everything is not None:
            return self.everything, target - 1, torch.zeros(len(self.everything), device=target.device)
        drawn = torch.unique(torch.cat([torch.multinomial(self.weight, self.n, replacement=True), target]))
        expected = self.n * self.weight[drawn] + len(target) * self.asked[drawn]
        return drawn, torch.searchsorted(drawn, target), torch.log(-torch.expm1(-expected)).float()


def losses(
    network: Network, batch: Batch, candidates: Candidates, category_of: Tensor, unknown_rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the heads' mean losses over a batch: next item, the mixture around it, purchase."""
    # Hiding an item at times trains the fallback that serving takes for an item it has never seen.
    hide = torch.rand(batch.item.shape, device=batch.item.device) < unknown_rate
    given = (batch.item, batch.category, batch.type, batch.numeric)
    out = network(*given, **network.state(len(batch.item)), support=batch.beside[..., ANSWERS - 1 :], hide=hide)
    asked = (batch.target > 0) & (batch.target < len(category_of))
    drawn, place, log_q = candidates.draw(batch.target[asked])
    vectors = network.catalog(drawn, category_of[drawn])
    next_item, log_p = sampled_softmax(out.query[asked], vectors, place, log_q)
    mixture = network.mixture.loss(out.gate[asked], log_p, batch.beside[asked])
    purchase = network.purchase.loss(out.intent, batch.label, batch.known)
    n = asked.sum().clamp(min=1)
    return next_item / n, mixture / n, purchase / batch.known.sum().clamp(min=1)


@dataclass(slots=True)
class Trainer:
    """A run in progress: what a kill would lose, and how to take it up again."""

    run: Run
    folder: Path
    network: Network
    optimizer: torch.optim.Optimizer
    an_epoch: int  # steps
    done: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 4)  # item, mixture and intent loss, steps
    epochs: list[Metrics] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Return the steps of the whole run."""
        return self.run.config.epochs * self.an_epoch

    def save(self) -> None:
        """Write the state of now."""
        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer/{index}/{name}": value for name, value in state.items()})
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
        self.network.load_state_dict({k.removeprefix("network/"): v for k, v in tensors.items() if "network/" in k})
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
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
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        parts = losses(self.network, batch, candidates, category_of, config.unknown_rate)
        item_loss, mixture_loss, intent_loss = parts
        loss = item_loss + mixture_loss + config.intent_weight * intent_loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        self.done += 1
        self.sums = [a + b for a, b in zip(self.sums, (*(part.item() for part in parts), 1), strict=True)]
        return loss.item()

    def end_epoch(self, validate: Callable[[Network], Metrics] | None) -> None:
        """Measure the epoch, keep its weights if it is the best so far, and save."""
        *sums, steps = self.sums
        names = ("item_loss", "mixture_loss", "intent_loss")
        record: Metrics = {"epoch": len(self.epochs) + 1} | {n: v / steps for n, v in zip(names, sums, strict=True)}
        self.network.eval()
        if validate:
            record |= validate(self.network)
        best = max((e.get("selection", 0.0) for e in self.epochs), default=-math.inf)
        if not validate or record["selection"] > best:
            save_tensors(self.folder / WEIGHTS, self.network.state_dict())
        self.epochs.append(record)
        self.sums = [0.0] * 4
        self.save()


def train(
    sequences: Sequences,
    run: Run,
    folder: Path,
    watch: Callable[[Progress], None] = lambda _: None,
    validate: Callable[[Network], Metrics] | None = None,
    conclude: Callable[[Checkpoint], None] = lambda _: None,
) -> Checkpoint:
    """Train, or go on where the run in `folder` was interrupted; the judge learns at the end.

    `validate` returns metrics with the key `selection`: the epoch where it is highest is kept, without it the
    last one. A run that resumes ends with the weights that it would have had without the interruption.
    `conclude` can complete the run before it is marked finished.
    """
    config, whole = run.config, sequences
    judged = np.random.default_rng(config.seed).random(len(whole.start)) < config.judged
    sequences = whole.part(~judged)
    budget = config.budget(len(sequences.item))
    trainer = _start(run, folder, sequences)
    candidates = Candidates(sequences.item, sequences.target, len(run.items), config)
    category_of = torch.tensor([0, *run.category_of], device=config.device)
    began = saved = time.monotonic()
    seen = 0
    while trainer.done < trainer.steps:
        epoch, place = divmod(trainer.done, trainer.an_epoch)
        for batch in sequences.batches(budget, np.random.default_rng((config.seed, epoch)), place):
            loss = trainer.update(batch.to(config.device), candidates, category_of)
            seen += batch.events
            now = time.monotonic()
            watch(Progress(trainer.done, trainer.steps, loss, seen / (now - began)))
            # After an epoch's last step only the epoch's end saves: a run resumed between them would skip that end.
            if now - saved > config.state_every and trainer.done % trainer.an_epoch:
                trainer.save()
                saved = now
        trainer.end_epoch(validate)
        saved = time.monotonic()
    _judge(trainer, whole, judged)
    return _finished(trainer, whole, validate, conclude)


def _start(run: Run, folder: Path, sequences: Sequences) -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(run.config.seed)
    network = run.network().to(run.config.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=run.config.lr, weight_decay=run.config.weight_decay)
    sequences.beside = _know(network, sequences)
    trainer = Trainer(run, folder, network, optimizer, sequences.count(run.config.budget(len(sequences.item))))
    trainer.resume()
    return trainer


def _know(network: Network, sequences: Sequences) -> NDArray[np.float32]:
    """Count a log's pairs and items, and let the network know; return what the tables say of each next item."""
    items = len(network.popularity) - 1
    tables, beside = count(sequences, items)
    network.mixture.know(tables)
    network.popularity.copy_(torch.from_numpy(popularity(sequences, items)))
    return beside


def _judge(trainer: Trainer, whole: Sequences, judged: NDArray[np.bool_]) -> None:
    """Load the best epoch's weights, train the judge on the sequences kept for it, then count those in, too."""
    run, network = trainer.run, trainer.network
    network.load_state_dict(load_tensors(trainer.folder / WEIGHTS)[0])
    network.eval()
    kept = whole.part(judged)
    if (kept.target > 0).sum() >= _FEWEST:
        gain = fit(network.judge, *examples(network, kept, run), run.config.seed)
        run.data["judge"] = {"sequences": int(judged.sum()), "gain": gain}
    _know(network, whole)
    save_tensors(trainer.folder / WEIGHTS, network.state_dict())


def _finished(
    trainer: Trainer,
    sequences: Sequences,
    validate: Callable[[Network], Metrics] | None,
    conclude: Callable[[Checkpoint], None],
) -> Checkpoint:
    run, network = trainer.run, trainer.network
    run.epochs = trainer.epochs
    run.metrics = max(trainer.epochs, key=lambda e: e.get("selection", e["epoch"]))
    conclude(Checkpoint(network, run, {}))
    if validate:
        run.metrics = run.metrics | validate(network)
    return _concluded(trainer.folder, network, run, sequences)


def count_baseline(
    sequences: Sequences, run: Run, folder: Path, validate: Callable[[Baseline], Metrics] | None = None
) -> Checkpoint:
    """Count the run's baseline, and measure it if asked."""
    folder.mkdir(parents=True, exist_ok=True)
    network = run.baseline()
    network.learn(sequences, followed=run.config.model == LAST_ITEM)
    save_tensors(folder / WEIGHTS, network.state_dict())
    run.metrics = validate(network) if validate else {}
    return _concluded(folder, network, run, sequences)


def _concluded(folder: Path, network: Network | Baseline, run: Run, sequences: Sequences) -> Checkpoint:
    histories = {name: torch.from_numpy(values) for name, values in sequences.sample(*_SAMPLE).items()}
    save_tensors(folder / HISTORIES, histories)
    finish(folder, run)
    return Checkpoint(network.eval(), run, histories)
