"""Bundles that were crafted: each is refused with one message and its exit code, in little time and memory."""

import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from stream.bundle import files
from stream.bundle import onnx as runtime
from stream.core.errors import BundleError
from tests.stream.bundle.test_onnx import DEMO

MANIFEST = json.loads((DEMO / "manifest.json").read_text())
Change = Callable[[Path, dict[str, Any]], object]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "bundle"))


def _sign(folder: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with the hashes and the name that an export would have given it."""
    for name in manifest["files"]:
        if (folder / name).is_file():
            manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    named = {**manifest, "model": ""}
    try:
        content = json.dumps(named, sort_keys=True).encode()
    except RecursionError:
        content = b""
    manifest["model"] = hashlib.sha256(content).hexdigest()[:16]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _craft(folder: Path, change: Change) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(folder, manifest)
    _sign(folder, manifest)


def _vocabulary(**changes: Any) -> Change:
    def change(folder: Path, _: dict[str, Any]) -> None:
        ids = json.loads((folder / "vocabulary.json").read_text())
        ids |= {name: one(ids[name]) for name, one in changes.items()}
        (folder / "vocabulary.json").write_text(json.dumps(ids))

    return change


def _table(name: str, at: tuple[int, ...], value: float) -> Change:
    def change(folder: Path, _: dict[str, Any]) -> None:
        table = np.load(folder / name)
        table[at] = value
        np.save(folder / name, table)

    return change


def _parity(**changes: Any) -> Change:
    def change(folder: Path, _: dict[str, Any]) -> None:
        with np.load(folder / "parity.npz") as stored:
            vectors = {name: stored[name] for name in stored.files}
        vectors |= {name: one(vectors[name]) for name, one in changes.items()}
        np.savez(folder / "parity.npz", **vectors)

    return change


def _bomb(folder: Path, _: dict[str, Any]) -> None:
    """Write what inflates to 4 GiB."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (1 << 30,)})
    with (
        zipfile.ZipFile(folder / "parity.npz", "w", zipfile.ZIP_DEFLATED) as out,
        out.open("item.npy", "w", force_zip64=True) as file,
    ):
        file.write(head.getvalue())
        for _turn in range(1 << 6):
            file.write(bytes(1 << 20))


def _claim(name: str, shape: tuple[int, ...]) -> Change:
    """Let an array say that it is larger than its file."""

    def change(folder: Path, _: dict[str, Any]) -> None:
        with (folder / name).open("wb") as out:
            np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})

    return change


