"""The trained network as ONNX graphs: one step, and the exact top k over the catalog file."""

import logging
import warnings
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper

from models.checkpoint import Checkpoint
from models.network import StepModule
from stream.core.features import NUMERIC

_OPSET = 20


def write_step(checkpoint: Checkpoint, path: Path) -> None:
    """Export one step with a dynamic batch: item, category, type, numeric, h, c in; query, intent, h, c out."""
    n, dimension = 3, checkpoint.network.dimension
    # Each input is a tensor of its own: the exporter takes one tensor given twice for one input.
    given = (*(torch.zeros(n, dtype=torch.long) for _ in range(3)), torch.zeros(n, len(NUMERIC)))
    given += (torch.zeros(n, dimension), torch.zeros(n, dimension))
    batch = torch.export.Dim("batch", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own future changes
        torch.onnx.export(
            StepModule(checkpoint.network).eval(),
            given,
            str(path),
            input_names=["item", "category", "type", "numeric", "h", "c"],
            output_names=["query", "intent", "h_next", "c_next"],
            dynamic_shapes=[{0: batch}] * len(given),
            dynamo=True,
            external_data=False,
            verbose=False,
            opset_version=_OPSET,
        )


def write_top(path: Path, catalog: str, offset: int, items: int, dimension: int, k: int) -> None:
    """Write query -> (scores, items), best first; the vectors stay in the catalog file, from `offset` on."""
    vectors = TensorProto(name="catalog", data_type=TensorProto.FLOAT, dims=[items, dimension])
    vectors.data_location = TensorProto.EXTERNAL
    length = items * dimension * 4
    for key, value in (("location", catalog), ("offset", str(offset)), ("length", str(length))):
        vectors.external_data.add(key=key, value=value)
    count = helper.make_tensor("k", TensorProto.INT64, [1], [min(k, items)])
    nodes = [
        helper.make_node("Gemm", ["query", "catalog"], ["logits"], transB=1),
        helper.make_node("TopK", ["logits", "k"], ["scores", "items"], axis=1, largest=1, sorted=1),
    ]
    graph = helper.make_graph(
        nodes,
        "top",
        [helper.make_tensor_value_info("query", TensorProto.FLOAT, ["batch", dimension])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", min(k, items)]),
            helper.make_tensor_value_info("items", TensorProto.INT64, ["batch", min(k, items)]),
        ],
        [vectors, count],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path))
