"""The trained network and the baselines as steps of `stream.core.score`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from models.checkpoint import Checkpoint
from models.covisits import RECENT
from models.network import Network, Outputs, StepModule
from stream.core.features import NUMERIC, Arrays
from stream.core.manifest import Manifest, Meaning, Novelty
from stream.core.newcomers import ByCategory
from stream.core.scoring import Step

_ROWS = 512  # shoppers whose catalogs are ranked at once


def manifest(meaning: Meaning, items: int, categories: int, dimension: int, dtype: str, **more: Any) -> Manifest:
    """Describe a recurrent step of this size."""
    return Manifest(
        meaning=meaning,
        inputs=NUMERIC,
        hidden={"h": (dimension,), "c": (dimension,), "recent": (RECENT,)},
        integers=("recent",),
        state_dtype=dtype,
        items=items,
        categories=categories,
        dimension=dimension,
        **more,
    )


def torch_step(checkpoint: Checkpoint, recommend: bool) -> Step:
    """Make a step of a trained network; with `recommend` it ranks the whole catalog exactly."""
    network, k = checkpoint.network.eval(), checkpoint.run.meaning.k
    module = StepModule(network)
    device = network.item_vectors.weight.device
    categories = torch.tensor([0, *checkpoint.run.category_of], device=device)
    with torch.inference_mode():
        catalog = network.catalog(torch.arange(1, len(categories), device=device), categories[1:])

    def step(inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
        given = {name: torch.from_numpy(value).to(device) for name, value in (*inputs.items(), *hidden.items())}
        with torch.inference_mode():
            found = module(**given)
            outputs = {"intent": found.intent}
            if recommend:
                parts = zip(*(part.split(_ROWS) for part in (found.query, found.gate, found.recent)), strict=True)
                ranked = (network.mixture.rank(query @ catalog.T, gate, recent) for query, gate, recent in parts)
                best = [torch.topk(p, min(k, len(catalog))) for p in ranked]
                outputs["items"] = torch.cat([b.indices for b in best]) + 1
                outputs["item_scores"] = torch.cat([b.values for b in best])
                outputs |= answers(network, found)
        return _numpy(outputs), _numpy({"h": found.h, "c": found.c, "recent": found.recent})

    return step


def answers(network: Network, found: Outputs) -> dict[str, torch.Tensor]:
    """Return what the ranking of newcomers needs of a step, as `stream.core.newcomers.ByCategory` takes it."""
    ranking, own = found.gate[:, 0].exp(), network.mixture.own(found.gate, found.recent)
    return {"query": found.query, "ranking": ranking, "own": own, "recent": found.recent}


def weigh(checkpoint: Checkpoint) -> tuple[Novelty, ByCategory]:
    """Return how a trained network ranks newcomers."""
    novelty = checkpoint.run.novelty or Novelty(bias=0.0)
    with torch.inference_mode():
        return novelty, ByCategory(checkpoint.network.categories().cpu().numpy(), novelty.bias)


def _numpy(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
