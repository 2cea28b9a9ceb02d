"""A step's graph becomes that of a run: many events of one user in order, its state handed from each to the next.

What depends on no state is calculated of all events at once before, what no next state depends on at once after:
the same nodes as in the step, whose batch is then the run. Only the rest goes event by event, in a Scan of a batch of
one. States are rounded to their stored type after each event, as a session keeps them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

_AXIS = "fold_axis"


@dataclass(frozen=True, slots=True)
class _Parts:
    """The step's nodes before, within and after the Scan, and what goes into it and comes out by event."""

    before: list[NodeProto]
    within: list[NodeProto]
    after: list[NodeProto]
    given: list[str]
    found: list[str]


def fold(step: Path, state_dtype: str, target: Path) -> None:
    """Write the graph of runs beside that of a step: events (n, ...) and one state in, outputs and states of each out.

    States are named `*_start` (1, ...) and `*_after` (n, ...), in `state_dtype`, indices in 32 bits. Tables that the
    step keeps in other files stay there.
    """
    model = onnx.load(step, load_external_data=False)
    graph = model.graph
    values = {value.name: value for value in (*graph.input, *graph.output, *graph.value_info)}
    states = [value.name.removesuffix("_next") for value in graph.output if value.name.endswith("_next")]
    parts, stored = _parted(graph, states), {name: _stored(values[name], state_dtype) for name in states}
    each = [*parts.found, *(f"{name}_after" for name in states)]
    scan = helper.make_node(
        "Scan",
        [f"{name}_start" for name in states] + [f"{name}_rows" for name in parts.given],
        [f"{name}_last" for name in states] + [f"{name}_rows" for name in each],
        body=_event(parts, values, stored),
        num_scan_inputs=len(parts.given),
    )
    rows = [helper.make_node("Unsqueeze", [name, _AXIS], [f"{name}_rows"]) for name in parts.given]
    flat = [helper.make_node("Squeeze", [f"{name}_rows", _AXIS], [name]) for name in each]
    inputs = [value for value in graph.input if value.name not in states]
    outputs = [value for value in graph.output if not value.name.endswith("_next")]
    inputs += [_value(f"{name}_start", kind, [1, *_shape(values[name])]) for name, kind in stored.items()]
    outputs += [_value(f"{name}_after", kind, [None, *_shape(values[name])]) for name, kind in stored.items()]
    tables = [*graph.initializer, helper.make_tensor(_AXIS, TensorProto.INT64, [1], [1])]
    nodes = [*parts.before, *rows, scan, *flat, *parts.after]
    model.graph.CopyFrom(helper.make_graph(nodes, "run", inputs, outputs, tables))
    target.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(target))


def _parted(graph: onnx.GraphProto, states: list[str]) -> _Parts:
    nexts = [f"{name}_next" for name in states]
    moved, varying = set(states), {value.name for value in graph.input}  # by the state; from event to event
    for node in graph.node:
        for known in (moved, varying):
            if known.intersection(node.input):
                known.update(node.output)
    needed = set(nexts)
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
    before: list[NodeProto] = []
    within: list[NodeProto] = []
    after: list[NodeProto] = []
    for node in graph.node:
        part = before if not moved.intersection(node.output) else within if needed.intersection(node.output) else after
        part.append(node)
    made, read = _outputs(within) | set(states), {name for node in after for name in node.input}
    given = {name for node in within for name in node.input} | set(nexts)
    read |= {value.name for value in graph.output} - set(nexts)
    return _Parts(before, within, after, sorted(given & varying - made), sorted(made & read))


def _event(parts: _Parts, values: dict[str, ValueInfoProto], stored: dict[str, int]) -> onnx.GraphProto:
    """Make the Scan's graph: its own names end in `_here`, all others are of the graph around it."""
    own = _outputs(parts.within) | set(parts.given) | set(stored)
    nodes = [helper.make_node("Cast", [f"{n}_kept_here"], [f"{n}_here"], to=_kind(values[n])) for n in stored]
    for node in parts.within:
        here = NodeProto()
        here.CopyFrom(node)
        here.input[:] = [f"{name}_here" if name in own else name for name in node.input]
        here.output[:] = [f"{name}_here" for name in node.output]
        nodes.append(here)
    nodes += [helper.make_node("Cast", [f"{n}_next_here"], [f"{n}_then_here"], to=kind) for n, kind in stored.items()]
    # What is given out by event has a name of its own, also where it is handed on as well.
    nodes += [helper.make_node("Identity", [f"{name}_here"], [f"{name}_out_here"]) for name in parts.found]
    nodes += [helper.make_node("Identity", [f"{name}_then_here"], [f"{name}_after_here"]) for name in stored]
    one = {name: [1, *_shape(values[name])] for name in (*parts.given, *parts.found, *stored)}
    inputs = [_value(f"{name}_kept_here", kind, one[name]) for name, kind in stored.items()]
    inputs += [_value(f"{name}_here", _kind(values[name]), one[name]) for name in parts.given]
    outputs = [_value(f"{name}_then_here", kind, one[name]) for name, kind in stored.items()]
    outputs += [_value(f"{name}_out_here", _kind(values[name]), one[name]) for name in parts.found]
    outputs += [_value(f"{name}_after_here", kind, one[name]) for name, kind in stored.items()]
    return helper.make_graph(nodes, "event", inputs, outputs)


def _outputs(nodes: Iterable[NodeProto]) -> set[str]:
    return {name for node in nodes for name in node.output}


def _kind(value: ValueInfoProto) -> int:
    return value.type.tensor_type.elem_type


def _stored(value: ValueInfoProto, dtype: str) -> int:
    """Return the type that a state is kept in."""
    whole = _kind(value) in (TensorProto.INT32, TensorProto.INT64)
    return TensorProto.INT32 if whole else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _shape(value: ValueInfoProto) -> list[int]:
    """Return the shape of one event's part; raise ValueError where the first axis is not the events'."""
    first, *rest = value.type.tensor_type.shape.dim
    if not first.dim_param:
        raise ValueError(f"{value.name} is not by event, and cannot go into a run")
    return [axis.dim_value for axis in rest]


def _value(name: str, kind: int, shape: list[int | None] | list[int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
