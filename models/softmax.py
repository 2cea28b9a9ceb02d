"""The softmax over sampled items, its gradient made on the way: the logits never stand in memory as a whole."""

from typing import Any

import torch
from torch import Tensor

_ROWS = 256  # queries at once: their logits stay in the cache


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, vectors: Tensor, target: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        to_query, to_vectors = torch.empty_like(query), torch.zeros_like(vectors)
        log_p = torch.empty(len(query), device=query.device)
        for at in range(0, len(query), _ROWS):
            rows, wanted = slice(at, at + _ROWS), target[at : at + _ROWS, None]
            logits = torch.addmm(-log_q, query[rows], vectors.T)
            logits.scatter_add_(1, wanted, log_q[wanted])
            p = torch.softmax(logits, 1)
            log_p[rows] = p.gather(1, wanted)[:, 0].clamp_min(1e-30).log()
            p.scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=p.dtype))
            to_query[rows] = p @ vectors
            to_vectors.addmm_(p.T, query[rows])
        ctx.save_for_backward(to_query, to_vectors)
        ctx.mark_non_differentiable(log_p)
        return -log_p.sum(), log_p

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_query, to_vectors = ctx.saved_tensors
        return given[0] * to_query, given[0] * to_vectors, None, None


def sampled_softmax(query: Tensor, vectors: Tensor, target: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the sampled softmax with log-q correction (Bengio and Senecal, 2008).

    `query` (n, D) wants row `target` (n,) of the candidates' `vectors` (s, D), each of which is among the
    candidates with a probability of exp(`log_q`) (s,). The target itself is always there, so its own logit
    is not corrected: else a rare item's probability would be far too high. Returns the summed loss, and each
    query's log probability of its target, which carries no gradient.
    """
    found: tuple[Tensor, Tensor] = _Softmax.apply(query, vectors, target, log_q)  # type: ignore[no-untyped-call]
    return found
