"""The scoring heads: what is read out of the hidden state, and the loss that trains it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NextItem(nn.Module):
    """Rank the catalog for the next event: a query whose product with an item's unit vector is its logit."""

    def __init__(self, dimension: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.readout = nn.Linear(2 * dimension, dimension, bias=False)

    def forward(self, state: Tensor, last: Tensor) -> Tensor:
        """Return queries of length `scale`, (..., D), from states and the last items' vectors."""
        return self.scale * F.normalize(self.readout(torch.cat([state, last], -1)), dim=-1)

    def loss(
        self, query: Tensor, target: Tensor, catalog: Tensor, sampled: Tensor, log_q: Tensor, target_index: Tensor
    ) -> Tensor:
        """Compute the sampled softmax with log-q correction (Bengio and Senecal, 2008), summed.

        `query` and `target` (n, D) belong together; `catalog` (s, D) are the shared negatives' vectors,
        `sampled` (s,) their indices and `log_q` (items + 1,) the log of the expected count in the sample.
        """
        positive = (query * target).sum(-1) - log_q[target_index]
        negative = query @ catalog.T - log_q[sampled]
        negative = negative.masked_fill(sampled == target_index[:, None], -torch.inf)
        return (torch.logsumexp(torch.cat([positive[:, None], negative], 1), 1) - positive).sum()


class Purchase(nn.Module):
    """Tell how probable a purchase is within each horizon."""

    def __init__(self, width: int, horizons: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, horizons))

    def forward(self, state: Tensor, side: Tensor) -> Tensor:
        """Return logits, (..., horizons), from states and the event's own type and numbers."""
        logits: Tensor = self.layers(torch.cat([state, side], -1))
        return logits

    def loss(self, logits: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Compute the binary cross-entropy over the known labels, summed."""
        return F.binary_cross_entropy_with_logits(logits[known], label[known].float(), reduction="sum")
