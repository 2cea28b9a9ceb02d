"""Graphs along runs: what single steps say, state for state."""

import shutil
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from export.parity import random_histories
from export.unrolled import fold
from models.training.checkpoint import load
from stream.bundle.files import INTENT, ITEMS, PARITY, RUNS, STEP
from stream.bundle.onnx import TOLERANCE, Network
from stream.bundle.onnx import load as load_bundle
from stream.bundle.parity import difference

_loaded = cache(load_bundle)


def _worst(folder: Path, manifest) -> float:
    """Run the bundle's parity vectors."""
    with np.load(folder / PARITY) as vectors:
        return difference(Network(folder, manifest), dict(vectors))


def _steps(step, inputs, state):
    """Go by single steps from one shopper's state, which is rounded after each."""
    said, states = [], []
    for place in range(len(inputs["item"])):
        outputs, found = step({name: value[place : place + 1] for name, value in inputs.items()}, state)
        state = {name: found[name].astype(value.dtype) for name, value in state.items()}
        said.append(outputs)
        states.append(state)
    return tuple({name: np.concatenate([one[name] for one in parts]) for name in parts[0]} for parts in (said, states))


def _fresh(manifest):
    kinds = {name: "i4" if name in manifest.integers else manifest.state_dtype for name in manifest.hidden}
    return {name: np.zeros((1, *shape), kinds[name]) for name, shape in manifest.hidden.items()}


@pytest.fixture(scope="module")
def histories(run_folder: Path):
    """Give histories, one a row."""
    return random_histories(load(run_folder), seed=9)


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "bundle"))


def _agree(along, step, inputs, manifest):
    """Compare states, and what is said to the fifth digit: its sums are over the run."""
    said, after = along(inputs, _fresh(manifest))
    expected, states = _steps(step, inputs, _fresh(manifest))
    assert said.keys() == expected.keys()
    for name, value in states.items():
        assert after[name].dtype == value.dtype
        assert np.allclose(after[name], value, 2e-3, 2e-3), name
        assert np.mean(after[name] == value) > 0.99, name
    for name, value in expected.items():
        assert said[name] == pytest.approx(value, abs=1e-5), name


@settings(max_examples=20, deadline=None)
@given(row=st.integers(0, 15), length=st.integers(1, 24), recommend=st.booleans())
def test_a_run_is_its_single_steps(written: Path, histories, row, length, recommend):
    found = _loaded(written)
    step = found.asking_step if recommend else found.intent_step
    inputs = {name: value[row, :length] for name, value in histories.items()}
    _agree(found.along(recommend), step, inputs, found.manifest)


def test_states_may_be_kept_in_32_bits(copy: Path, histories):
    manifest = msgspec.structs.replace(load_bundle(copy).manifest, state_dtype="float32")
    fold(copy / STEP, "float32", copy / RUNS[STEP])
    network = Network(copy, manifest)

    def step(inputs, state):
        outputs, after = network.ask(inputs, state)
        return outputs, {name: value.astype(state[name].dtype) for name, value in after.items()}

    _agree(network.along(STEP), step, {name: value[5] for name, value in histories.items()}, manifest)


def test_runs_may_be_cut_anywhere(written: Path, histories):
    found = _loaded(written)
    inputs, along = {name: value[3] for name, value in histories.items()}, found.intent_along
    _, whole = along(inputs, _fresh(found.manifest))
    _, first = along({name: value[:10] for name, value in inputs.items()}, _fresh(found.manifest))
    state = {name: value[-1:] for name, value in first.items()}
    _, second = along({name: value[10:] for name, value in inputs.items()}, state)
    for name, value in whole.items():
        assert np.allclose(np.concatenate([first[name], second[name]]), value, 2e-3, 2e-3)


def test_the_items_are_kept_once(written: Path):
    """Four graphs read them from their file."""
    for name in (*RUNS, *RUNS.values()):
        tables = onnx.load(written / name, load_external_data=False).graph.initializer
        (items,) = (table for table in tables if table.name.endswith("item_vectors.weight"))
        assert items.data_location == onnx.TensorProto.EXTERNAL
        assert ITEMS in {entry.value for entry in items.external_data}


@pytest.mark.parametrize("name", [STEP, INTENT])
@pytest.mark.parametrize("part", ["rhythm.weight_hh_l0", "purchase.layers.0.bias"])
def test_a_graph_that_strays_is_found(name: str, part: str, copy: Path):
    """Fold another step than the one that is served: its state strays, or what it says."""
    manifest, other = load_bundle(copy).manifest, copy / "other.onnx"
    assert _worst(copy, manifest) <= TOLERANCE
    model = onnx.load(copy / name, load_external_data=False)
    (table,) = (table for table in model.graph.initializer if table.name.endswith(part))
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table) + np.float32(0.01), table.name))
    other.write_bytes(model.SerializeToString())
    fold(other, "float16", copy / RUNS[name])
    assert _worst(copy, manifest) > 10 * TOLERANCE


def test_what_is_not_by_event_cannot_be_folded(copy: Path):
    """Take the events' axis from all that the graph says of its values."""
    model = onnx.load(copy / STEP, load_external_data=False)
    for value in model.graph.value_info:
        for axis in value.type.tensor_type.shape.dim[:1]:
            axis.Clear()
    (copy / STEP).write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="is not by event"):
        fold(copy / STEP, "float16", copy / RUNS[STEP])
