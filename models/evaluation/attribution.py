"""Why the network gives a score: integrated gradients (Sundararajan et al., 2017) by event and input field.

The path runs to a history's inputs from neutral ones: the vectors of the unknown item and category, which are
zero, that of the first type, and zeros for numbers. What each event adds is the sum over its fields, and all
together they are the score less that of the neutral inputs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import IntegratedGradients
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from models.data.log import Log
from models.data.sequences import Sequences
from models.heads.next_item import catalogued
from models.network.lstm import TYPE_DIMENSION, Network
from models.training.calibration import probabilities
from models.training.checkpoint import Checkpoint
from stream.core.errors import DataError, FaultError, SettingError
from stream.core.features import NUMERIC
from stream.core.ring import fields
from stream.explain.schema import Amounts, Explanation, Share

METHOD = "integrated gradients"
RELATIVE, ABSOLUTE = 0.01, 1e-3  # how far the sum of the parts may lie from what it is the sum of
_STEPS, _STEPS_MOST, _AT_ONCE = 32, 2048, 64  # points of the integral at first and at most, and in one batch
_TABLES = ("item_vectors.weight", "category_vectors.weight", "type_vectors.weight", "counters.marks")
_OF_ITEMS = ("mixture.", "popularity")  # buffers with a row for each item
Parts = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a history's inputs add to its last event's probability at one horizon; `parts` (T, fields)."""

    score: float
    baseline: float
    parts: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Return how far the parts' sum lies from score minus baseline, as a multiple of what is allowed."""
        whole = self.score - self.baseline
        return float(abs(self.parts.sum() - whole) / (RELATIVE * abs(whole) + ABSOLUTE))


def attribute(
    network: Network, history: dict[str, Tensor], horizon: int, intent: Callable[[Tensor], Tensor] = torch.sigmoid
) -> Attribution:
    """Attribute the last event's probability to a history's inputs, (T,) and numeric (T, numbers).

    `intent` makes probabilities of logits (..., horizons). The integral is taken at twice as many points until
    the parts add up to score minus baseline within 1 % plus 1e-3. Raises FaultError where they do not.
    """
    network = network.eval()
    ids = [history[name][None] for name in ("item", "category", "type")]
    ids[0] = catalogued(ids[0], len(network.popularity) - 1)  # a cold item's vector is the unknown item's
    with torch.no_grad():
        own = network.own_vectors(torch.arange(len(network.popularity)))
        tables = (own, network.category_vectors.weight, _types(network))
        given: Parts = (*(table[index] for table, index in zip(tables, ids, strict=True)), history["numeric"][None])
        score_of = _from_vectors(network, ids[0], ids[1], intent)
        types = _types(network)[torch.zeros_like(ids[2])]
        neutral: Parts = (*(torch.zeros_like(part) for part in given[:2]), types, torch.zeros_like(given[3]))
        score, baseline = (float(score_of(*parts)[0, horizon]) for parts in (given, neutral))
    gradients, steps = IntegratedGradients(score_of), _STEPS
    while steps <= _STEPS_MOST:
        found = gradients.attribute(given, neutral, target=horizon, n_steps=steps, internal_batch_size=_AT_ONCE)
        attribution = Attribution(score, baseline, _by_field(found))
        if attribution.error <= 1:
            return attribution
        steps *= 2
    raise FaultError(
        f"the integrated gradients do not add up after {_STEPS_MOST} points", "please report it with the checkpoint"
    )


def _from_vectors(
    network: Network, item: Tensor, category: Tensor, intent: Callable[[Tensor], Tensor]
) -> Callable[..., Tensor]:
    """Return the probabilities of the last event, (B, horizons), as a function of vectors and numbers, (B, T, ...).

    Each event gets rows of its own in the tables that the network looks up, so that whatever the network
    reads of an item, now or when it looks back, is that event's. Item and category (1, T) say what is unknown.
    """
    buffers = {name: table for name, table in network.named_buffers() if name.startswith(_OF_ITEMS)}

    def score(items: Tensor, categories: Tensor, types: Tensor, numeric: Tensor) -> Tensor:
        n, length = items.shape[:2]
        place = torch.arange(n * length).view(n, length)
        own = torch.cat([item.new_zeros(1), item[0].repeat(n)])
        rows = {name: table[own] for name, table in buffers.items()}
        of_type = torch.split(types.flatten(0, 1), [TYPE_DIMENSION, len(network.counters.marks)], 1)
        if network.price_vectors is not None:
            rows["price_level"] = torch.zeros_like(own)  # the item's vector has its price's already
        rows |= dict(zip(_TABLES, (_table(items), _table(categories), *of_type), strict=True))
        known = [torch.where(index > 0, place + 1, 0) for index in (item, category)]
        found = functional_call(network, rows, (*known, place, numeric), network.state(n))
        return intent(found.intent[:, -1])

    return score