def _set(*path: Any, to: Any) -> Change:
    def change(_: Path, manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return change


def _swap(name: str, content: bytes) -> Change:
    return lambda folder, _: (folder / name).write_bytes(content)


def _pipe(folder: Path, _: dict[str, Any]) -> None:
    (folder / "catalog.npy").unlink()
    os.mkfifo(folder / "catalog.npy")


def _sparse(folder: Path, manifest: dict[str, Any]) -> None:
    os.truncate(folder / "catalog.npy", 1 << 40)
    manifest["files"] = {"catalog.npy": "0" * 64}


def _category_more(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["categories"] += 1
    _vocabulary(categories=lambda ids: [*ids, "more"], category_of=lambda of: [41, *of[1:]])(folder, manifest)
    table = np.load(folder / "categories.npy")
    np.save(folder / "categories.npy", np.concatenate([table, table[:1]]))


def _wide(folder: Path, _: dict[str, Any]) -> None:
    np.save(folder / "categories.npy", np.load(folder / "categories.npy").astype("f8"))


def _more(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "extra.bin").write_bytes(b"x")
    manifest["files"]["extra.bin"] = ""


def _rewired(name: str, output: str, node: str, given: list[str], values: dict[str, Any], **attributes: Any) -> Change:
    """Let a graph's output come from one more node, which takes what it was as `was`."""

    def change(folder: Path, _: dict[str, Any]) -> None:
        model = onnx.load(str(folder / name), load_external_data=False)
        for each in model.graph.node:
            each.output[:] = ["was" if one == output else one for one in each.output]
        model.graph.initializer.extend(numpy_helper.from_array(np.array(one), key) for key, one in values.items())
        model.graph.node.append(helper.make_node(node, given, [output], **attributes))
        onnx.save(model, str(folder / name))

    return change


def _body() -> onnx.GraphProto:
    """Return what a loop does at each turn."""
    numbers = onnx.TensorProto.INT64, onnx.TensorProto.BOOL, onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(*each) for each in zip("icx", numbers, ([], [], None), strict=True)]
    outputs = [helper.make_tensor_value_info(*each) for each in zip("dy", numbers[1:], ([], None), strict=True)]
    nodes = [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Sin", ["x"], ["y"])]
    return helper.make_graph(nodes, "body", inputs, outputs)


LOOP = _rewired("top.onnx", "scores", "Loop", ["n", "go", "was"], {"n": 1 << 62, "go": True}, body=_body())
CRAFTED: dict[str, tuple[Change, str]] = {
    "a vocabulary of another length": (_vocabulary(items=lambda ids: ids[:-1]), "1999 items"),
    "categories of another length": (_vocabulary(categories=lambda ids: [*ids, "more"]), "41 categories"),
    "an item twice": (_vocabulary(items=lambda ids: [ids[0], *ids[:-1]]), "item twice"),
    "a category twice": (_vocabulary(categories=lambda ids: [ids[0], *ids[:-1]]), "category twice"),
    "an item of no category": (_vocabulary(category_of=lambda of: [99, *of[1:]]), "category that is not there"),
    "an item that a terminal obeys": (_vocabulary(items=lambda ids: ["\x1b[2J", *ids[1:]]), r"which holds U\+001B"),
    "an item of 5,000,000 characters": (_vocabulary(items=lambda ids: ["x" * 5_000_000, *ids[1:]]), "more than 256"),
    "a category without end of its name": (_vocabulary(categories=lambda ids: ["x" * 257, *ids[1:]]), "more than 256"),
    "ids that are no text": (_vocabulary(items=lambda ids: [7, *ids[1:]]), "str"),
    "a ring of 2**40": (_set("meaning", "ring", to=1 << 40), "ring is up to 248"),
    "a ring that fits no byte": (_set("meaning", "ring", to=256), "ring is up to 248"),
    "a list of 2**40": (_set("meaning", "k", to=1 << 40), "k up to"),
    "a span of a million years": (_set("meaning", "ttl", to=1 << 60), "spans are up to"),
    "a horizon of a million years": (_set("meaning", "horizons", to=["99999999999d"]), "spans are up to"),
    "a horizon of many digits": (_set("meaning", "horizons", to=["9" * 5000 + "d"]), "no manifest"),
    "a type twice": (_set("meaning", "types", to=["view", "view", "transaction"]), "twice"),
    "more types than a byte": (_set("meaning", "types", to=["transaction", *map(str, range(300))]), "1 to 255 types"),
    "no horizon": (_set("meaning", "horizons", to=[]), "1 to 255 types and horizons"),
    "a state of 2**40": (_set("hidden", "h", to=[1 << 40]), "state has up to"),
    "a state of less than nothing": (_set("hidden", "h", to=[-4, -16]), "state has up to"),
    "a state named as a session's field": (_set("hidden", "model", to=[4]), "lack expected_model"),
    "a state of objects": (_set("state_dtype", to="O"), "float16 or float32"),
    "2**62 items": (_set("items", to=1 << 62), "items and categories"),
    "fewer than no items": (_set("items", to=-1), "items and categories"),
    "no columns": (_set("dimension", to=0), "columns"),
    "a half-life of nothing": (_set("novelty", "half_life", to=0), "half-life"),
    "newcomers without bound": (_set("novelty", "limit", to=1 << 40), "limit is 1 to"),
    "prices that fall": (_set("novelty", "price_edges", to=[2.0, 1.0]), "prices ascend"),
    "a calibration beyond numbers": (_set("calibration", "1h", to=[1e308, 1e308]), "calibration"),
    "arrays in arrays, 50,000 deep": (_swap("vocabulary.json", b"[" * 50_000), "no model that runs here"),
    "an inputs list that is empty": (_set("inputs", to=[]), "no model that runs here"),
    "a vector that is no number": (_table("catalog.npy", (0, 0), np.nan), "catalog.npy holds what is no number"),
    "a category without end": (_table("categories.npy", (1, 1), np.inf), "categories.npy holds what is no number"),
    "a neighbour that is not there": (_table("near_neighbours.npy", (3, 3), 1 << 30), "not there"),
    "a neighbour before all": (_table("far_neighbours.npy", (3, 3), -1), "not there"),
    "an array of 2**40": (_claim("catalog.npy", (1 << 40,)), "not the array"),
    "an array of sides below nothing": (_claim("catalog.npy", (-1, -1)), "not the array"),
    "an array of objects": (
        lambda folder, _: np.save(folder / "categories.npy", np.array([{}], object), allow_pickle=True),
        "not the array",
    ),
    "a zip bomb": (_bomb, "compressed"),
    "a zip that ends early": (
        lambda folder, _: _swap("parity.npz", (folder / "parity.npz").read_bytes()[:-40])(folder, {}),
        "no model that runs here",
    ),
    "a type more than the network": (_set("meaning", "types", to=["view", "addtocart", "transaction", "a"]), "Gather"),
    "a category more than the network": (_category_more, "Gather"),
    "lists longer than the ranking's": (_set("meaning", "k", to=10_000), "no lists"),
    "a bias beyond logits": (_set("novelty", "bias", to=1e308), "logits up to"),
    "a line beyond logits": (_set("novelty", "own", to=[1e308, -1e308]), "logits up to"),
    "a half-life of no time": (_set("novelty", "half_life", to=1e-300), "half-life"),
    "a calibration beyond logits": (_set("calibration", "1h", to=[1e300, -1e300]), "calibration"),
    "a category far away": (_table("categories.npy", (1, 1), 1e38), "beyond 10,000"),
    "categories of another type": (_wide, "categories.npy holds float64"),
    "a file that no bundle has": (_more, "lists extra.bin, which no bundle has"),
    "no parity vectors": (_parity(item=lambda a: a[:0]), "parity vectors are of the shape"),
    "parity of other horizons": (_parity(expected_intent=lambda a: a.repeat(2, 2)), "expected_intent"),
    "parity that is no number": (_parity(expected_query=lambda a: a * np.nan), "no number"),
    "parity of other rows": (_parity(numeric=lambda a: a[:3]), "numeric"),
    "parity of an item below all": (_parity(item=lambda a: a - 99), "parity vectors are of the shape"),
    "a graph of junk": (_swap("top.onnx", b"\x08\x07junk" * 99), "top.onnx"),
    "a graph of nothing": (_swap("step.onnx", b""), "step.onnx"),
    "a pipe for a file": (_pipe, "it is no file"),
    "a name to move the cursor": (_set("files", to={"\x1b[2J": "0" * 64}), "does not list"),
    "a field to move the cursor": (_set("\x1b[2J", to=1), r"unknown field"),
}


@pytest.mark.parametrize("what", CRAFTED)
def test_a_crafted_bundle_is_refused_with_one_message(copy: Path, what: str, capfd: pytest.CaptureFixture[str]):
    change, message = CRAFTED[what]
    _craft(copy, change)
    began = time.monotonic()
    with pytest.raises(BundleError, match=message) as caught:
        runtime.load(copy)
    assert time.monotonic() - began < 10
    assert caught.value.exit_code == 78
    said = caught.value.message
    assert len(said.splitlines()) == 1 and len(said) < 1000 and said.isprintable(), said
    assert "--bundle" in caught.value.remedy
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "raw",
    [
        b'{"format":4,"training":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"format":4,"training":{"a":' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"format":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"format":"\\u001b[2J"}',
        b'{"format":4,"items":1e999}',
        b"[" * 50_000,
        b"[4]",
        b"\xff\xfe",
        b"",
    ],
    ids=range(9),
)
def test_a_manifest_that_is_none_is_refused_with_one_message(copy: Path, raw: bytes):
    (copy / "manifest.json").write_bytes(raw)
    with pytest.raises(BundleError) as caught:
        runtime.load(copy)
    assert len(caught.value.message.splitlines()) == 1 and caught.value.message.isprintable()


