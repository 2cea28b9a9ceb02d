"""The softmax over sampled items, its gradient made on the way: the logits never stand in memory as a whole.

On a processor that multiplies bfloat16 the matrices are of that type, sums and the target's own logit of 32 bits.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

_ROWS = 256  # queries at once: their logits stay in the cache


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, own: Tensor, vectors: Tensor, place: Tensor, log_q: Tensor
    ) -> tuple[Tensor, Tensor]:
        kind = multiplied(query.device)
        # The logits' corrections are two more columns, since one of 16 bits would be too coarse.
        high = (-log_q).to(kind)
        low = (-log_q - high.float()).to(kind)
        right = torch.cat([vectors.to(kind), high[:, None], low[:, None]], 1)
        left = torch.cat([query.to(kind), query.new_ones(len(query), 2, dtype=kind)], 1)
        to_query, to_vectors = torch.empty_like(query), torch.zeros_like(vectors)
        log_p, logit = torch.empty(len(query), device=query.device), (query * own).sum(1)
        for at in range(0, len(query), _ROWS):
            rows, wanted = slice(at, at + _ROWS), place[at : at + _ROWS, None]
            given = logit[rows].to(kind)
            logits = (left[rows] @ right.T).scatter_(1, wanted, given[:, None])
            p = torch.softmax(logits, 1)
            # What rounding has done to the target's logit is taken back.
            log_p[rows] = p.gather(1, wanted)[:, 0].float().clamp_min(1e-30).log() + logit[rows] - given.float()
            p.scatter_(1, wanted, 0)
            to_query[rows] = p @ right[:, :-2]
            to_vectors += p.T @ left[rows, :-2]
        log_p.clamp_max_(0)
        more = log_p.exp()[:, None] - 1
        ctx.save_for_backward(to_query.addcmul_(more, own), more * query, to_vectors)
        ctx.mark_non_differentiable(log_p)
        return -log_p.sum(), log_p

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        to_query, to_own, to_vectors = ctx.saved_tensors
        return given[0] * to_query, given[0] * to_own, given[0] * to_vectors, None, None


@cache
def multiplied(device: torch.device) -> torch.dtype:
    """Return the type whose matrices a device multiplies fastest; its sums have 32 bits in any case."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    found = torch.cpu.get_capabilities()
    return torch.bfloat16 if found.get("avx512_bf16") or found.get("amx_bf16") else torch.float32


def sampled_softmax(query: Tensor, own: Tensor, vectors: Tensor, place: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the sampled softmax with log-q correction (Bengio and Senecal, 2008).

    `query` (n, D) wants the item of the vector `own` (n, D) more than the candidates' `vectors` (s, D), each of
    which is drawn with a probability of exp(`log_q`) (s,). The target is always there, so its own logit is not
    corrected: else a rare item's probability would be far too high. It takes the `place` (n,) of a candidate:
    its own where it was drawn. Returns the summed loss, and each query's log probability of its target, which
    carries no gradient.
    """
    found: tuple[Tensor, Tensor] = _Softmax.apply(query, own, vectors, place, log_q)  # type: ignore[no-untyped-call]
    return found
