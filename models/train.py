"""The training loop: whole sequences, both heads at once, resumable after a kill."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.batches import Batch, Sequences
from models.checkpoint import HISTORIES, STATE, WEIGHTS, Checkpoint, Run, finish, load_tensors, save_tensors
from models.config import TrainConfig
from models.network import Network
from stream.core.errors import CheckpointError

Metrics = dict[str, Any]
_SAMPLE = (16, 32)  # training sequences, and their events, kept for the parity check
_WARM_UP = 0.2  # share of the steps in which the rate rises


@dataclass(slots=True)
class Progress:
    """What a watcher of the loop hears after each step; rates count from this process's start."""

    step: int
    steps: int
    loss: float
    events_per_second: float


class Negatives:
    """Draw the shared negatives of a step by popularity to a power; all items where they are few."""

    def __init__(self, item: np.ndarray[Any, np.dtype[np.int64]], items: int, config: TrainConfig) -> None:
        weight = np.bincount(item, minlength=items + 1).astype(np.float64) ** config.popularity_power
        weight[0] = 0
        expected = weight / max(weight.sum(), 1.0) * config.negatives
        self.everything = items <= config.negatives
        # With every item among the negatives the softmax is exact, and nothing is to be corrected.
        log_q = np.zeros(items + 1) if self.everything else np.log(np.maximum(expected, 1e-12))
        self.weight = torch.from_numpy(weight).to(config.device)
        self.log_q = torch.from_numpy(log_q).float().to(config.device)
        self.n = config.negatives

    def draw(self) -> Tensor:
        """Return the negatives' indices, (negatives,)."""
        if self.everything:
            return torch.arange(1, len(self.weight), device=self.weight.device)
        return torch.multinomial(self.weight, self.n, replacement=True)


def losses(
    network: Network, batch: Batch, negatives: Negatives, category_of: Tensor, unknown_rate: float
) -> tuple[Tensor, Tensor]:
    """Return the two heads' mean losses over a batch: next item, purchase."""
    zero = torch.zeros(len(batch.item), network.dimension, device=batch.item.device)
    # Hiding an item at times trains the fallback that serving takes for an item it has never seen.
    item = batch.item.masked_fill(torch.rand(batch.item.shape, device=batch.item.device) < unknown_rate, 0)
    query, logit, _, _ = network(item, batch.category, batch.type, batch.numeric, zero, zero)
    asked = batch.target > 0
    target, sampled = batch.target[asked], negatives.draw()
    next_item = network.next_item.loss(
        query[asked],
        network.catalog(target, category_of[target]),
        network.catalog(sampled, category_of[sampled]),
        sampled,
        negatives.log_q,
        target,
    )
    purchase = network.purchase.loss(logit, batch.label, batch.known)
    return next_item / asked.sum().clamp(min=1), purchase / batch.known.sum().clamp(min=1)


@dataclass(slots=True)
class Trainer:
    """A run in progress: what a kill would lose, and how to take it up again."""

    run: Run
    folder: Path
    network: Network
    optimizer: torch.optim.Optimizer
    an_epoch: int  # steps
    done: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # item loss, intent loss, steps
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

    def update(self, batch: Batch, negatives: Negatives, category_of: Tensor) -> float:
        """Take one step of the optimizer; return the loss."""
        config = self.run.config
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        item_loss, intent_loss = losses(self.network, batch, negatives, category_of, config.unknown_rate)
        loss = item_loss + config.intent_weight * intent_loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        self.done += 1
        self.sums = [a + b for a, b in zip(self.sums, (item_loss.item(), intent_loss.item(), 1), strict=True)]
        return loss.item()

    def end_epoch(self, validate: Callable[[Network], Metrics] | None) -> None:
        """Measure the epoch, keep its weights if it is the best so far, and save."""
        item, intent, steps = self.sums
        record: Metrics = {"epoch": len(self.epochs) + 1, "item_loss": item / steps, "intent_loss": intent / steps}
        self.network.eval()
        if validate:
            record |= validate(self.network)
        best = max((e.get("selection", 0.0) for e in self.epochs), default=-math.inf)
        if not validate or record["selection"] > best:
            save_tensors(self.folder / WEIGHTS, self.network.state_dict())
        self.epochs.append(record)
        self.sums = [0.0, 0.0, 0.0]
        self.save()


def train(
    sequences: Sequences,
    run: Run,
    folder: Path,
    watch: Callable[[Progress], None] = lambda _: None,
    validate: Callable[[Network], Metrics] | None = None,
    conclude: Callable[[Run], None] = lambda _: None,
) -> Checkpoint:
    """Train, or go on where the run in `folder` was interrupted.

    `validate` returns metrics with the key `selection`: the epoch where it is highest is kept, without it the
    last one. A run that resumes ends with the weights that it would have had without the interruption.
    `conclude` hears the run before it is marked finished.
    """
    config = run.config
    budget = config.budget(len(sequences.item))
    trainer = _start(run, folder, sequences.count(budget))
    negatives = Negatives(sequences.item, len(run.items), config)
    category_of = torch.tensor([0, *run.category_of], device=config.device)
    began = saved = time.monotonic()
    seen = 0
    while trainer.done < trainer.steps:
        epoch, place = divmod(trainer.done, trainer.an_epoch)
        for batch in sequences.batches(budget, np.random.default_rng((config.seed, epoch)), place):
            loss = trainer.update(batch.to(config.device), negatives, category_of)
            seen += batch.events
            now = time.monotonic()
            watch(Progress(trainer.done, trainer.steps, loss, seen / (now - began)))
            # After an epoch's last step only the epoch's end saves: a run resumed between them would skip that end.
            if now - saved > config.state_every and trainer.done % trainer.an_epoch:
                trainer.save()
                saved = now
        trainer.end_epoch(validate)
        saved = time.monotonic()
    return _finished(trainer, sequences, conclude)


def _start(run: Run, folder: Path, an_epoch: int) -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(run.config.seed)
    network = run.network().to(run.config.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=run.config.lr, weight_decay=run.config.weight_decay)
    trainer = Trainer(run, folder, network, optimizer, an_epoch)
    trainer.resume()
    return trainer


def _finished(trainer: Trainer, sequences: Sequences, conclude: Callable[[Run], None]) -> Checkpoint:
    run, network = trainer.run, trainer.network
    network.load_state_dict(load_tensors(trainer.folder / WEIGHTS)[0])
    histories = {name: torch.from_numpy(values) for name, values in sequences.sample(*_SAMPLE).items()}
    save_tensors(trainer.folder / HISTORIES, histories)
    run.epochs = trainer.epochs
    run.metrics = max(trainer.epochs, key=lambda e: e.get("selection", e["epoch"]))
    conclude(run)
    finish(trainer.folder, run)
    return Checkpoint(network.eval(), run, histories)