def test_nesting_that_json_reads_and_does_not_write_is_refused(copy: Path):
    text = (copy / "manifest.json").read_text()
    deep = text.rstrip()[:-1] + ', "training": {"a": ' + "[" * 700 + "]" * 700 + "}}"
    (copy / "manifest.json").write_text(deep.replace('"training"', '"was"', 1).replace('"was"', '"training"', 1))
    with pytest.raises(BundleError):
        runtime.load(copy)


def test_a_file_without_end_is_refused_unread(copy: Path):
    _craft(copy, lambda folder, _: None)
    os.truncate(copy / "catalog.npy", 1 << 40)
    began = time.monotonic()
    with pytest.raises(BundleError, match="bytes"):
        runtime.load(copy)
    assert time.monotonic() - began < 5


def test_items_that_are_not_printable_are_loaded_where_such_ids_are_published(copy: Path):
    _craft(copy, _vocabulary(items=lambda ids: ["a\u00a0b", *ids[1:]]))
    with pytest.raises(BundleError, match=r"U\+00A0"):
        runtime.load(copy)
    assert runtime.load(copy, printable=False).vocabulary.items[0] == "a\u00a0b"


def test_files_are_bounded_together(monkeypatch: pytest.MonkeyPatch):
    sizes = [(DEMO / name).stat().st_size for name in MANIFEST["files"]]
    monkeypatch.setattr(files, "_ID_BYTES", 0)
    monkeypatch.setattr(files, "_BYTES", sum(sizes))
    runtime.load(DEMO)
    monkeypatch.setattr(files, "_BYTES", sum(sizes) - 1)
    with pytest.raises(BundleError, match=r"vocabulary.json cannot be read: it has .* are left of what such a bundle"):
        runtime.load(DEMO)


