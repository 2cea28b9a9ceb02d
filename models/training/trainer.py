"""A training run in progress: its steps, its epochs, and the state from which a killed one goes on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from models.data.sequences import Batch
from models.network.lstm import Network
from models.training import allocator
from models.training.checkpoint import STATE, WEIGHTS, Run, load_tensors, save_tensors
from models.training.distributed import Ranks
from models.training.objective import Candidates, losses
from stream.core.errors import CheckpointError

Metrics = dict[str, Any]
_WARM_UP = 0.2  # share of the steps in which the rate rises


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

    @property
    def loss(self) -> float:
        """Return the mean loss of the epoch so far: a single batch may ask nothing."""
        item, mixture, intent, steps = self.sums
        config = self.run.config
        return (config.item_weight * (item + mixture) + config.intent_weight * intent) / max(steps, 1.0)

    def update(self, batch: Batch, candidates: Candidates, category_of: Tensor) -> None:
        """Take one step of the optimizer."""
        config = self.run.config
        batch, (asked, known) = self.ranks.share(batch)
        self.ranks.roll(config.seed, self.done)
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        batch = batch.to(config.device)
        item_loss, mixture_loss, intent_loss = losses(self.network, batch, candidates, category_of, config)
        parts = asked * item_loss, asked * mixture_loss, known * intent_loss
        loss = config.item_weight * parts[0] + config.intent_weight * parts[2]
        if self.done < self.an_epoch:
            # Later the LSTM knows the sequences, and the gates would trust it more than it deserves on new ones.
            loss = loss + config.item_weight * parts[1]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        found = self.ranks.gather(self.network, parts)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.network)
        self.done += 1
        self.sums = [a + b for a, b in zip(self.sums, (*found, 1), strict=True)]

    def release(self) -> None:
        """Give back what only steps need: a second network is trained beside this one."""
        self.optimizer.state.clear()
        self.network.zero_grad(set_to_none=True)
        allocator.trim()

    def end_epoch(self, validate: Callable[[Network], Metrics] | None) -> None:
        """Measure the epoch, keep its weights if it is the best so far, and save."""
        *sums, steps = self.sums
        names = ("item_loss", "mixture_loss", "intent_loss")
        record: Metrics = {"epoch": len(self.epochs) + 1} | {n: v / steps for n, v in zip(names, sums, strict=True)}
        self.best.eval()
        if validate:
            record |= validate(self.best)
        best = max((e.get("selection", -math.inf) for e in self.epochs), default=-math.inf)
        if record.get("selection", math.inf) > best:  # what cannot be measured is kept, the last of all
            save_tensors(self.folder / WEIGHTS, self.best.state_dict())
        self.epochs.append(record)
        self.sums = [0.0] * 4
        self.save()
