"""The trained network as ONNX graphs: one step, and the list of items over the files of the catalog."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from models.checkpoint import Checkpoint
from models.covisits import RECENT
from models.heads import ANSWERS
from models.judge import CANDIDATES
from models.ranking import Listing, Ranking
from stream.core.features import NUMERIC

_OPSET = 20
_ROWS = 3  # of the examples that the exporter traces


def write_step(checkpoint: Checkpoint, path: Path) -> None:
    """Export one step with a dynamic batch: inputs and state in, query, gate, intent and state out."""
    n, network = 3, checkpoint.network
    # Each input is a tensor of its own: the exporter takes one tensor given twice for one input.
    given = (*(torch.zeros(n, dtype=torch.long) for _ in range(3)), torch.zeros(n, len(NUMERIC)))
    state = network.state(n)
    names = ["item", "category", "type", "numeric", *state]
    found = ["query", "gate", "intent", *(f"{name}_next" for name in state)]
    _export(network.step(), dict(zip(names, (*given, *state.values()), strict=True)), names, found, path)
    _forget_origin(path)


def write_top(checkpoint: Checkpoint, tables: dict[str, Path], path: Path) -> None:
    """Export (query, gate, recent, allowed) -> (scores, items, own), best first: `models.ranking.Ranking`.

    The tables are npy files beside the graph, and stay there: `catalog` and, for each reach, `*_neighbours`
    and `*_weights`.
    """
    ranking = Ranking(checkpoint.network, max(checkpoint.run.meaning.k, CANDIDATES))
    _write_ranking(ranking, _asked(tables), _once(tables), tables, path)


def write_list(checkpoint: Checkpoint, tables: dict[str, Path], found: int, path: Path) -> None:
    """Export what lists the `found` best of an index: `models.ranking.Listing`, over the same files.

    It takes `found` (n, found), `log_mass` (n, 1) and `allowed` (items + 1,) too, and lists as many as it can judge.
    """
    listing = Listing(checkpoint.network, max(checkpoint.run.meaning.k, CANDIDATES))
    more = {"found": torch.zeros(_ROWS, found, dtype=torch.long), "log_mass": torch.ones(_ROWS, 1)}
    _write_ranking(listing, _asked(tables) | more, _once(tables), tables, path)


def _asked(tables: dict[str, Path]) -> dict[str, torch.Tensor]:
    width = np.load(tables["catalog"], mmap_mode="r").shape[1]
    recent = torch.ones(_ROWS, RECENT, dtype=torch.long)
    return {"query": torch.zeros(_ROWS, width), "gate": torch.zeros(_ROWS, ANSWERS), "recent": recent}


def _once(tables: dict[str, Path]) -> dict[str, torch.Tensor]:
    return {"allowed": torch.ones(len(np.load(tables["catalog"], mmap_mode="r")) + 1, dtype=torch.bool)}


def _write_ranking(
    ranking: Ranking, asked: dict[str, Any], once: dict[str, Any], tables: dict[str, Path], path: Path
) -> None:
    """Export a ranking of what is `asked` by row and given `once`; the tables stay in their files."""
    arrays = {name: torch.from_numpy(np.load(file)) for name, file in tables.items()}
    catalog = arrays.pop("catalog")
    given = asked | once | {"catalog": catalog, "tables": arrays}
    _export(ranking, given, list(asked), ["scores", "items", "own"], path)
    _forget_origin(path)
    model = onnx.load(path)
    kept = [value for value in model.graph.input if value.name not in tables]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(_external(name, file) for name, file in tables.items())
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path))


def _export(module: torch.nn.Module, given: dict[str, Any], batched: list[str], found: list[str], path: Path) -> None:
    """Export a module; the first axis of the `batched` inputs is dynamic."""
    batch = torch.export.Dim("batch", min=1)
    nested = {name: value for name, value in given.items() if isinstance(value, dict)}
    flat = [name for name in given if name not in nested] + [name for value in nested.values() for name in value]
    shapes = {name: {0: batch} if name in batched else dict.fromkeys(nested.get(name, ())) or None for name in given}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own future changes
        torch.onnx.export(
            module.eval(),
            kwargs=given,
            f=str(path),
            input_names=flat,
            output_names=found,
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=False,
            verbose=False,
            opset_version=_OPSET,
        )


def _forget_origin(path: Path) -> None:
    """Drop what the exporter notes of each node: stack traces with this machine's paths."""
    model = onnx.load(path)
    for holder in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
    onnx.save(model, path)


def _external(name: str, file: Path) -> TensorProto:
    """Describe the array of an npy file as a tensor that stays in it."""
    array = np.load(file, mmap_mode="r")
    tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    offset = file.stat().st_size - array.nbytes
    for key, value in (("location", file.name), ("offset", str(offset)), ("length", str(array.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return tensor
