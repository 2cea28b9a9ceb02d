"""A bundle on disk becomes a step: hashes checked, schema checked, parity replayed. The only home of onnxruntime."""

import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Read at its import: else it writes an identifier to disk and reports the process and its models over the network.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

from stream.bundle.files import (
    CATALOG,
    CATEGORIES,
    INDEX,
    INTENT,
    LIST,
    PARITY,
    PRICES,
    PRODUCT,
    REMEDY,
    RUNS,
    STEP,
    TOP,
    check_tables,
    copy,
    no_room,
    read_array,
    read_arrays,
    read_manifest,
    read_vocabulary,
    said,
)
from stream.bundle.parity import check_bounds, check_lists, check_vectors, difference
from stream.bundle.retrieval import IndexedRank, Product, Retrieval, read
from stream.core.errors import BundleError
from stream.core.features import Arrays
from stream.core.manifest import LARGEST, Manifest, Vocabulary
from stream.core.scoring import Step
from stream.recommend.cold_ranking import ByCategory, Weigh
from stream.recommend.list_filters import Rank, Rules, lists

TOLERANCE = 1e-5
SECONDS = 60.0  # that the graphs of a bundle may take until it is loaded
_SILENT = 4  # onnxruntime's errors are ours to tell
_ROWS = 256  # users that step, or whose catalogs are ranked, at once: what stands in between stays in caches
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model ready to score: what it means, its ids, and its step with and without recommendations."""

    manifest: Manifest
    vocabulary: Vocabulary
    intent_step: Step
    recommending_step: Step
    weigh: Weigh | None = None  # how cold items are ranked; None: only the catalog is
    asking_step: Step | None = None  # with what `lists` needs; None: the recommending step lists by itself
    lists: Callable[[Mapping[str, NDArray[Any]], Rules], Arrays] | None = None
    replay: Callable[[], float] | None = None  # the parity vectors once more: the largest difference
    intent_along: Step | None = None  # along runs; None: they go by single steps
    asking_along: Step | None = None

    def step(self, recommend: bool) -> Step:
        """Choose the step."""
        return self.recommending_step if recommend else self.intent_step

    def along(self, recommend: bool) -> Step | None:
        """Choose the step along runs, which asks where it recommends."""
        return self.asking_along if recommend else self.intent_along


class Limit:
    """What ends the graphs of a bundle, in the middle of their work or of being opened."""

    def __init__(self) -> None:
        self.opening, self.running = onnxruntime.SessionOptions(), onnxruntime.RunOptions()
        self.opening.intra_op_num_threads = self.opening.inter_op_num_threads = 1
        self.opening.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.opening.log_severity_level = self.running.log_severity_level = _SILENT

    def end(self) -> None:
        """End what they do, and whatever they begin later."""
        self.opening.set_load_cancellation_flag(True)
        self.running.terminate = True


_NEVER = Limit()  # of graphs that nothing ends


def load(folder: Path, printable: bool = True) -> Bundle:
    """Load a bundle; raise BundleError that says which file, hash, schema or parity fails.

    Items whose ids are not `printable` are refused, unless such ids are published.
    """
    manifest = read_manifest(folder)
    # Whoever writes to the folder meanwhile changes nothing of what is read; maps of it outlast its files.
    with _place() as own:
        copy(folder, manifest, Path(own))
        bundle, worst = _checked(folder, Path(own), manifest, printable)
    if not worst <= TOLERANCE:
        raise BundleError(f"{folder} scores differently here: parity is {worst:.2g}, allowed are {TOLERANCE}", REMEDY)
    return bundle


def _place() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="forecart-bundle-")
    except OSError as error:
        raise no_room(tempfile.tempdir or "the temporary folder", error) from error


def _checked(folder: Path, own: Path, manifest: Manifest, printable: bool) -> tuple[Bundle, float]:
    """Open the copy of a bundle and compare it with its parity vectors, in bounded time."""
    limit = Limit()
    timer = threading.Timer(SECONDS, limit.end)
    timer.daemon = True
    timer.start()
    try:
        bundle = _opened(own, manifest, printable, limit)
        return bundle, bundle.replay() if bundle.replay else 0.0
    except Exception as error:  # onnxruntime's own errors share no base class but this one
        if limit.running.terminate:
            raise BundleError(f"{folder}: its graphs had not ended after {SECONDS:.0f} s", REMEDY) from error
        raise BundleError(f"{folder} holds no model that runs here: {said(error)}", REMEDY) from error
    finally:
        timer.cancel()


def _opened(own: Path, manifest: Manifest, printable: bool, limit: Limit) -> Bundle:
    """Open a bundle whose hashes were checked; raise ValueError where its files do not fit each other."""
    vocabulary = read_vocabulary(own, manifest, printable)
    check_tables(own, manifest)
    vectors = read_arrays(own / PARITY)
    check_vectors(vectors, manifest)
    step, weigh = Network(own, manifest, limit), _weigh(own, manifest)
    check_bounds(step, manifest)
    check_lists(step, vectors, manifest)
    replay = partial(difference, step, vectors)
    steps = step.intent, step.recommend, weigh, step.ask, step.lists
    return Bundle(manifest, vocabulary, *steps, replay, step.along(INTENT), step.along(STEP))


def _weigh(own: Path, manifest: Manifest) -> Weigh | None:
    novelty = manifest.novelty
    if novelty is None:
        return None
    vectors = _vectors(own / CATEGORIES, manifest.categories + 1, manifest)
    if not novelty.price_edges:
        return ByCategory(vectors, novelty.bias)
    prices = _vectors(own / PRICES, len(novelty.price_edges) + 2, manifest)
    return ByCategory(vectors, novelty.bias, prices, novelty.price_edges)


def _vectors(path: Path, rows: int, manifest: Manifest) -> Floats:
    found: Floats = read_array(path)
    if found.shape != (rows, manifest.dimension) or found.dtype != np.float32:
        raise ValueError(f"{path.name} holds {found.dtype} of the shape {found.shape}")
    if max(-found.min(), found.max()) > LARGEST:
        raise ValueError(f"{path.name} holds numbers beyond {LARGEST:,.0f}")
    return found


class Network:
    """The two graphs of a bundle: one step of the LSTM, and the exact top k of the catalog."""

    def __init__(self, folder: Path, manifest: Manifest, limit: Limit = _NEVER) -> None:
        self.hidden, self._shapes = tuple(manifest.hidden), manifest.hidden
        self._kinds = {n: np.dtype("i4" if n in manifest.integers else manifest.state_dtype) for n in self.hidden}
        self._next = tuple(f"{name}_next" for name in self.hidden)
        self._step, self._k = session(folder / STEP, limit), manifest.meaning.k
        self._intent = session(folder / INTENT, limit) if INTENT in manifest.files else None
        self._runs = {name: session(folder / run, limit) for name, run in RUNS.items() if run in manifest.files}
        self._running = limit.running
        self._rank = (
            _indexed_rank(folder, manifest, limit)
            if INDEX in manifest.files
            else exact_rank(session(folder / TOP, limit), manifest.items, limit)
        )

    def fresh(self, n: int) -> Arrays:
        """Return the states of `n` new users as they are stored."""
        return {name: np.zeros((n, *shape), self._kinds[name]) for name, shape in self._shapes.items()}

    def intent(self, inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
        """Step without recommendations, with the states as they are stored."""
        if self._intent is None:  # a bundle from before there was a graph for it
            state = _full(hidden)
        else:
            state = {name: value.astype(self._kinds[name], copy=False) for name, value in hidden.items()}
        intent, *after = self._run(self._intent or self._step, ("intent", *self._next), {**inputs, **state})
        return {"intent": intent}, dict(zip(self.hidden, after, strict=True))

    def recommend(self, inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
        """Step and rank the whole catalog."""
        outputs, state = self.whole(inputs, hidden)
        recent: Any = state["recent"]
        scores, items, own = self._rank(outputs["query"], outputs["gate"], recent, None, self._k)
        listed = {"intent": outputs["intent"], "items": items, "item_scores": scores}
        answers = {"query": outputs["query"], "others": 1 - np.exp(outputs["gate"][:, -1])}
        return listed | answers | {"own": own, "recent": state["recent"]}, state

    def ask(self, inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
        """Step, and say what `lists` needs."""
        outputs, state = self.whole(inputs, hidden)
        return {**outputs, "recent": state["recent"]}, state

    def along(self, name: str) -> Step | None:
        """Return what a graph does along runs: `intent` or `ask` of many events; None where the bundle has no graph."""
        graph, said = self._runs.get(name), ("intent", "query", "gate")[: 1 if name == INTENT else 3]
        if graph is None:
            return None

        def along(inputs: Arrays, hidden: Arrays) -> tuple[Arrays, Arrays]:
            state = {f"{n}_start": value.astype(self._kinds[n], copy=False) for n, value in hidden.items()}
            found = graph.run((*said, *(f"{n}_after" for n in self.hidden)), {**inputs, **state}, self._running)
            outputs, after = (
                dict(zip(said, found, strict=False)),
                dict(zip(self.hidden, found[len(said) :], strict=True)),
            )
            return outputs if name == INTENT else outputs | {"recent": after["recent"].astype(np.int64)}, after

        return along

    def pairs(self) -> list[tuple[Step, Step]]:
        """Return the steps along runs, each with the step that it should agree with."""
        pairs = ((self.along(INTENT), self.intent), (self.along(STEP), self.ask))
        return [(along, step) for along, step in pairs if along]

    def lists(self, answers: Mapping[str, NDArray[Any]], rules: Rules) -> Arrays:
        """Rank the catalog by the rules for rows of what `ask` says and the items that were `bought`, (n, b)."""
        query, gate = answers["query"], answers["gate"]
        scores, items, own = lists(self._rank, query, gate, answers["recent"], answers["bought"], rules, self._k)
        return {"items": items, "item_scores": scores, "others": 1 - np.exp(gate[:, -1]), "own": own}

    def whole(self, inputs: Arrays, hidden: Arrays) -> tuple[Mapping[str, NDArray[Any]], Arrays]:
        """Step and return the query and its gate as they are."""
        names = ("intent", "query", "gate")
        found = self._run(self._step, (*names, *self._next), {**inputs, **_full(hidden)})
        return dict(zip(names, found, strict=False)), dict(zip(self.hidden, found[len(names) :], strict=True))

    def _run(self, graph: onnxruntime.InferenceSession, names: tuple[str, ...], given: Arrays) -> list[NDArray[Any]]:
        return _parted(graph, names, given, {}, self._running)


def exact_rank(top: onnxruntime.InferenceSession, items: int, limit: Limit = _NEVER) -> Rank:
    """Rank by the graph that compares with every one of `items`."""
    everything = np.ones(items + 1, np.bool_)

    def rank(
        query: Floats, gate: Floats, recent: Ints, allowed: NDArray[np.bool_] | None, k: int
    ) -> tuple[Floats, Ints, Floats]:
        given: Arrays = {"query": query, "gate": gate, "recent": recent}
        once = {"allowed": everything if allowed is None else allowed}
        scores, places, own = _parted(top, ("scores", "items", "own"), given, once, limit.running)
        return scores[:, :k], places[:, :k] + 1, own

    return rank


def _parted(
    graph: onnxruntime.InferenceSession,
    names: tuple[str, ...],
    given: Arrays,
    once: Arrays,
    running: onnxruntime.RunOptions,
) -> list[NDArray[Any]]:
    """Run a graph on some rows after others, so that what it works with stays small; `once` is not by row."""
    n = len(next(iter(given.values())))
    parts = [
        graph.run(names, {name: rows[at : at + _ROWS] for name, rows in given.items()} | dict(once), running)
        for at in range(0, max(n, 1), _ROWS)
    ]
    return parts[0] if len(parts) == 1 else [np.concatenate(part) for part in zip(*parts, strict=True)]


def _full(state: Arrays) -> dict[str, NDArray[Any]]:
    """Return the state in the precision that is calculated with."""
    return {n: v.astype(np.int64 if v.dtype.kind == "i" else np.float32, copy=False) for n, v in state.items()}


def _indexed_rank(folder: Path, manifest: Manifest, limit: Limit = _NEVER) -> Rank:
    catalog = read_array(folder / CATALOG)
    listing = session(folder / LIST, limit)
    found: int = next(given.shape[1] for given in listing.get_inputs() if given.name == "found")
    run = partial(listing.run, run_options=limit.running)
    return IndexedRank(Retrieval(catalog, read(folder / INDEX), product(folder / PRODUCT, limit)), run, found)


def product(path: Path, limit: Limit = _NEVER) -> Product:
    """Open the graph that multiplies bytes, which writes where it is told."""
    graph = session(path, limit)
    binding = graph.io_binding()

    def multiply(codes: NDArray[np.uint8], query: NDArray[np.int8], products: NDArray[np.int32]) -> None:
        binding.bind_cpu_input("codes", codes)
        binding.bind_cpu_input("query", query)
        binding.bind_output("products", "cpu", 0, np.int32, products.shape, products.ctypes.data)
        graph.run_with_iobinding(binding, limit.running)

    return multiply


def session(path: Path, limit: Limit = _NEVER) -> onnxruntime.InferenceSession:
    """Open a graph as a worker does, on one thread that does not spin; raise ValueError where it is none."""
    try:
        return onnxruntime.InferenceSession(str(path), limit.opening, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no base class but this one
        raise ValueError(f"{path.name}: {error}") from error
