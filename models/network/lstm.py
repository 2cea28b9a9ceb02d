"""The LSTM: a textbook cell over (item, category, type, time), read out by the heads.

Notable choices: an item's vector is its own row, that of its price level, if asked for, and its
category's, so that an item never seen falls back to its category; the same vectors are the input and the catalog
(tied embeddings, Hidasi and Karatzoglou, 2018); query and catalog are normalised and their cosine scaled (Gupta et
al., NISER, 2019); the pause between events feeds all gates, so the decay over a session's gap is what the forget gate
learns. A second, narrow LSTM knows no ids, only what is done and when: purchases are rare, and from ids they are
learned by heart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.cooccurrence import RECENT
from models.data.log import LEVELS
from models.heads.next_item import POPULARITY, Attention, Mixture, NextItem, Purchase, catalogued
from models.network.decayed_counts import PACES, DecayedCounts
from models.network.reranker import Reranker
from stream.core.features import NUMERIC

TYPE_DIMENSION = 8
RHYTHM = 32
_SPAN = 50.0  # events that the longest of its units remembers at first
_FELT = 4.0
_CHANCE = 0.3  # of an item vector's start


class Outputs(NamedTuple):
    """What is read out of each event, and the states after the last one.

    `query` (..., D + POPULARITY), the log weights of the mixture `gate` (..., ANSWERS), `intent` (...,
    horizons), logits or probabilities; `h` and `c` (n, D), `recent` (n, RECENT), indices of items,
    `counts` (n, types * spans), `rhythm_h` and `rhythm_c` (n, RHYTHM).
    """

    query: Tensor
    gate: Tensor
    intent: Tensor
    h: Tensor
    c: Tensor
    recent: Tensor
    counts: Tensor
    rhythm_h: Tensor
    rhythm_c: Tensor


class Network(nn.Module):
    """Score events from items, categories, types and numbers; sizes exclude index 0, the unknown."""

    popularity: Tensor
    price_level: Tensor

    def __init__(
        self,
        items: int,
        categories: int,
        types: int,
        horizons: tuple[str, ...],
        dimension: int,
        dropout: float,
        scale: float,
        intent_dropout: float = 0.0,
        intent_reach: float = 1.0,
        price_level: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.intent_reach = intent_reach
        self.dimension = dimension
        self.item_vectors = nn.Embedding(items + 1, dimension, padding_idx=0)
        self.category_vectors = nn.Embedding(categories + 1, dimension, padding_idx=0)
        self.price_vectors = None
        if price_level:
            self.price_vectors = nn.Embedding(LEVELS + 1, dimension, padding_idx=0)
            nn.init.zeros_(self.price_vectors.weight)
            self.register_buffer("price_level", torch.tensor([0, *price_level]))
        self.type_vectors = nn.Embedding(types, TYPE_DIMENSION)
        width = dimension + TYPE_DIMENSION + len(NUMERIC)
        self.lstm = nn.LSTM(width, dimension, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.attention = Attention(dimension)
        self.next_item = NextItem(dimension, scale)
        self.mixture = Mixture(items, dimension)
        self.judge = Reranker()
        self.counters = DecayedCounts(types)
        felt = width - dimension + len(PACES)
        self.rhythm = nn.LSTM(felt, RHYTHM, batch_first=True)
        _remember_long(self.rhythm, gap=TYPE_DIMENSION)
        self.purchase = Purchase(dimension + RHYTHM + felt + self.counters.width, horizons, intent_dropout)
        self.register_buffer("popularity", torch.zeros(items + 1, POPULARITY))
        for embedding in (self.item_vectors, self.category_vectors):
            nn.init.normal_(embedding.weight, std=dimension**-0.5)
            nn.init.zeros_(embedding.weight[0])

    def vectors(self, item: Tensor, category: Tensor) -> Tensor:
        """Return items' vectors, (..., D); item 0 and cold items have their category's alone."""
        return self.own_vectors(catalogued(item, len(self.popularity) - 1)) + self.category_vectors(category)

    def begin_from(self, directions: Tensor) -> None:
        """Let item vectors start from directions, (items + 1, D), with some of the chance that they began with.

        Items without one, all zeros, keep what they have. A length of 1 is about that of the random ones.
        """
        with torch.no_grad():
            weight = self.item_vectors.weight
            mixed = F.normalize(directions + _CHANCE * weight, dim=1)
            weight.copy_(torch.where(directions.any(1, keepdim=True), mixed, weight))

    def own_vectors(self, item: Tensor) -> Tensor:
        """Return the vectors of items of the catalog, or of none, without their category's, (..., D)."""
        found: Tensor = self.item_vectors(item)
        return found if self.price_vectors is None else found + self.price_vectors(self.price_level[item])

    def look_back(self, state: Tensor, recent: Tensor) -> Tensor:
        """Return what the state finds among the recent items, (..., D)."""
        recent = catalogued(recent, len(self.popularity) - 1)
        found: Tensor = self.attention(state, self.own_vectors(recent), recent)
        return found

    def state(self, n: int) -> dict[str, Tensor]:
        """Return the state of `n` new users."""
        device = self.item_vectors.weight.device
        zero, still = torch.zeros(n, self.dimension, device=device), torch.zeros(n, RHYTHM, device=device)
        return {
            "h": zero,
            "c": zero.clone(),
            "recent": torch.zeros(n, RECENT, dtype=torch.long, device=device),
            "counts": torch.zeros(n, self.counters.width, device=device),
            "rhythm_h": still,
            "rhythm_c": still.clone(),
        }

    def forward(
        self,
        item: Tensor,
        category: Tensor,
        type: Tensor,
        numeric: Tensor,
        h: Tensor,
        c: Tensor,
        recent: Tensor,
        counts: Tensor,
        rhythm_h: Tensor,
        rhythm_c: Tensor,
        *,
        support: Tensor | None = None,
        hide: Tensor | None = None,
    ) -> Outputs:
        """Run sequences, (B, T) and numeric (B, T, 13), from states: h and c (B, D), recent items (B, RECENT),
        counts (B, types * spans), the rhythm's (B, RHYTHM).

        In training `support` (B, T, reaches) replaces the weight of the tables of pairs, and `hide` (B, T) marks the
        items that are taken for unknown.
        """
        rings, items = windows(recent, item), len(self.popularity) - 1
        met = self.own_vectors(catalogued(torch.cat([recent.flip(1), item], 1), items))
        vector = self.vectors(item if hide is None else item.masked_fill(hide, 0), category)
        side = torch.cat([self.type_vectors(type), numeric], -1)
        out, (h, c) = self.lstm(self.dropout(torch.cat([vector, side], -1)), (h[None], c[None]))
        dropped = self.dropout(out)
        support = self.mixture.support(rings) if support is None else support
        intent, counted, rhythm_h, rhythm_c = self.intent(dropped, type, numeric, counts, rhythm_h, rhythm_c)
        return Outputs(
            query=self.next_item(dropped, vector, self.attention.along(dropped, met, catalogued(rings, items))),
            # The gates learn from the state, and not the state from the gates.
            gate=self.mixture(out.detach(), vector.detach(), rings, support),
            intent=intent,
            h=h[0],
            c=c[0],
            recent=rings[:, -1],
            counts=counted[:, -1],
            rhythm_h=rhythm_h,
            rhythm_c=rhythm_c,
        )

    def intent(
        self, state: Tensor, type: Tensor, numeric: Tensor, counts: Tensor, rhythm_h: Tensor, rhythm_c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the purchases' logits (B, T, horizons) beside states (B, T, D), the counts, and the rhythm's end."""
        felt = self.felt(type, numeric)
        counted = self.counters.over(counts, type, numeric[..., 0])
        rhythm, (h, c) = self.rhythm(felt, (rhythm_h[None], rhythm_c[None]))
        own = torch.cat([self.lent(state), self.dropout(rhythm)], -1)
        return self.purchase(own, torch.cat([felt, torch.log1p(counted)], -1)), counted, h[0], c[0]

    def purchases(self, type: Tensor, numeric: Tensor) -> Tensor:
        """Return new users' logits, (B, T, horizons), where the LSTM of items is neither run nor read."""
        new, unread = self.state(len(type)), numeric.new_zeros(*type.shape, self.dimension)
        return self.intent(unread, type, numeric, new["counts"], new["rhythm_h"], new["rhythm_c"])[0]

    def felt(self, type: Tensor, numeric: Tensor) -> Tensor:
        """Return what the purchases see of events: types, numbers, and what their pauses leave."""
        return torch.cat([self.type_vectors(type), numeric, self.counters.left(numeric[..., 0])], -1)

    def lent(self, state: Tensor) -> Tensor:
        """Return the state as it is, and in training let only a part of the purchases' gradient back into it.

        Where nothing goes back nothing is read: a state that knows its training users by heart misleads.
        """
        if not self.intent_reach:
            return state * 0
        return torch.lerp(state.detach(), state, self.intent_reach) if self.training else state

    def catalog(self, item: Tensor, category: Tensor) -> Tensor:
        """Return what queries are compared with, (..., D + POPULARITY): directions, and popularities as counted."""
        return torch.cat([F.normalize(self.vectors(item, category), dim=-1), self.popularity[item]], -1)

    def step(self) -> nn.Module:
        """Return one event a user, as it is exported."""
        return StepModule(self)


def _remember_long(lstm: nn.LSTM, gap: int) -> None:
    """Let a new LSTM forget over 1 to `_SPAN` events, a unit each (Tallec and Ollivier, 2018), and feel pauses.

    `gap` is the place of the input `log_gap`, whose values are the smallest.
    """
    width = lstm.hidden_size
    with torch.no_grad():
        span = torch.empty(width).uniform_(1, _SPAN).log()
        bias, other = lstm.all_weights[0][2:]
        bias.zero_()
        other.zero_()
        bias[:width], bias[width : 2 * width] = -span, span  # input gate, forget gate
        lstm.all_weights[0][0][:, gap] *= _FELT


def windows(recent: Tensor, item: Tensor) -> Tensor:
    """Return each event's recent items, newest first, (B, T, RECENT), of `recent` (B, RECENT), then `item` (B, T)."""
    return torch.cat([recent.flip(1), item], 1).unfold(1, RECENT, 1).flip(-1)[:, 1:]


def cell(lstm: nn.LSTM, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Take an LSTM's states (n, width) one event further, by the textbook's equations."""
    w_x, w_h, b_x, b_h = lstm.all_weights[0]
    gates = F.linear(x, w_x, b_x) + F.linear(h, w_h, b_h)
    i, f, g, o = gates.chunk(4, 1)  # input, forget, candidate, output
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


class StepModule(nn.Module):
    """One event a user, as it is exported, with the cell's equations written out.

    (n,) inputs and (n, ...) states in, outputs and states out.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        item: Tensor,
        category: Tensor,
        type: Tensor,
        numeric: Tensor,
        h: Tensor,
        c: Tensor,
        recent: Tensor,
        counts: Tensor,
        rhythm_h: Tensor,
        rhythm_c: Tensor,
    ) -> Outputs:
        """Return what `Network` does, of one event each; intents are probabilities."""
        network = self.network
        vector = network.vectors(item, category)
        side = torch.cat([network.type_vectors(type), numeric], -1)
        h, c = cell(network.lstm, torch.cat([vector, side], -1), h, c)
        felt = network.felt(type, numeric)
        rhythm_h, rhythm_c = cell(network.rhythm, felt, rhythm_h, rhythm_c)
        recent = torch.cat([item[:, None], recent[:, :-1]], 1)
        counts = network.counters(counts, type, numeric[:, 0])
        return Outputs(
            query=network.next_item(h, vector, network.look_back(h, recent)),
            gate=network.mixture(h, vector, recent, network.mixture.support(recent)),
            intent=torch.sigmoid(
                network.purchase(torch.cat([network.lent(h), rhythm_h], -1), torch.cat([felt, torch.log1p(counts)], -1))
            ),
            h=h,
            c=c,
            recent=recent,
            counts=counts,
            rhythm_h=rhythm_h,
            rhythm_c=rhythm_c,
        )