def test_the_command_ends_with_the_message_alone(copy: Path):
    """Run it as people do, with 6 GiB of memory: a traceback or a killed process is none."""
    for what in ("a zip bomb", "a ring of 2**40", "an array of 2**40"):
        shutil.rmtree(copy)
        shutil.copytree(DEMO, copy)
        _craft(copy, CRAFTED[what][0])
        found = subprocess.run(
            [sys.executable, "forecart.py", "score", "--bundle", str(copy)],
            input=b"",
            capture_output=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, 6 << 30)),
        )
        assert found.returncode == 78, found
        assert b"Traceback" not in found.stderr and b"BundleError" not in found.stderr
        assert found.stderr.count(b"\n") <= 3, found.stderr


def test_what_is_hashed_is_what_is_read(copy: Path):
    """Swap files in and out while the bundle is loaded again and again: none of the swapped is ever in use."""
    other = np.load(copy / "catalog.npy")
    whole, swapped = (copy / "catalog.npy").read_bytes(), io.BytesIO()
    np.save(swapped, other + 1)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for content in (swapped.getvalue(), whole):
                (copy / "next").write_bytes(content)
                (copy / "next").rename(copy / "catalog.npy")

    thread = threading.Thread(target=swap)
    thread.start()
    refused = loaded = 0
    given_ = {"query": np.ones((2, 66), "f4"), "gate": np.zeros((2, 4), "f4"), "recent": np.ones((2, 8), np.int64)}
    truth = runtime.exact_rank(runtime.session(DEMO / "top.onnx"), 2000)(*given_.values(), None, 20)
    opened = runtime.exact_rank
    ranks: list[Any] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(runtime, "exact_rank", lambda *given: ranks.append(opened(*given)) or ranks[-1])
    try:
        for _ in range(25):
            try:
                runtime.load(copy)
            except BundleError as error:
                assert "catalog.npy is not what was exported" in error.message
                refused += 1
                continue
            loaded += 1
            assert all(map(np.array_equal, ranks[-1](*given_.values(), None, 20), truth))
    finally:
        stop.set()
        thread.join()
        patch.undo()
    assert loaded


