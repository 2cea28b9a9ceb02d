"""The list of items of a step: the mixture chooses candidates from the whole catalog, the reranker orders them."""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from models.data.cooccurrence import REACHES
from models.heads.next_item import POPULARITY, catalogued
from models.network.lstm import Network
from models.network.popularity import Baseline
from models.network.reranker import CANDIDATES, describe, surround

_ROWS, _CELLS = (16, 256), 1 << 21  # users ranked at once; their probabilities of items, which caches should hold
_NONE = -1e4  # the log of a probability of no item
_BARRED = -2.0  # below 0 whatever probability is added


class Candidates(NamedTuple):
    """The best of a step by the mixture: `place` (n, C) in the catalog, what the judge sees, `log_p` (n, C)."""

    place: Tensor
    features: Tensor
    context: Tensor
    log_p: Tensor


class Pool(NamedTuple):
    """What may be listed: `ranked` (n, m), probabilities of the ranking, and `mixed`, below 0 for what may not be.

    `place` (n, m) are their places in the catalog, None where they are all of it. `named` are the columns that each
    other answer names and what each adds to its probability; `support` is (n, reaches).
    """

    place: Tensor | None
    ranked: Tensor
    mixed: Tensor
    named: list[tuple[Tensor, Tensor]]
    support: Tensor

    @classmethod
    def of(
        cls,
        place: Tensor | None,
        ranked: Tensor,
        gate: Tensor,
        allowed: Tensor,
        named: list[tuple[Tensor, Tensor]],
        support: Tensor,
    ) -> Self:
        """Mix the answers by the log weights `gate`; `allowed` (m,) or (n, m) says what may be listed.

        The answers beside the ranking name few items: over all items only their sum is ever written.
        """
        weight = gate.exp()
        mixed = torch.addcmul(torch.where(allowed, 0.0, _BARRED), ranked, weight[:, :1])
        columns = torch.cat([column for column, _ in named], 1)
        shares = torch.cat([share * weight[:, [n]] for n, (_, share) in enumerate(named, 1)], 1)
        return cls(place, ranked, mixed.scatter_add_(1, columns, shares), named, support)

    def at(self, column: Tensor) -> Tensor:
        """Return the places of columns, (n, k)."""
        return column if self.place is None else self.place.gather(1, column)

    def said(self, column: Tensor) -> Tensor:
        """Return each answer's probabilities of at most 255 distinct columns a row, (n, k) to (n, k, ANSWERS)."""
        count = column.shape[1]
        slots = torch.arange(1, count + 1, dtype=torch.uint8, device=column.device).expand(column.shape)
        slot = torch.zeros_like(self.mixed, dtype=torch.uint8).scatter(1, column, slots)
        found = [self.ranked.gather(1, column)]
        for named, share in self.named:
            nothing = share.new_zeros(column.shape[0], count + 1)
            found.append(nothing.scatter_add(1, slot.gather(1, named).long(), share)[:, 1:])
        return torch.stack(found, -1)


