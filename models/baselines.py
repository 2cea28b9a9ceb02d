"""What a model must beat, counted instead of trained: popularity, and what followed the last item.

Both are one network with the same outputs and tables as the LSTM's, so they are evaluated, exported and
served like it. The probability of an item after another is its share of what followed, smoothed by its
popularity as if that had been seen once (MacKay and Peto, 1995): the more frequent successor comes first,
then the more popular item. Popularity alone is the same with an empty table.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.batches import Sequences, catalogued
from models.covisits import NEAR, RECENT, Table
from models.heads import ANSWERS, Mixture

POPULARITY, LAST_ITEM = BASELINES = ("popularity", "last-item")
_NONE = -100.0  # the log of a share that is none


class Outputs(NamedTuple):
    """What is read out of each event, and the state: `models.network.Outputs` without an LSTM's."""

    query: Tensor
    gate: Tensor
    intent: Tensor
    recent: Tensor


class Baseline(nn.Module):
    """Rank by counts; the state is a ring that holds the last item alone, the logit of a purchase its base rate's."""

    log_count: Tensor
    logit: Tensor

    def __init__(self, items: int, horizons: int) -> None:
        super().__init__()
        self.dimension = 1
        self.register_buffer("log_count", torch.zeros(items + 1))
        self.register_buffer("logit", torch.zeros(horizons))
        self.mixture = Mixture(items, self.dimension)
        del self.mixture.layers  # the shares follow from the counts

    def learn(self, sequences: Sequences, followed: bool) -> None:
        """Count a log: its items, its labels and, if asked, what followed each item."""
        count = np.bincount(catalogued(sequences.item, len(self.log_count) - 1), minlength=len(self.log_count))
        self.log_count.copy_(torch.from_numpy(np.log(np.maximum(count, 1))))
        self.logit.copy_(torch.logit(torch.from_numpy(base_rate(sequences)), 1e-7))
        if followed:
            self.mixture.know({NEAR.name: Table(*_successors(sequences, len(count), NEAR.width))})

    def catalog(self, item: Tensor, category: Tensor) -> Tensor:
        """Return what the query, 1, is multiplied with, (..., 1)."""
        return self.log_count[item][..., None]

    def state(self, n: int) -> dict[str, Tensor]:
        """Return the state of `n` new shoppers."""
        return {"recent": torch.zeros(n, RECENT, dtype=torch.long, device=self.logit.device)}

    def forward(self, item: Tensor, category: Tensor, type: Tensor, numeric: Tensor, recent: Tensor) -> Outputs:
        """Score events (n,) or sequences of them (n, T)."""
        total = self.mixture.mass(NEAR, item)
        popular = -torch.log1p(total)
        none = (torch.full_like(popular, _NONE),) * (ANSWERS - 2)
        shares = (popular, torch.log(total.clamp_min(1e-30)) + popular, *none)
        last = item if item.dim() == 1 else item[:, -1]
        return Outputs(
            query=torch.ones_like(popular)[..., None],
            gate=torch.stack(shares, -1),
            intent=self.logit.expand(*item.shape, -1),
            recent=F.pad(last[:, None], (0, RECENT - 1)),
        )

    def step(self) -> nn.Module:
        """Return one event a shopper, as it is exported."""
        return BaselineStep(self)


class BaselineStep(nn.Module):
    """A baseline whose intents are probabilities."""

    def __init__(self, network: Baseline) -> None:
        super().__init__()
        self.network = network

    def forward(self, item: Tensor, category: Tensor, type: Tensor, numeric: Tensor, recent: Tensor) -> Outputs:
        """Score one event each, (n,)."""
        found: Outputs = self.network(item, category, type, numeric, recent)
        return found._replace(intent=torch.sigmoid(found.intent))


def _successors(sequences: Sequences, rows: int, width: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Count what followed each item; return the `width` most frequent, (rows, width), and how often."""
    pairs = catalogued(np.stack([sequences.item, sequences.target], 1), rows - 1)
    pairs = pairs[(pairs > 0).all(1)]
    pairs, count = np.unique(pairs, axis=0, return_counts=True)
    order = np.lexsort((-count, pairs[:, 0]))
    (item, other), count = pairs[order].T, count[order]
    rank = np.arange(len(item)) - np.searchsorted(item, item)
    kept = rank < width
    neighbours, weights = np.zeros((rows, width), np.int32), np.zeros((rows, width), np.float32)
    neighbours[item[kept], rank[kept]], weights[item[kept], rank[kept]] = other[kept], count[kept]
    return neighbours, weights


def base_rate(sequences: Sequences) -> NDArray[np.float32]:
    """Return the share of positives among the known labels, one a horizon."""
    known = sequences.known.sum(0)
    rate: NDArray[np.float32] = ((sequences.label & sequences.known).sum(0) / np.maximum(known, 1)).astype(np.float32)
    return rate
