"""The trained network and the baselines as steps of `stream.core.score`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from models.checkpoint import Checkpoint
from models.counters import SPANS
from models.covisits import RECENT
from models.network import StepModule
from models.ranking import Ranking
from stream.core.features import NUMERIC, Arrays
from stream.core.manifest import Manifest, Meaning
from stream.core.scoring import Step

_ROWS = 256  # shoppers whose catalogs are ranked at once


def manifest(meaning: Meaning, items: int, categories: int, dimension: int, dtype: str, **more: Any) -> Manifest:
    """Describe a recurrent step of this size."""
    return Manifest(
        meaning=meaning,
        inputs=NUMERIC,
        hidden={
            "h": (dimension,),
            "c": (dimension,),
            "recent": (RECENT,),
            "counts": (len(SPANS) * len(meaning.types),),
        },
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
    module, ranking = StepModule(network), Ranking(network, k)
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
                ranked = [ranking(*part, catalog, ranking.tables()) for part in parts]
                outputs["item_scores"], places = (torch.cat(part) for part in zip(*ranked, strict=True))
                outputs["items"] = places + 1
        return _numpy(outputs), _numpy({"h": found.h, "c": found.c, "recent": found.recent, "counts": found.counts})

    return step


def _numpy(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
