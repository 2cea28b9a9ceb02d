"""Trained networks and counted baselines as steps of `stream.core.score`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from msgspec import UNSET

from models.network.lstm import Network
from models.network.ranking import Ranking, rows_of
from models.training.checkpoint import Checkpoint
from models.training.label_coverage import unlearned
from stream.core.features import NUMERIC, Arrays
from stream.core.manifest import Manifest
from stream.core.scoring import Step
from stream.recommend.cold_ranking import ByCategory


def describe(checkpoint: Checkpoint, dtype: str, **more: Any) -> Manifest:
    """Describe the step of a trained network, or of a baseline: the run's calibration is the network's alone."""
    run, state = checkpoint.run, checkpoint.network.state(1)
    more = {"unlearned": tuple(unlearned(run.data)) or UNSET} | more
    return Manifest(
        meaning=run.meaning,
        inputs=NUMERIC,
        hidden={name: tuple(tensor.shape[1:]) for name, tensor in state.items()},
        integers=tuple(name for name, tensor in state.items() if not tensor.is_floating_point()),
        state_dtype=dtype,
        calibration=(run.calibration if isinstance(checkpoint.network, Network) else {}) or UNSET,
        items=len(run.items),
        categories=len(run.categories),
        dimension=checkpoint.network.dimension,
        novelty=run.novelty,
        **more,
    )


def torch_step(checkpoint: Checkpoint, recommend: bool) -> Step:
    """Make a step of a trained network; with `recommend` it ranks the whole catalog exactly.

    It lists one item more than the model's k: a tie at the end of the list shows.
    """
    network, k = checkpoint.network.eval(), checkpoint.run.meaning.k + 1
    module, ranking = network.step().eval(), Ranking(network, k)
    device = next(network.buffers()).device
    categories = torch.tensor([0, *checkpoint.run.category_of], device=device)
    everything = torch.ones(len(categories), dtype=torch.bool, device=device)
    with torch.inference_mode():
        catalog = network.catalog(torch.arange(1, len(categories), device=device), categories[1:])

    def step(inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
        given = {name: torch.from_numpy(value).to(device) for name, value in inputs.items()}
        # A single user's state has its record's stride, which torch may refuse: numpy takes it for contiguous.
        given |= {name: _full(torch.from_numpy(value.copy())).to(device) for name, value in hidden.items()}
        with torch.inference_mode():
            found = module(**given)
            outputs = {"intent": found.intent}
            if recommend:
                rows = rows_of(len(catalog))
                parts = zip(*(part.split(rows) for part in (found.query, found.gate, found.recent)), strict=True)
                ranked = [ranking(*part, everything, catalog, ranking.tables()) for part in parts]
                outputs["item_scores"], places, own = (torch.cat(part) for part in zip(*ranked, strict=True))
                outputs["items"] = places + 1
                # What the ranking of cold items needs: see `stream.recommend.cold_ranking.ByCategory`.
                answers = {"query": found.query, "others": 1 - found.gate[:, -1].exp(), "own": own}
                outputs |= answers | {"recent": found.recent}
        return _numpy(outputs), _numpy({name: getattr(found, name) for name in hidden})

    return step


def weigh(checkpoint: Checkpoint) -> ByCategory | None:
    """Return how a model ranks cold items, None where nothing was fitted to them."""
    network, novelty = checkpoint.network, checkpoint.run.novelty
    if novelty is None or not isinstance(network, Network):
        return None
    return by_category(network, novelty.bias, novelty.price_edges or ())


def by_category(network: Network, bias: float, edges: tuple[float, ...]) -> ByCategory:
    """Rank cold items by a network's vectors of categories and, where it has them, of price levels."""
    vectors = network.category_vectors.weight.detach().cpu().numpy()
    if network.price_vectors is None or not edges:
        return ByCategory(vectors, bias)
    return ByCategory(vectors, bias, network.price_vectors.weight.detach().cpu().numpy(), edges)


def _full(state: torch.Tensor) -> torch.Tensor:
    """Return a stored tensor of the state in the precision that is calculated with."""
    return state.float() if state.is_floating_point() else state.long()


def _numpy(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
