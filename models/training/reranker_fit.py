"""Fit the reranker on what the network lists, and keep it where it helps sequences that it did not see."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.sequences import Sequences
from models.network.lstm import Network, windows
from models.network.ranking import Ranking, rows_of
from models.network.reranker import Reranker
from models.training.checkpoint import Run

_BUDGET, _MOST = 4096, 40_000
_ROWS, _EPOCHS, _LR, _WEIGHT_DECAY = 128, 8, 3e-3, 1e-2


def examples(network: Network, sequences: Sequences, run: Run) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return what the reranker learns from: features, context, log probabilities, place of what came next, and whose.

    Only instances whose next item is among the candidates teach anything; at most `_MOST`, evenly spread.
    """
    ranking, device, rows = Ranking(network, run.meaning.k), network.popularity.device, []
    category_of, before = torch.tensor([0, *run.category_of], device=device), 0
    with torch.no_grad():
        catalog = network.catalog(torch.arange(1, len(category_of), device=device), category_of[1:])
        for batch in sequences.batches(_BUDGET, np.random.default_rng(0)):
            given = batch.to(str(device))
            state = network.state(len(given.item))
            out = network(given.item, given.category, given.type, given.numeric, **state)
            asked = given.target > 0
            recent = windows(state["recent"], given.item)[asked]
            sequence, before = before + asked.nonzero()[:, 0], before + len(given.item)
            parts = (
                part.split(rows_of(len(catalog)))
                for part in (out.query[asked], out.gate[asked], recent, given.target[asked], sequence)
            )
            for query, gate, ring, target, whose in zip(*parts, strict=True):
                found = ranking.candidates(query, gate, ring, catalog, ranking.tables())
                hit = found.place + 1 == target[:, None]
                there = hit.any(1)
                place = hit.float().argmax(1)
                rows.append([p[there].cpu() for p in (found.features, found.context, found.log_p, place, whose)])
    columns = [list(column) for column in zip(*rows, strict=True)]
    rows.clear()
    n = sum(len(target) for target in columns[3])
    keep = torch.linspace(0, n - 1, min(_MOST, n)).long()
    # One column after the other: the features of a large log would else stand in memory three times.
    features, context, log_p, target, sequence = (torch.cat(columns.pop(0))[keep] for _ in range(5))
    return features, context, log_p, target, sequence


def fit(
    judge: Reranker, features: Tensor, context: Tensor, mixed: Tensor, target: Tensor, sequence: Tensor, seed: int
) -> float:
    """Train the reranker in place; return by how much it lowers the mean log loss of sequences it did not see.

    `mixed` (n, C) are the mixture's log probabilities, `target` (n,) the place of what came next among the
    candidates, `sequence` (n,) whose instances they are. A judge that does not help on the half of the sequences that
    it did not see is left untrained.
    """
    random = torch.Generator().manual_seed(seed)
    order, half = torch.arange(len(target)), _halves(sequence, random)
    if not min(map(len, half)):
        return 0.0
    _train(judge, features, context, mixed, target, half[0], random)
    judge.eval()
    with torch.inference_mode():
        rest = torch.split(half[1], 4 * _ROWS)
        before = [F.cross_entropy(mixed[i], target[i], reduction="sum") for i in rest]
        after = [F.cross_entropy(mixed[i] + judge(features[i], context[i]), target[i], reduction="sum") for i in rest]
    gain = float(sum(before) - sum(after)) / max(len(half[1]), 1)
    if gain > 0:
        _train(judge, features, context, mixed, target, order, random)
    else:
        nn.init.zeros_(judge.correction.weight)
    judge.eval()
    return gain


def _halves(sequence: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the rows of either half of the sequences: one's instances are too alike to lie in both."""
    count = int(sequence.max()) + 1 if len(sequence) else 0
    first = torch.randperm(count, generator=random)[sequence] < count // 2
    return first.nonzero()[:, 0], (~first).nonzero()[:, 0]


def _train(
    judge: Reranker,
    features: Tensor,
    context: Tensor,
    mixed: Tensor,
    target: Tensor,
    rows: Tensor,
    random: torch.Generator,
) -> None:
    _restart(judge, features[rows], context[rows])
    judge.train()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=_LR, weight_decay=_WEIGHT_DECAY)
    steps = max(_EPOCHS * -(-len(rows) // _ROWS), 1)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / steps, steps)
    for _ in range(_EPOCHS):
        for i in torch.split(rows[torch.randperm(len(rows), generator=random)], _ROWS):
            loss = F.cross_entropy(mixed[i] + judge(features[i], context[i]), target[i])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            falling.step()


def _restart(judge: Reranker, features: Tensor, context: Tensor) -> None:
    for layer in (judge.candidate, judge.context, judge.hidden):
        layer.reset_parameters()
    nn.init.zeros_(judge.correction.weight)
    if not len(features):
        return
    mean = torch.cat([features.mean((0, 1)), context.mean(0)])
    judge.mean.copy_(mean)
    judge.spread.copy_(torch.cat([features.std((0, 1)), context.std(0, correction=0)]) + 1e-4)
