"""The training loop: whole sequences, both heads at once, resumable after a kill."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.batches import Batch, Sequences
from models.checkpoint import HISTORIES, STATE, WEIGHTS, Checkpoint, Run, finish, load_tensors, save_tensors
from models.config import TrainConfig
from models.covisits import count
from models.network import Network
from models.softmax import sampled_softmax
from stream.core.errors import CheckpointError

Metrics = dict[str, Any]
Ints = NDArray[np.int64]
_SAMPLE = (16, 32)  # training sequences, and their events, kept for the parity check
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
        weight = np.bincount(item, minlength=items + 1).astype(np.float64) ** config.popularity_power
        weight[0] = 0
        asked = np.bincount(target, minlength=items + 1).astype(np.float64)
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


@dataclass(slots=True)
class Trainer:
    """A run in progress: what a kill would lose, and how to take it up again."""

    run: Run
    folder: Path
    network: Network
    optimizer: torch.optim.Optimizer
    steps: int
    done: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # item loss, intent loss, steps
    epochs: list[Metrics] = field(default_factory=list)

    def save(self) -> None:
        """Write the state of now."""
        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer/{index}/{name}": value for name, value in state.items()})
        tensors["rng"] = torch.get_rng_state()
        facts = {"config": self.run.config, "data": self.run.data, "done": self.done}
        save_tensors(self.folder / STATE, tensors, facts | {"sums": self.sums, "epochs": self.epochs})

    def resume(self) -> None:
        """Take up the interrupted run in the folder, if there is one; raise CheckpointError if it is another."""
        if not (self.folder / STATE).exists():
            return
        tensors, facts = load_tensors(self.folder / STATE)
        mine = msgspec.to_builtins({"config": self.run.config, "data": self.run.data})
        if any(facts[name] != mine[name] for name in mine):
            raise CheckpointError(
                f"{self.folder} holds an interrupted run with other settings or data",
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
        self.done, self.sums, self.epochs = facts["done"], facts["sums"], facts["epochs"]

    def rate(self) -> float:
        """Return the learning rate of the coming step: up linearly, down by a cosine (Smith, 2018)."""
        place = self.done / self.steps
        if place < _WARM_UP:
            return self.run.config.lr * (place + 1 / self.steps) / _WARM_UP
        return self.run.config.lr * (1 + math.cos(math.pi * (place - _WARM_UP) / (1 - _WARM_UP))) / 2


def losses(
    network: Network, batch: Batch, candidates: Candidates, category_of: Tensor, unknown_rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the heads' mean losses over a batch: next item, the mixture around it, purchase."""
    # Hiding an item at times trains the fallback that serving takes for an item it has never seen.
    hide = torch.rand(batch.item.shape, device=batch.item.device) < unknown_rate
    given = (batch.item, batch.category, batch.type, batch.numeric)
    out = network(*given, **network.state(len(batch.item)), support=batch.beside[..., 2], hide=hide)
    asked = batch.target > 0
    drawn, place, log_q = candidates.draw(batch.target[asked])
    vectors = network.catalog(drawn, category_of[drawn])
    next_item, log_p = sampled_softmax(out.query[asked], vectors, place, log_q)
    mixture = network.mixture.loss(out.gate[asked], log_p, batch.beside[asked])
    purchase = network.purchase.loss(out.intent, batch.label, batch.known)
    n = asked.sum().clamp(min=1)
    return next_item / n, mixture / n, purchase / batch.known.sum().clamp(min=1)


def train(
    sequences: Sequences,
    run: Run,
    folder: Path,
    watch: Callable[[Progress], None] = lambda _: None,
    validate: Callable[[Network], Metrics] | None = None,
) -> Checkpoint:
    """Train, or go on where the run in `folder` was interrupted.

    `validate` returns metrics with the key `selection`: the epoch where it is highest is kept, without it the
    last one. A run that resumes ends with the weights that it would have had without the interruption.
    """
    config = run.config
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    network = run.network().to(config.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    budget = config.budget(len(sequences.item))
    an_epoch = sequences.count(budget)
    trainer = Trainer(run, folder, network, optimizer, config.epochs * an_epoch)
    covisits, sequences.beside = count(sequences, len(run.items))
    network.know(covisits)
    trainer.resume()
    candidates = Candidates(sequences.item, sequences.target, len(run.items), config)
    category_of = torch.tensor([0, *run.category_of], device=config.device)
    began = saved = time.monotonic()
    seen = 0
    while trainer.done < trainer.steps:
        epoch, place = divmod(trainer.done, an_epoch)
        for batch in sequences.batches(budget, np.random.default_rng((config.seed, epoch)), place):
            network.train()
            for group in optimizer.param_groups:
                group["lr"] = trainer.rate()
            item_loss, mixture_loss, intent_loss = losses(
                network, batch.to(config.device), candidates, category_of, config.unknown_rate
            )
            loss = item_loss + mixture_loss + config.intent_weight * intent_loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
            trainer.done += 1
            trainer.sums = [a + b for a, b in zip(trainer.sums, (item_loss.item(), intent_loss.item(), 1), strict=True)]
            seen += batch.events
            now = time.monotonic()
            watch(Progress(trainer.done, trainer.steps, loss.item(), seen / (now - began)))
            if now - saved > config.state_every:
                trainer.save()
                saved = now
        _end_epoch(trainer, validate)
        saved = time.monotonic()
    network.load_state_dict(load_tensors(folder / WEIGHTS)[0])
    histories = {name: torch.from_numpy(values) for name, values in sequences.sample(*_SAMPLE).items()}
    save_tensors(folder / HISTORIES, histories)
    run.epochs = trainer.epochs
    run.metrics = max(trainer.epochs, key=lambda e: e.get("selection", e["epoch"]))
    finish(folder, run)
    return Checkpoint(network.eval(), run, histories)


def _end_epoch(trainer: Trainer, validate: Callable[[Network], Metrics] | None) -> None:
    item, intent, steps = trainer.sums
    record: Metrics = {"epoch": len(trainer.epochs) + 1, "item_loss": item / steps, "intent_loss": intent / steps}
    trainer.network.eval()
    if validate:
        record |= validate(trainer.network)
    best = max((e.get("selection", 0.0) for e in trainer.epochs), default=-math.inf)
    if not validate or record["selection"] > best:
        save_tensors(trainer.folder / WEIGHTS, trainer.network.state_dict())
    trainer.epochs.append(record)
    trainer.sums = [0.0, 0.0, 0.0]
    trainer.save()
