"""The scoring heads: what is read out of the hidden state, and the loss that trains it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.covisits import NEAR, OWN, RECENT, WIDTH, WINDOW

_SIGNS = 5


class Attention(nn.Module):
    """Look back at the recent items from the hidden state (Li et al., NARM, 2017), each by its age."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.ask = nn.Linear(dimension, dimension, bias=False)
        self.age = nn.Parameter(torch.zeros(RECENT, dimension))

    def forward(self, state: Tensor, vectors: Tensor, recent: Tensor) -> Tensor:
        """Return the mean of the recent items' vectors (..., RECENT, D), weighed by the state (..., D)."""
        fit = (self.ask(state)[..., None, :] * (vectors + self.age)).sum(-1)
        weight = torch.softmax(fit.masked_fill(recent == 0, -1e4), -1)
        return (weight[..., None] * vectors).sum(-2)


class NextItem(nn.Module):
    """Rank the catalog for the next event: a query whose product with an item's unit vector is its logit."""

    def __init__(self, dimension: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.readout = nn.Linear(3 * dimension, dimension, bias=False)

    def forward(self, state: Tensor, last: Tensor, around: Tensor) -> Tensor:
        """Return queries of length `scale`, (..., D), from states, the last items' and the recent items' vectors."""
        return self.scale * F.normalize(self.readout(torch.cat([state, last, around], -1)), dim=-1)


class Mixture(nn.Module):
    """Weigh three answers to what comes next: the ranking, the recent items' neighbours, the recent items.

    Its gates see the state, the last item and how much the table of pairs knows (See et al., 2017, gate the
    copying of words in the same way). The tables are counted, not trained.
    """

    neighbours: Tensor
    weights: Tensor
    mass: Tensor

    def __init__(self, items: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("neighbours", torch.zeros(items + 1, WIDTH, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(items + 1, WIDTH))
        self.register_buffer("mass", torch.zeros(items + 1))
        shares = nn.Linear(64, 3)
        self.layers = nn.Sequential(nn.Linear(2 * dimension + _SIGNS, 64), nn.ReLU(), shares)
        # At first the ranking has most of it, whatever the state.
        nn.init.zeros_(shares.weight)
        with torch.no_grad():
            shares.bias.copy_(torch.tensor([0.0, -2.0, -2.0]))

    def support(self, recent: Tensor) -> Tensor:
        """Return the weight behind the neighbours of recent items, (..., RECENT) to (...)."""
        return (self.mass[self._known(recent[..., :WINDOW])] * _fading(NEAR, WINDOW, recent)).sum(-1)

    def _known(self, recent: Tensor) -> Tensor:
        """Put 0 in the place of newcomers, whose indices lie above the tables'."""
        return recent.masked_fill(recent >= len(self.mass), 0)

    def forward(self, state: Tensor, last: Tensor, recent: Tensor, support: Tensor) -> Tensor:
        """Return the log weights of the three, (..., 3)."""
        there = recent > 0
        again = (recent[..., 1:] == recent[..., :1]) & there[..., :1]
        signs = (torch.log1p(support), support > 0, there.sum(-1) / RECENT, again[..., 0], again.any(-1))
        given = torch.cat([state, last, *(sign[..., None].to(state.dtype) for sign in signs)], -1)
        return torch.log_softmax(self.layers(given), -1)

    def loss(self, log_gate: Tensor, log_p: Tensor, beside: Tensor) -> Tensor:
        """Compute the mixture's cross-entropy from each answer's probability of the target, summed."""
        answers = torch.stack([log_p, *beside[..., :2].clamp_min(1e-9).log().unbind(-1)], -1)
        return -torch.logsumexp(log_gate + answers, -1).sum()

    def rank(self, logits: Tensor, log_gate: Tensor, recent: Tensor) -> Tensor:
        """Return the probabilities of all items, (n, items), of logits (n, items) for items 1 and up.

        What newcomers among the recent items have of their own is left out: see `own`.
        """
        gate = log_gate.exp()
        p = torch.softmax(logits, -1) * gate[:, :1]
        known = self._known(recent)
        near = known[:, :WINDOW]
        weight = self.weights[near] * _fading(NEAR, WINDOW, recent)[:, None]
        share = gate[:, 1:2] / self.support(recent).clamp_min(1e-6)[:, None]
        # Index 0, no item, has no weight: where it lands does not matter.
        p.scatter_add_(1, (self.neighbours[near].flatten(1).long() - 1).clamp_min(0), weight.flatten(1) * share)
        own = self.own(log_gate, recent) * (known > 0)
        return p.scatter_add_(1, (known - 1).clamp_min(0), own)

    def own(self, log_gate: Tensor, recent: Tensor) -> Tensor:
        """Return the probability that is each recent item's own share, (n, RECENT)."""
        own = _fading(OWN, RECENT, recent) * (recent > 0)
        return own * log_gate[:, 2:].exp() / own.sum(1, keepdim=True).clamp_min(1e-6)


def _fading(rate: float, n: int, like: Tensor) -> Tensor:
    return rate ** torch.arange(n, device=like.device, dtype=torch.float32)


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
