"""What else the next item can be learned by, beside the sampled softmax."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SOFTMAX, BPR_MAX = LOSSES = ("softmax", "bpr-max")
_ROWS = 512  # queries at once


def bpr_max(query: Tensor, own: Tensor, vectors: Tensor, target: Tensor, drawn: Tensor) -> Tensor:
    """Compute BPR-max, summed (Hidasi and Karatzoglou, 2018): beat the candidates, the strongest most.

    `query` (n, D) wants the item `target` (n,) of the vector `own` (n, D) more than the items `drawn` (s,) of
    `vectors` (s, D). The paper's penalty on scores is left out: a cosine cannot grow.
    """
    rows = [slice(at, at + _ROWS) for at in range(0, len(query), _ROWS)]
    given = [(query[row], own[row], target[row], vectors, drawn) for row in rows]
    return sum((checkpoint(_bpr_max, *part, use_reentrant=False) for part in given), query.new_zeros(()))


def _bpr_max(query: Tensor, own: Tensor, target: Tensor, vectors: Tensor, drawn: Tensor) -> Tensor:
    scores = query @ vectors.T
    weight = torch.softmax(scores.masked_fill(drawn == target[:, None], -1e4), 1)
    ahead = torch.sigmoid((query * own).sum(1, keepdim=True) - scores)
    return -torch.log((weight * ahead).sum(1).clamp_min(1e-9)).sum()


def smoothed(query: Tensor, own: Tensor, vectors: Tensor) -> Tensor:
    """Return what label smoothing (Szegedy et al., 2016) adds to a softmax's summed loss, for each unit of it.

    The smoothed target spreads over the candidates alike, so that only the target's logit and their mean differ.
    """
    return (query * (own - vectors.mean(0))).sum()
