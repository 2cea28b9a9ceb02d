"""The list of items of a step: the mixture chooses candidates from the whole catalog, the judge orders them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.baselines import Baseline
from models.batches import Sequences
from models.checkpoint import Run
from models.covisits import REACHES
from models.heads import POPULARITY, catalogued
from models.judge import CANDIDATES, describe, surround
from models.network import Network, windows

_BUDGET, _ROWS, _MOST = 4096, 256, 40_000


class Candidates(NamedTuple):
    """The best of a step by the mixture: `place` (n, C) in the catalog, what the judge sees, `log_p` (n, C)."""

    place: Tensor
    features: Tensor
    context: Tensor
    log_p: Tensor


class Ranking(nn.Module):
    """Rank the catalog for queries; the tables are inputs, since a bundle keeps them in files of their own."""

    def __init__(self, network: Network | Baseline, k: int) -> None:
        super().__init__()
        self.mixture, self.k = network.mixture, k
        self.judge = network.judge if isinstance(network, Network) else None

    def tables(self) -> dict[str, Tensor]:
        """Return the tables of pairs as `forward` takes them."""
        names = (f"{reach.name}_{part}" for reach in REACHES for part in ("neighbours", "weights"))
        return {name: self.mixture.get_buffer(name) for name in names}

    def forward(
        self, query: Tensor, gate: Tensor, recent: Tensor, catalog: Tensor, tables: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probabilities of the best items and their places in the catalog, (n, k) each, best first.

        Newcomers, whose indices lie above the catalog's, are in no list. Last comes, (n, RECENT), what each recent
        item has of its own, newcomers included.
        """
        own = self.mixture.own(recent) * gate[:, -1:].exp()
        if self.judge is None:
            mixed = self._mixed(query, gate, recent, catalog, tables)[0]
            listed = torch.topk(mixed, min(self.k, len(catalog)))
            return listed.values, listed.indices, own
        found = self.candidates(query, gate, recent, catalog, tables)
        mass = found.log_p.exp().sum(1, keepdim=True)
        p = mass * torch.softmax(found.log_p + self.judge(found.features, found.context), 1)
        best = torch.topk(p, min(self.k, p.shape[1]))
        return best.values, found.place.gather(1, best.indices), own

    def candidates(
        self, query: Tensor, gate: Tensor, recent: Tensor, catalog: Tensor, tables: dict[str, Tensor]
    ) -> Candidates:
        """Return the candidates of queries (n, D + POPULARITY) over a catalog (items, D + POPULARITY)."""
        mixed, answers, support = self._mixed(query, gate, recent, catalog, tables)
        p, place = torch.topk(mixed, min(CANDIDATES, len(catalog)))
        said = answers.gather(2, place[:, None].expand(-1, answers.shape[1], -1)).transpose(1, 2)
        # A place of -1, no item, is a place like any other until it is blanked; newcomers have none in the catalog.
        known = catalogued(recent, len(catalog))
        seen = catalog[(known - 1).clamp_min(0)] * (known > 0)[..., None]
        same = (place[..., None] + 1 == recent[:, None]).to(said.dtype)
        listed = catalog[place]
        alike = listed[..., :-POPULARITY] @ seen[..., :-POPULARITY].transpose(1, 2)
        features = describe(said, p, alike, same, listed[..., -POPULARITY:])
        context = surround(gate.exp(), support, recent, seen[:, 0, -POPULARITY:])
        return Candidates(place, features, context, torch.log(p.clamp_min(1e-9)))

    def _mixed(
        self, query: Tensor, gate: Tensor, recent: Tensor, catalog: Tensor, tables: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mixture of the answers, the answers, and their support."""
        answers, support = self.mixture.answers(query @ catalog.T, recent, tables)
        return (answers * gate.exp()[..., None]).sum(1), answers, support


def examples(network: Network, sequences: Sequences, run: Run) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what the judge learns from: features, context, log probabilities and the place of what came next.

    Only instances whose next item is among the candidates teach anything; at most `_MOST`, evenly spread.
    """
    ranking, device, rows = Ranking(network, run.meaning.k), network.popularity.device, []
    category_of = torch.tensor([0, *run.category_of], device=device)
    with torch.no_grad():
        catalog = network.catalog(torch.arange(1, len(category_of), device=device), category_of[1:])
        for batch in sequences.batches(_BUDGET, np.random.default_rng(0)):
            given = batch.to(str(device))
            state = network.state(len(given.item))
            out = network(given.item, given.category, given.type, given.numeric, **state)
            asked = given.target > 0
            recent = windows(state["recent"], given.item)[asked]
            parts = (part.split(_ROWS) for part in (out.query[asked], out.gate[asked], recent, given.target[asked]))
            for query, gate, ring, target in zip(*parts, strict=True):
                found = ranking.candidates(query, gate, ring, catalog, ranking.tables())
                hit = found.place + 1 == target[:, None]
                there = hit.any(1)
                rows.append(
                    [p[there].cpu() for p in (found.features, found.context, found.log_p, hit.float().argmax(1))]
                )
    columns = [list(column) for column in zip(*rows, strict=True)]
    rows.clear()
    n = sum(len(target) for target in columns[3])
    keep = torch.linspace(0, n - 1, min(_MOST, n)).long()
    # One column after the other: the features of a large log would else stand in memory three times.
    features, context, log_p, target = (torch.cat(columns.pop(0))[keep] for _ in range(4))
    return features, context, log_p, target
