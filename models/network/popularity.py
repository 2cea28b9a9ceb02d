"""What a model must beat, counted instead of trained: popularity, and what followed the last item.

Both are one network with the same outputs and tables as the LSTM's, so they are evaluated, exported and
served like it. The probability of an item after another is its share of what followed, smoothed by its
popularity as if that had been seen once (MacKay and Peto, 1995): the more frequent successor comes first,
then the more popular item. Popularity alone is the same with an empty table.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.cooccurrence import NEAR, RECENT, Table
from models.data.sequences import Sequences, Source, catalogued
from models.heads.next_item import ANSWERS, Mixture

POPULARITY, LAST_ITEM = BASELINES = ("popularity", "last-item")
_NONE = -100.0  # the log of a share that is none


class Outputs(NamedTuple):
    """What is read out of each event, and the state: `models.network.lstm.Outputs` without an LSTM's."""

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

    def learn(self, source: Source, followed: bool) -> None:
        """Count a log: its items, its labels and, if asked, what followed each item."""
        rows, following = len(self.log_count), _Following()
        count, right, known = np.zeros(rows, np.int64), np.zeros(len(self.logit)), np.zeros(len(self.logit))
        for part in source.parts():
            count += np.bincount(catalogued(part.item, rows - 1), minlength=rows)
            right, known = right + (part.label & part.known).sum(0), known + part.known.sum(0)
            if followed:
                following.add(part, rows)
        self.log_count.copy_(torch.from_numpy(np.log(np.maximum(count, 1))))
        self.logit.copy_(torch.logit(torch.from_numpy(_rate(right, known)), 1e-7))
        if followed:
            self.mixture.know({NEAR.name: following.table(rows)})

    def catalog(self, item: Tensor, category: Tensor) -> Tensor:
        """Return what the query, 1, is multiplied with, (..., 1)."""
        return self.log_count[item][..., None]

    def state(self, n: int) -> dict[str, Tensor]:
        """Return the state of `n` new users."""
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
        """Return one event a user, as it is exported."""
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


class _Following:
    """What followed each item, and how often, part by part: a pair is one number."""

    def __init__(self) -> None:
        self.pair, self.count = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def add(self, sequences: Sequences, rows: int) -> None:
        item, target = (catalogued(index, rows - 1) for index in (sequences.item, sequences.target))
        pair, count = np.unique((item * rows + target)[(item > 0) & (target > 0)], return_counts=True)
        self.pair, place = np.unique(np.r_[self.pair, pair], return_inverse=True)
        self.count = np.bincount(place, np.r_[self.count, count], len(self.pair)).astype(np.int64)

    def table(self, rows: int) -> Table:
        """Return the most frequent successors of each item."""
        order = np.lexsort((-self.count, self.pair // rows))
        (item, other), count = np.divmod(self.pair[order], rows), self.count[order]
        rank = np.arange(len(item)) - np.searchsorted(item, item)
        kept = rank < NEAR.width
        neighbours, weights = np.zeros((rows, NEAR.width), np.int32), np.zeros((rows, NEAR.width), np.float32)
        neighbours[item[kept], rank[kept]], weights[item[kept], rank[kept]] = other[kept], count[kept]
        return Table(neighbours, weights)


def base_rate(sequences: Sequences) -> NDArray[np.float32]:
    """Return the share of positives among the known labels, one a horizon."""
    return _rate((sequences.label & sequences.known).sum(0), sequences.known.sum(0))


def _rate(right: NDArray[Any], known: NDArray[Any]) -> NDArray[np.float32]:
    rate: NDArray[np.float32] = (right / np.maximum(known, 1)).astype(np.float32)
    return rate
