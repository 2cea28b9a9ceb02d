"""The judge: the best candidates of the mixture in a better order.

The mixture is trained beside the LSTM, on sequences that the LSTM knows. What each answer is worth on new ones
only sequences tell that neither the LSTM nor the tables have seen: from those the reranker learns (stacking,
Wolpert, 1992).
"""

import torch
from torch import Tensor, nn

from models.data.cooccurrence import RECENT
from models.heads.next_item import ANSWERS, POPULARITY

CANDIDATES = 100
_CLOSE = 3  # recent items that a candidate is compared with one by one
FEATURES = 2 * ANSWERS + POPULARITY + 2 * _CLOSE + 4
CONTEXT = 2 * ANSWERS + POPULARITY
_WIDTH = 48
_FLOOR = 1e-5  # below it a probability of an answer is none


class Reranker(nn.Module):
    """Correct the candidates' log probabilities; untrained it corrects nothing."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES + CONTEXT))
        self.register_buffer("spread", torch.ones(FEATURES + CONTEXT))
        self.candidate = nn.Linear(FEATURES, _WIDTH)
        self.context = nn.Linear(CONTEXT, _WIDTH, bias=False)
        self.hidden = nn.Linear(_WIDTH, _WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.correction = nn.Linear(_WIDTH, 1, bias=False)
        nn.init.zeros_(self.correction.weight)

    def forward(self, features: Tensor, context: Tensor) -> Tensor:
        """Return the corrections, (n, C), of candidates' features (n, C, FEATURES) and their context (n, CONTEXT)."""
        of_each = self.candidate((features - self.mean[:FEATURES]) / self.spread[:FEATURES])
        of_all = self.context((context - self.mean[FEATURES:]) / self.spread[FEATURES:])
        hidden = self.dropout(torch.relu(self.hidden(torch.relu(of_each + of_all[:, None]))))
        found: Tensor = self.correction(hidden)[..., 0]
        return found


def describe(answers: Tensor, mixed: Tensor, alike: Tensor, same: Tensor, popularity: Tensor) -> Tensor:
    """Return the features of candidates, (n, C, FEATURES).

    `answers` (n, C, ANSWERS) and `mixed` (n, C) are their probabilities, `alike` (n, C, RECENT) their cosines
    with the recent items, 0 where there is none, `same` (n, C, RECENT) where they are those, `popularity` (n,
    C, POPULARITY).
    """
    mean = alike.sum(-1) / (alike != 0).sum(-1).clamp_min(1)
    parts = [
        torch.log(answers + _FLOOR),
        (answers[..., 1:] > 0).float(),
        torch.log(mixed + 1e-9)[..., None],
        popularity,
        alike[..., :_CLOSE],
        same[..., :_CLOSE],
        torch.stack([alike.amax(-1), mean, same.amax(-1), same.sum(-1)], -1),
    ]
    return torch.cat(parts, -1)


def surround(gate: Tensor, support: Tensor, recent: Tensor, popularity: Tensor) -> Tensor:
    """Return what all candidates share, (n, CONTEXT).

    `gate` (n, ANSWERS) are the shares, `support` (n, reaches), `recent` (n, RECENT), `popularity` (n,
    POPULARITY) is the last item's.
    """
    there = (recent > 0).sum(1, keepdim=True) / RECENT
    again = (recent[:, :1] == recent[:, 1:2]).to(gate.dtype)
    return torch.cat([gate, torch.log1p(support), there, again, popularity], -1)