def test_a_graph_without_end_is_ended_and_its_copy_removed(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime, "SECONDS", 1.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _craft(copy, LOOP)
    began = time.monotonic()
    with pytest.raises(BundleError, match="had not ended after 1 s"):
        runtime.load(copy)
    assert time.monotonic() - began < 20
    assert list(tmp_path.iterdir()) == [copy]


def test_without_room_for_the_copy_the_remedy_is_room(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Bound the size of files, as a full disk does."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(BundleError) as caught:
            runtime.load(copy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"no room for a copy in {tmp_path}" in caught.value.message
    assert "TMPDIR" in caught.value.remedy


def test_without_a_place_for_the_copy_the_remedy_is_a_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    with pytest.raises(BundleError, match="no room for a copy in /proc/none") as caught:
        runtime.load(DEMO)
    assert "TMPDIR" in caught.value.remedy


def _mutated(draw: Callable[[Any], Any], value: Any) -> Any:
    """Change one thing somewhere in a manifest."""
    odd = st.one_of(
        st.integers(-(1 << 64), 1 << 64),
        st.sampled_from([0, -1, 1 << 31, 1 << 40, 1e308, -1e308, "", "x" * 5000, "\x1b", None, [], {}, True, "1h"]),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=9),
        st.recursive(st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=9),
    )
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        how = draw(st.sampled_from(["in", "in", "in", "in", "drop", "more"]))
        if how == "drop":
            return {k: v for k, v in value.items() if k != key}
        if how == "more":
            return {**value, draw(st.text(max_size=5)): draw(odd)}
        return {**value, key: _mutated(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 2)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _mutated(draw, value[at]), *value[at + draw(st.integers(0, 1)) :]]
    return draw(odd)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path_factory.mktemp("fuzz") / "bundle"))


def _load(folder: Path) -> None:
    """Load, or be refused with one message; nothing else may come of it."""
    began = time.monotonic()
    try:
        runtime.load(folder)
    except BundleError as error:
        assert len(error.message.splitlines()) == 1 and error.message.isprintable() and len(error.message) < 1000
    assert time.monotonic() - began < 20


@settings(max_examples=300)
@given(st.data())
def test_any_manifest_is_read_or_refused(place: Path, data: st.DataObject):
    manifest = _mutated(data.draw, MANIFEST)
    if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict):
        content = json.dumps({**manifest, "model": ""}, sort_keys=True)
        manifest = {**manifest, "model": hashlib.sha256(content.encode()).hexdigest()[:16]}
    (place / "manifest.json").write_text(json.dumps(manifest))
    _load(place)


@settings(max_examples=150)
@given(st.data())
def test_any_file_is_read_or_refused(place: Path, data: st.DataObject):
    """Change, cut and double bytes of a file that is then signed; graphs are the runtime's to read."""
    name = data.draw(st.sampled_from(sorted(name for name in MANIFEST["files"] if not name.endswith(".onnx"))))
    raw = bytearray((DEMO / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, min(300, len(raw) - 1)), st.integers(0, len(raw) - 1)))
        how, much = data.draw(st.sampled_from(["byte", "byte", "cut", "twice"])), data.draw(st.integers(1, 200))
        if how == "byte":
            raw[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del raw[at : at + much]
        else:
            raw[at:at] = raw[at : at + much]
        raw = raw or bytearray(b"\0")
    (place / name).write_bytes(raw)
    try:
        _sign(place, json.loads(json.dumps(MANIFEST)))
        _load(place)
    finally:
        shutil.copy(DEMO / name, place / name)
