"""The trained network as ONNX graphs: one step, and the list of items over the files of the catalog."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from models.data.cooccurrence import RECENT
from models.heads.next_item import ANSWERS
from models.network.ranking import Listing, Ranking
from models.network.reranker import CANDIDATES
from models.training.checkpoint import Checkpoint
from stream.core.features import NUMERIC

_OPSET, _IR = 20, 10
_ROWS = 3  # of the examples that the exporter traces
_EVENT = ("item", "category", "type", "numeric")


def write_step(checkpoint: Checkpoint, path: Path) -> None:
    """Export one step with a dynamic batch: inputs and state in, query, gate, intent and state out."""
    network = checkpoint.network
    state = network.state(_ROWS)
    names = [*_EVENT, *state]
    found = ["query", "gate", "intent", *(f"{name}_next" for name in state)]
    _export(network.step(), dict(zip(names, (*_event(), *state.values()), strict=True)), names, found, path)
    _forget_origin(path)


class _Stored(torch.nn.Module):
    """A step that says nothing but purchases, and whose states are as they are stored."""

    def __init__(self, step: torch.nn.Module, floats: torch.dtype) -> None:
        super().__init__()
        self.step, self.floats = step, floats

    def forward(
        self,
        item: torch.Tensor,
        category: torch.Tensor,
        type: torch.Tensor,
        numeric: torch.Tensor,
        state: dict[str, torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """Return the intent and the next states."""
        full = {n: value.float() if value.is_floating_point() else value.long() for n, value in state.items()}
        found = self.step(item, category, type, numeric, **full)._asdict()
        after = (found[name] for name in state)
        stored = (v.to(self.floats) if v.is_floating_point() else v.int() for v in after)
        return found["intent"], *stored


def write_intent(checkpoint: Checkpoint, state_dtype: str, path: Path) -> None:
    """Export the step without what only lists need; states are in `state_dtype`, indices in 32 bits."""
    floats = getattr(torch, state_dtype)
    state = {
        name: value.to(floats) if value.is_floating_point() else value.int()
        for name, value in checkpoint.network.state(_ROWS).items()
    }
    given = dict(zip(_EVENT, _event(), strict=True))
    found = ["intent", *(f"{name}_next" for name in state)]
    module = _Stored(checkpoint.network.step(), floats)
    _export(module, given | {"state": state}, [*_EVENT, "state"], found, path)
    _forget_origin(path)


def share(path: Path, name: str, file: Path) -> None:
    """Move the table whose name ends so, if the graph has one, to an npy file beside it, where other graphs find it."""
    model = onnx.load(path)
    tables = list(model.graph.initializer)
    for place, table in enumerate(tables):
        if table.name.endswith(name):
            np.save(file, numpy_helper.to_array(table), allow_pickle=False)
            tables[place] = _external(table.name, file)
    del model.graph.initializer[:]
    model.graph.initializer.extend(tables)
    path.write_bytes(model.SerializeToString())


def _event() -> tuple[torch.Tensor, ...]:
    # Each input is a tensor of its own: the exporter takes one tensor given twice for one input.
    return *(torch.zeros(_ROWS, dtype=torch.long) for _ in range(3)), torch.zeros(_ROWS, len(NUMERIC))


def write_top(checkpoint: Checkpoint, tables: dict[str, Path], path: Path) -> None:
    """Export (query, gate, recent, allowed) -> (scores, items, own), best first: `models.network.ranking.Ranking`.

    The tables are npy files beside the graph, and stay there: `catalog` and, for each reach, `*_neighbours`
    and `*_weights`.
    """
    ranking = Ranking(checkpoint.network, max(checkpoint.run.meaning.k, CANDIDATES))
    _write_ranking(ranking, _asked(tables), _once(tables), tables, path)


def write_list(checkpoint: Checkpoint, tables: dict[str, Path], found: int, path: Path) -> None:
    """Export what lists the `found` best of an index: `models.network.ranking.Listing`, over the same files.

    It takes `found` (n, found), `log_mass` (n, 1) and `allowed` (items + 1,) too, and lists as many as it can judge.
    """
    listing = Listing(checkpoint.network, max(checkpoint.run.meaning.k, CANDIDATES))
    more = {"found": torch.zeros(_ROWS, found, dtype=torch.long), "log_mass": torch.ones(_ROWS, 1)}
    _write_ranking(listing, _asked(tables) | more, _once(tables), tables, path)


def write_product(path: Path) -> None:
    """Write (codes, query) -> products: bytes by signed bytes, in 32 bits (`stream.bundle.retrieval`)."""
    kinds = {"codes": (TensorProto.UINT8, ["m", "k"]), "query": (TensorProto.INT8, ["k", "q"])}
    given = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    found = [helper.make_tensor_value_info("products", TensorProto.INT32, ["m", "q"])]
    graph = helper.make_graph([helper.make_node("MatMulInteger", list(kinds), ["products"])], "product", given, found)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


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
    """Export a module; the first axis of the `batched` inputs is dynamic, that of each in a dictionary too."""
    batch = torch.export.Dim("batch", min=1)
    nested = {name: value for name, value in given.items() if isinstance(value, dict)}
    flat = [name for name in given if name not in nested] + [name for value in nested.values() for name in value]
    shapes: dict[str, Any] = {}
    for name in given:
        axes = {0: batch} if name in batched else None
        shapes[name] = dict.fromkeys(nested[name], axes) if name in nested else axes
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
