"""The LSTM: a textbook cell over (item, category, type, time), read out by the heads.

Notable choices: an item's vector is its own row plus its category's, so that an item never seen falls back
to its category; the same vectors are the input and the catalog (tied embeddings, Hidasi and Karatzoglou,
2018); query and catalog are normalised and their cosine scaled (Gupta et al., NISER, 2019); the pause
between events feeds all gates, so the decay over a session's gap is what the forget gate learns.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.heads import NextItem, Purchase
from stream.core.features import NUMERIC

TYPE_DIMENSION = 8


class Network(nn.Module):
    """Score events from items, categories, types and numbers; sizes exclude index 0, the unknown."""

    def __init__(
        self, items: int, categories: int, types: int, horizons: int, dimension: int, dropout: float, scale: float
    ) -> None:
        super().__init__()
        self.dimension = dimension
        self.item_vectors = nn.Embedding(items + 1, dimension, padding_idx=0)
        self.category_vectors = nn.Embedding(categories + 1, dimension, padding_idx=0)
        self.type_vectors = nn.Embedding(types, TYPE_DIMENSION)
        width = dimension + TYPE_DIMENSION + len(NUMERIC)
        self.lstm = nn.LSTM(width, dimension, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.next_item = NextItem(dimension, scale)
        self.purchase = Purchase(width, horizons)
        for embedding in (self.item_vectors, self.category_vectors):
            nn.init.normal_(embedding.weight, std=dimension**-0.5)
            nn.init.zeros_(embedding.weight[0])

    def vectors(self, item: Tensor, category: Tensor) -> Tensor:
        """Return items' vectors, (..., D); item 0 has its category's alone."""
        found: Tensor = self.item_vectors(item) + self.category_vectors(category)
        return found

    def forward(
        self, item: Tensor, category: Tensor, type: Tensor, numeric: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run sequences, (B, T) and numeric (B, T, 7), from states (B, D).

        Returns queries (B, T, D), intent logits (B, T, horizons), and the states after the last event.
        """
        vector = self.vectors(item, category)
        side = torch.cat([self.type_vectors(type), numeric], -1)
        out, (h, c) = self.lstm(self.dropout(torch.cat([vector, side], -1)), (h[None], c[None]))
        out = self.dropout(out)
        return self.next_item(out, vector), self.purchase(out, side), h[0], c[0]

    def catalog(self, item: Tensor, category: Tensor) -> Tensor:
        """Return the normalised vectors that queries are compared with, (..., D)."""
        return F.normalize(self.vectors(item, category), dim=-1)


class StepModule(nn.Module):
    """One event a shopper, as it is exported, with the cell's equations written out.

    (n,) inputs and (n, D) states in, outputs and states out.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, item: Tensor, category: Tensor, type: Tensor, numeric: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return query (n, D), intent probabilities (n, horizons), h and c (n, D)."""
        network, lstm = self.network, self.network.lstm
        vector = network.vectors(item, category)
        side = torch.cat([network.type_vectors(type), numeric], -1)
        x = torch.cat([vector, side], -1)
        w_x, w_h, b_x, b_h = lstm.all_weights[0]
        gates = F.linear(x, w_x, b_x) + F.linear(h, w_h, b_h)
        i, f, g, o = gates.chunk(4, 1)  # input, forget, candidate, output
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return network.next_item(h, vector), torch.sigmoid(network.purchase(h, side)), h, c
