"""Training by several processes that torchrun starts: each takes its share of every batch, the gradients are summed.

Every rank builds the same batches and keeps every n-th sequence of each. A head's loss is a mean over what is asked
of the whole batch, so a rank weighs its own mean by its part of what is asked; the sum over ranks is then the whole
batch's gradient, whatever the number of ranks. Each rank draws its own negatives and its own dropout.
"""

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.data.sequences import Batch
from stream.core.errors import CheckpointError

# Rank 0 measures an epoch while the others wait. A rank that dies ends all at once, by torchrun or the broken link.
_PATIENCE = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's place among `size`; alone, nothing is exchanged."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Tell whether this process is the one that writes, measures and speaks."""
        return self.rank == 0

    def share(self, batch: Batch) -> tuple[Batch, tuple[float, float]]:
        """Return this rank's sequences, and its part of the whole's targets and of its known labels.

        Where a batch has fewer sequences than there are ranks, some have one of which nothing is asked.
        """
        if self.size == 1:
            return batch, (1.0, 1.0)
        empty = self.rank >= len(batch.item)
        rows = slice(0, 1) if empty else slice(self.rank, None, self.size)
        mine = batch.apply(lambda array: array[rows])
        if empty:
            mine = replace(mine, target=torch.zeros_like(mine.target), known=torch.zeros_like(mine.known))
        return mine, (_part(mine.target > 0, batch.target > 0), _part(mine.known, batch.known))

    def roll(self, seed: int, step: int) -> None:
        """Throw dice that are this rank's own and this step's, so that a resumed run throws the same ones."""
        if self.size > 1:
            (state,) = np.random.SeedSequence((seed, step, self.rank)).generate_state(1, np.uint64)
            torch.manual_seed(int(state >> np.uint64(1)))

    def gather(self, network: nn.Module, parts: Iterable[Tensor]) -> list[float]:
        """Sum the gradients over all ranks, in place; return the summed parts of the loss."""
        parts = [part.detach().reshape(1) for part in parts]
        if self.size == 1:
            return [part.item() for part in parts]
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        for weight in weights:
            if weight.grad is None:  # unused here, and perhaps not elsewhere
                weight.grad = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), *parts])
        dist.all_reduce(flat)
        at = 0
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()
        return flat[at:].tolist()

    def follow(self, values: Tensor) -> None:
        """Take over the first rank's values, in place: what is computed alike may differ by machine."""
        if self.size > 1:
            dist.broadcast(values, 0)

    def agree(self, facts: Any, what: str) -> None:
        """Raise CheckpointError on every rank if they hold different facts, which JSON can hold."""
        if self.size == 1:
            return
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        mine = torch.tensor([zlib.crc32(msgspec.json.encode(facts))], device=device)
        found = [torch.zeros_like(mine) for _ in range(self.size)]
        dist.all_gather(found, mine)
        if len({int(value) for value in found}) > 1:
            raise CheckpointError(
                f"the ranks differ in {what}", "give all of them the same --data, --set and --out, on a shared disk"
            )

    def leave(self) -> None:
        """Wait for all, and part."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()


def join(device: str) -> Ranks:
    """Meet the other ranks where torchrun has started this process; else be alone.

    On CUDA each rank takes the device with its number on its machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Ranks()
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
    return Ranks(dist.get_rank(), size)


def _part(mine: Tensor, whole: Tensor) -> float:
    return float(mine.sum() / whole.sum().clamp(min=1))