def _types(network: Network) -> Tensor:
    """Return all that the network looks up of a type, (types, TYPE_DIMENSION + types)."""
    return torch.cat([network.type_vectors.weight, network.counters.marks], 1)


def _table(vectors: Tensor) -> Tensor:
    """Lay vectors (B, T, D) below each other, after the row of the unknown."""
    return torch.cat([vectors.new_zeros(1, vectors.shape[-1]), vectors.flatten(0, 1)])


def _by_field(parts: Parts) -> NDArray[np.float64]:
    """Sum over the vectors' dimensions: (T, fields)."""
    *vectors, numbers = (part[0].detach().numpy().astype(np.float64) for part in parts)
    columns = [vector.sum(1) for vector in vectors]
    groups = [group for group in fields(NUMERIC).values() if group]
    return np.stack([*columns, *(numbers[:, group].sum(1) for group in groups)], 1)


def explain(checkpoint: Checkpoint, log: Log, users: Sequence[str], everyone: bool, newest: int) -> list[Explanation]:
    """Explain the newest score of the given users, of all, or of the last event's, by their `newest` events.

    Raises DataError for a user who is not in the log.
    """
    index = {name: i for i, name in enumerate(log.users)}
    if missing := [user for user in users if user not in index]:
        raise DataError(f"the log has no event of the shopper {missing[0]!r}", "check --user: ids are those of the log")
    chosen = range(len(log.users)) if everyone else [index[user] for user in users]
    run = checkpoint.run
    prepared = Sequences(log, run.vocabulary, run.meaning, int(log.time.max()), run.config.longest)
    last = int(log.user[np.flatnonzero(log.time == log.time.max())[-1]])
    return [_explained(checkpoint, log, prepared, user, newest) for user in chosen or [last]]


def _explained(checkpoint: Checkpoint, log: Log, prepared: Sequences, user: int, newest: int) -> Explanation:
    network, meaning = checkpoint.network.eval(), checkpoint.run.meaning
    if not isinstance(network, Network):
        raise SettingError("a counted baseline has no gradients", "give the run of an LSTM")
    rows = np.flatnonzero(log.user == user)
    rows = rows[np.flatnonzero(prepared.numeric[rows, NUMERIC.index("fresh")])[-1] :]
    names = ("item", "category", "type", "numeric")
    whole = {name: torch.from_numpy(getattr(prepared, name)[rows]) for name in names}
    said = probabilities(checkpoint.run.calibration, meaning.horizons)
    with torch.inference_mode():
        found = network(**{name: value[None] for name, value in whole.items()}, **network.state(1))
        intent = said(found.intent[0, -1]).tolist()
    history = {name: value[-newest:] for name, value in whole.items()}
    found_by = [attribute(network, history, i, said) for i in range(len(meaning.horizons))]
    parts = np.stack([each.parts for each in found_by])  # (horizons, T, fields)

    def amounts(values: Iterable[float]) -> Amounts:
        return {horizon: round(float(value), 7) for horizon, value in zip(meaning.horizons, values, strict=True)}

    def by_field(values: NDArray[np.float64]) -> dict[str, Amounts]:
        return {name: amounts(values[:, i]) for i, name in enumerate(fields(NUMERIC))}

    shares = [
        Share(
            event_time=int(log.time[row]),
            type=log.types[log.type[row]],
            contribution=amounts(parts[:, t].sum(1)),
            item_id=log.items[log.item[row]],
            fields=by_field(parts[:, t]),
        )
        for t, row in enumerate(rows[-newest:].tolist())
    ]
    return Explanation(
        user_id=log.users[user],
        event_time=shares[-1].event_time,
        method=METHOD,
        intent=amounts(intent),
        explained=amounts(each.score for each in found_by),
        baseline=amounts(each.baseline for each in found_by),
        events=shares[::-1],
        fields=by_field(parts.sum(1)),
    )