def rows_of(items: int) -> int:
    """Return how many users to rank at once over so many items."""
    least, most = _ROWS
    return min(max(_CELLS // max(items, 1), least), most)


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
        self,
        query: Tensor,
        gate: Tensor,
        recent: Tensor,
        allowed: Tensor,
        catalog: Tensor,
        tables: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probabilities of the best items and their places in the catalog, (n, k) each, best first.

        `allowed` (items + 1,) says by index which items may be listed; places of -1 follow where there are fewer.
        Cold items, whose indices lie above the catalog's, are in no list. Last comes, (n, RECENT), what each recent
        item has of its own, cold items included.
        """
        pool = self._whole(query, gate, recent, allowed[1:], catalog, tables)
        return *self._list(pool, gate, recent, catalog), self._own(gate, recent)

    def candidates(
        self, query: Tensor, gate: Tensor, recent: Tensor, catalog: Tensor, tables: dict[str, Tensor]
    ) -> Candidates:
        """Return the candidates of queries (n, D + POPULARITY) over a catalog (items, D + POPULARITY)."""
        everything = torch.ones(len(catalog), dtype=torch.bool, device=catalog.device)
        return self._choose(self._whole(query, gate, recent, everything, catalog, tables), gate, recent, catalog)

    def _whole(
        self,
        query: Tensor,
        gate: Tensor,
        recent: Tensor,
        allowed: Tensor,
        catalog: Tensor,
        tables: dict[str, Tensor],
    ) -> Pool:
        named, support = self.mixture.named(recent, len(catalog), tables)
        return Pool.of(None, torch.softmax(query @ catalog.T, -1), gate, allowed, named, support)

    def _own(self, gate: Tensor, recent: Tensor) -> Tensor:
        return self.mixture.own(recent) * gate[:, -1:].exp()

    def _list(self, pool: Pool, gate: Tensor, recent: Tensor, catalog: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probabilities and the places of the best of a pool, in the reranker's order."""
        if self.judge is None:
            p, at = torch.topk(pool.mixed, min(self.k, pool.mixed.shape[1]))
            return p.clamp_min(0), pool.at(at).masked_fill(p < 0, -1)
        found = self._choose(pool, gate, recent, catalog)
        mass = found.log_p.exp().sum(1, keepdim=True)
        p = mass * torch.softmax(found.log_p + self.judge(found.features, found.context), 1)
        best = torch.topk(p, min(self.k, p.shape[1]))
        return best.values, found.place.gather(1, best.indices)

    def _choose(self, pool: Pool, gate: Tensor, recent: Tensor, catalog: Tensor) -> Candidates:
        p, at = torch.topk(pool.mixed, min(CANDIDATES, pool.mixed.shape[1]))
        said, place = pool.said(at), pool.at(at)
        # A place of -1, no item, is a place like any other until it is blanked; cold items have none in the catalog.
        known = catalogued(recent, len(catalog))
        seen = catalog[(known - 1).clamp_min(0)] * (known > 0)[..., None]
        same = (place[..., None] + 1 == recent[:, None]).to(said.dtype)
        listed = catalog[place]
        alike = listed[..., :-POPULARITY] @ seen[..., :-POPULARITY].transpose(1, 2)
        # The exporter drops what adds as little as 1e-9, so that a graph's log of 0 were infinite.
        features = describe(said, p.clamp_min(1e-9), alike, same, listed[..., -POPULARITY:])
        context = surround(gate.exp(), pool.support, recent, seen[:, 0, -POPULARITY:])
        log_p = torch.log(p.clamp_min(1e-9)).masked_fill(p < 0, _NONE)
        return Candidates(place.masked_fill(p < 0, -1), features, context, log_p)


class Listing(Ranking):
    """Rank, as `Ranking` does the whole catalog, what an index has found of it and what the tables name.

    An index gives the best by the query's product. Whatever else can be among the best of the mixture is a neighbour
    or a recent item, so nothing is missed.
    """

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        gate: Tensor,
        recent: Tensor,
        found: Tensor,
        log_mass: Tensor,
        allowed: Tensor,
        catalog: Tensor,
        tables: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `Ranking` does, places of -1 where there are fewer items.

        `found` (n, F) are places in the catalog, -1 where there are fewer, `log_mass` (n, 1) the log of the sum of
        the exponentials of all items' products, `allowed` (items + 1,) says by index which items may be listed.
        """
        named, support = self.mixture.named(recent, len(catalog), tables)
        place, slots = _distinct([found, *(place for place, _ in named)])
        known = place.clamp_min(0)
        logits = (catalog[known] @ query[..., None])[..., 0]
        columns = [(slot, share) for slot, (_, share) in zip(slots[1:], named, strict=True)]
        there = (place >= 0) & allowed[known + 1]
        pool = Pool.of(known, torch.exp(logits - log_mass), gate, there, columns, support)
        return *self._list(pool, gate, recent, catalog), self._own(gate, recent)


def _distinct(parts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the distinct places of the parts, (n, M) with -1 where there are fewer, and each part's slots."""
    place = torch.cat(parts, 1)
    ordered, order = place.sort(1)
    run = torch.cat([torch.zeros_like(order[:, :1]), (ordered[:, 1:] != ordered[:, :-1]).long()], 1).cumsum(1)
    slot = torch.zeros_like(order).scatter(1, order, run)
    distinct = torch.full_like(place, -1).scatter(1, slot, place)
    return distinct, list(torch.split(slot, [part.shape[1] for part in parts], 1))
