"""The scoring heads: what is read out of the hidden state, and the loss that trains it."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.cooccurrence import OWN, REACHES, RECENT, Reach, Table
from stream.core.manifest import ascending

_SIGNS = 3 + 2 * len(REACHES)
ANSWERS = len(REACHES) + 2
POPULARITY = 2


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

    def along(self, state: Tensor, vectors: Tensor, recent: Tensor) -> Tensor:
        """Return the same for whole sequences of states (B, T, D), by products of matrices.

        `vectors` (B, RECENT + T, D) are those of the RECENT items before the first event, then of the events';
        `recent` (B, T, RECENT) are each event's recent items.
        """
        asked, steps = self.ask(state), state.shape[1]
        place = torch.arange(steps, device=state.device)[:, None] + RECENT - torch.arange(RECENT, device=state.device)
        place = place.expand(recent.shape)
        fit = (asked @ vectors.transpose(1, 2)).gather(2, place) + asked @ self.age.T
        weight = torch.softmax(fit.masked_fill(recent == 0, -1e4), -1)
        return weight.new_zeros(len(state), steps, steps + RECENT).scatter(2, place, weight) @ vectors


class NextItem(nn.Module):
    """Rank the catalog for the next event: a query whose product with an item's vector is its logit.

    The vector is a direction, compared by the cosine, and the item's popularity, weighed by the state.
    """

    def __init__(self, dimension: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.readout = nn.Linear(3 * dimension, dimension, bias=False)
        self.taste = nn.Linear(3 * dimension, POPULARITY)
        nn.init.zeros_(self.taste.weight)
        nn.init.zeros_(self.taste.bias)

    def forward(self, state: Tensor, last: Tensor, around: Tensor) -> Tensor:
        """Return queries, (..., D + POPULARITY), from states, the last items' and the recent items' vectors."""
        given = torch.cat([state, last, around], -1)
        return torch.cat([self.scale * F.normalize(self.readout(given), dim=-1), self.taste(given)], -1)


class Mixture(nn.Module):
    """Weigh the answers to what comes next: the ranking, the recent items' neighbours by reach, the recent items.

    Its gates see the state, the last item and how much the tables of pairs know (See et al., 2017, gate the
    copying of words in the same way). The tables are counted, not trained.
    """

    def __init__(self, items: int, dimension: int) -> None:
        super().__init__()
        for reach in REACHES:
            shape = (items + 1, reach.width)
            self.register_buffer(f"{reach.name}_neighbours", torch.zeros(shape, dtype=torch.int32))
            self.register_buffer(f"{reach.name}_weights", torch.zeros(shape))
            self.register_buffer(f"{reach.name}_mass", torch.zeros(items + 1))
        shares = nn.Linear(64, ANSWERS)
        self.layers = nn.Sequential(nn.Linear(2 * dimension + _SIGNS, 64), nn.ReLU(), shares)
        # At first the ranking has most of it, whatever the state.
        nn.init.zeros_(shares.weight)
        with torch.no_grad():
            shares.bias.copy_(torch.tensor([0.0] + [-2.0] * (ANSWERS - 1)))

    def know(self, tables: dict[str, Table]) -> None:
        """Take in the tables of pairs, by reach."""
        for name, table in tables.items():
            for part in ("neighbours", "weights", "mass"):
                self.get_buffer(f"{name}_{part}").copy_(torch.from_numpy(getattr(table, part)))

    def support(self, recent: Tensor) -> Tensor:
        """Return the weight behind the neighbours of recent items, (..., RECENT) to (..., reaches)."""
        mass = ((self.mass(reach, recent[..., : reach.window]), reach) for reach in REACHES)
        return torch.stack([(m * _fading(reach, recent)).sum(-1) for m, reach in mass], -1)

    def mass(self, reach: Reach, item: Tensor) -> Tensor:
        """Return the weight behind items' neighbours, 0 for cold items, whose indices lie above the table's."""
        table = self.get_buffer(f"{reach.name}_mass")
        return table[catalogued(item, len(table) - 1)]

    def forward(self, state: Tensor, last: Tensor, recent: Tensor, support: Tensor) -> Tensor:
        """Return the log weights of the answers, (..., ANSWERS)."""
        there = recent > 0
        again = (recent[..., 1:] == recent[..., :1]) & there[..., :1]
        signs = torch.stack([there.sum(-1) / RECENT, again[..., 0].float(), again.any(-1).float()], -1)
        given = torch.cat([state, last, torch.log1p(support), (support > 0).to(state.dtype), signs], -1)
        return torch.log_softmax(self.layers(given), -1)

    def loss(self, log_gate: Tensor, log_p: Tensor, beside: Tensor) -> Tensor:
        """Compute the mixture's cross-entropy from each answer's probability of the target, summed."""
        others = beside[..., : ANSWERS - 1].clamp_min(1e-9).log()
        answers = torch.cat([log_p[..., None], others], -1)
        return -torch.logsumexp(log_gate + answers, -1).sum()

    def named(
        self, recent: Tensor, items: int, tables: dict[str, Tensor]
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Return what each answer but the ranking names, and the support (n, reaches).

        That is places in a catalog of `items`, (n, m), and what each adds to its item's probability, (n, m). `tables`
        holds `*_neighbours` and `*_weights` of each reach. What newcomers have of their own is left out: see `own`.
        """
        named, support = [], []
        known = catalogued(recent, items)
        for reach in REACHES:
            seen = known[:, : reach.window]
            weight = (tables[f"{reach.name}_weights"][seen] * _fading(reach, recent)[:, None]).flatten(1)
            support.append(weight.sum(1))
            # Index 0, no item, has no weight: where it lands does not matter.
            place = (tables[f"{reach.name}_neighbours"][seen].flatten(1).long() - 1).clamp_min(0)
            named.append((place, weight / support[-1].clamp_min(1e-6)[:, None]))
        named.append(((known - 1).clamp_min(0), self.own(recent) * (known > 0)))
        return named, torch.stack(support, 1)

    def own(self, recent: Tensor) -> Tensor:
        """Return the probability of each recent item by the last answer, (n, RECENT), cold items included."""
        own = OWN ** torch.arange(RECENT, device=recent.device, dtype=torch.float32) * (recent > 0)
        return own / own.sum(1, keepdim=True).clamp_min(1e-6)


