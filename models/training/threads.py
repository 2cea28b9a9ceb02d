"""How many threads a step of training is worth: a small one is done before a second thread has begun."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.training.config import TrainConfig

_WORTH = 1e9  # products of a step's softmax; measured on 2 cores: at 4e8 two threads take twice one's time


@contextmanager
def threads(config: TrainConfig, events: int) -> Iterator[None]:
    """Leave small steps on the CPU to one thread, unless OMP_NUM_THREADS says how many; then as it was before."""
    before = torch.get_num_threads()
    small = config.budget(events) * config.negatives * config.dimension < _WORTH
    if small and config.device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
