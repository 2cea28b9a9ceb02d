"""The trained network as ONNX graphs: one step, and the exact top k over the catalog file."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.checkpoint import Checkpoint
from models.covisits import NEAR, OWN, RECENT, WIDTH, WINDOW
from models.network import StepModule
from stream.core.features import NUMERIC

_OPSET = 20


def write_step(checkpoint: Checkpoint, path: Path) -> None:
    """Export one step with a dynamic batch: inputs and state in, query, gate, intent and state out."""
    n, network = 3, checkpoint.network
    # Each input is a tensor of its own: the exporter takes one tensor given twice for one input.
    given = (*(torch.zeros(n, dtype=torch.long) for _ in range(3)), torch.zeros(n, len(NUMERIC)))
    state = network.state(n)
    batch = torch.export.Dim("batch", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own future changes
        torch.onnx.export(
            StepModule(network).eval(),
            (*given, *state.values()),
            str(path),
            input_names=["item", "category", "type", "numeric", *state],
            output_names=["query", "gate", "intent", *(f"{name}_next" for name in state)],
            dynamic_shapes=[{0: batch}] * (len(given) + len(state)),
            dynamo=True,
            external_data=False,
            verbose=False,
            opset_version=_OPSET,
        )
    _forget_origin(path)


def _forget_origin(path: Path) -> None:
    """Drop what the exporter notes of each node: stack traces with this machine's paths."""
    model = onnx.load(path)
    for holder in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
    onnx.save(model, path)


def write_top(path: Path, tables: dict[str, Path], k: int) -> None:
    """Write (query, gate, recent) -> (scores, items, own), best first, as `models.heads.Mixture.rank` has it.

    `own` (n, RECENT) is the probability that is each recent item's own share; newcomers, whose indices lie
    above the catalog's, are in no list here. The tables are npy files beside the graph, and stay there:
    `catalog` (items, D), `neighbours` and `weights` (items + 1, WIDTH).
    """
    items, dimension = np.load(tables["catalog"], mmap_mode="r").shape
    node, constants = helper.make_node, _constants(min(k, items), items)
    nodes = [
        node("Gemm", ["query", "catalog"], ["logits"], transB=1),
        node("Softmax", ["logits"], ["ranking"], axis=-1),
        node("Exp", ["gate"], ["shares"]),
        node("Split", ["shares"], ["of_ranking", "of_near", "of_own"], axis=1, num_outputs=3),
        node("Mul", ["ranking", "of_ranking"], ["own_ranking"]),
        # The recent items' neighbours; newcomers have none, like index 0.
        node("Greater", ["recent", "items_known"], ["new"]),
        node("Where", ["new", "nothing", "recent"], ["known"]),
        node("Slice", ["known", "zero", "window"], ["last_few"]),
        node("Gather", ["neighbours", "last_few"], ["near_index_3d"]),
        node("Reshape", ["near_index_3d", "flat"], ["near_index"]),
        node("Cast", ["near_index"], ["near_long"], to=TensorProto.INT64),
        node("Sub", ["near_long", "one"], ["near_place"]),
        node("Gather", ["weights", "last_few"], ["near_weight_3d"]),
        node("Mul", ["near_weight_3d", "fading_near"], ["near_faded_3d"]),
        node("Reshape", ["near_faded_3d", "flat"], ["near_faded"]),
        node("ReduceSum", ["near_faded", "one"], ["support"], keepdims=1),
        node("Max", ["support", "tiny"], ["some_support"]),
        node("Div", ["of_near", "some_support"], ["near_share"]),
        node("Mul", ["near_faded", "near_share"], ["near"]),
        node("ScatterElements", ["own_ranking", "near_place", "near"], ["with_near"], axis=1, reduction="add"),
        # The recent items themselves; index 0, no item, has no weight, and -1 is a place like any other.
        node("Greater", ["recent", "nothing"], ["there"]),
        node("Cast", ["there"], ["there_float"], to=TensorProto.FLOAT),
        node("Mul", ["there_float", "fading_own"], ["own_faded"]),
        node("ReduceSum", ["own_faded", "one"], ["own_sum"], keepdims=1),
        node("Max", ["own_sum", "tiny"], ["own_some"]),
        node("Div", ["of_own", "own_some"], ["own_share"]),
        node("Mul", ["own_faded", "own_share"], ["own"]),
        node("Sub", ["known", "one"], ["own_place"]),
        node("Where", ["new", "no_share", "own"], ["own_known"]),
        node("ScatterElements", ["with_near", "own_place", "own_known"], ["p"], axis=1, reduction="add"),
        node("TopK", ["p", "k"], ["scores", "items"], axis=1, largest=1, sorted=1),
    ]
    graph = helper.make_graph(
        nodes,
        "top",
        [
            helper.make_tensor_value_info("query", TensorProto.FLOAT, ["batch", dimension]),
            helper.make_tensor_value_info("gate", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("recent", TensorProto.INT64, ["batch", RECENT]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", min(k, items)]),
            helper.make_tensor_value_info("items", TensorProto.INT64, ["batch", min(k, items)]),
            helper.make_tensor_value_info("own", TensorProto.FLOAT, ["batch", RECENT]),
        ],
        [*(_external(name, file) for name, file in tables.items()), *constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path))


def _external(name: str, file: Path) -> TensorProto:
    """Describe the array of an npy file as a tensor that stays in it."""
    array = np.load(file, mmap_mode="r")
    tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    offset = file.stat().st_size - array.nbytes
    for key, value in (("location", file.name), ("offset", str(offset)), ("length", str(array.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _constants(k: int, items: int) -> list[TensorProto]:
    arrays: dict[str, NDArray[Any]] = {
        "k": np.array([k]),
        "zero": np.array([0, 0]),
        "window": np.array([np.iinfo(np.int64).max, WINDOW]),
        "one": np.array([1]),
        "nothing": np.array([0]),
        "items_known": np.array([items]),
        "no_share": np.array([0], np.float32),
        "flat": np.array([0, WINDOW * WIDTH]),
        "tiny": np.array([1e-6], np.float32),
        "fading_near": (NEAR ** np.arange(WINDOW, dtype=np.float32))[:, None],
        "fading_own": OWN ** np.arange(RECENT, dtype=np.float32),
    }
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]