def catalogued(item: Tensor, items: int) -> Tensor:
    """Return indices of items with 0 in the place of cold items', which lie above the catalog's `items`."""
    return item.masked_fill(item > items, 0)


def _fading(reach: Reach, like: Tensor) -> Tensor:
    return reach.fading ** torch.arange(reach.window, device=like.device, dtype=torch.float32)


class Purchase(nn.Module):
    """Tell how probable a purchase is within each horizon: the longer the span, never the less."""

    def __init__(self, width: int, horizons: tuple[str, ...], dropout: float) -> None:
        super().__init__()
        self.spans = ascending(horizons)
        self.layers = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, len(horizons)))

    def forward(self, state: Tensor, side: Tensor) -> Tensor:
        """Return logits, (..., horizons), from states and the event's own type, numbers and counts."""
        logits = list(self.layers(torch.cat([state, side], -1)).unbind(-1))
        for shorter, longer in pairwise(self.spans):
            logits[longer] = logits[shorter] + F.softplus(logits[longer])
        return torch.stack(logits, -1)

    def loss(self, logits: Tensor, label: Tensor, known: Tensor, weight: float = 1.0) -> Tensor:
        """Compute the binary cross-entropy over the known labels, summed; purchases count `weight` times."""
        bought = label[known].float()
        heavy = bought.new_tensor(weight)
        return F.binary_cross_entropy_with_logits(logits[known], bought, pos_weight=heavy, reduction="sum")
