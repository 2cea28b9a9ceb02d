"""A checkpoint becomes a bundle: written beside its place, checked, then moved there whole."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import UNSET

from export import index as indices
from export.graph import share, write_intent, write_step, write_top
from export.index import NEVER
from export.parity import check, random_histories
from export.unrolled import fold
from models.evaluation.torch_step import describe, weigh
from models.network.ranking import Ranking
from models.training.checkpoint import Checkpoint
from stream.bundle.files import (
    CATALOG,
    CATEGORIES,
    INTENT,
    ITEMS,
    MANIFEST,
    PARITY,
    PRICES,
    RUNS,
    STEP,
    TOP,
    VOCABULARY,
    Ids,
    digest,
    read_vocabulary,
    said,
)
from stream.bundle.onnx import Network
from stream.core.errors import BundleError
from stream.core.manifest import Manifest

_TRAIN = "train again, on the log or on what prepare makes of it now: events with such ids are left out"


def write(
    checkpoint: Checkpoint, target: Path, state_dtype: str, index: str = NEVER, *, any_intent: bool = False
) -> Manifest:
    """Write the bundle to a folder that is not there yet, with an index of the catalog where one is asked for.

    The intent of a horizon that has learned from no purchase is not published, unless `any_intent`. Raise ParityError,
    BundleError, or SettingError for an index that misses, and leave nothing.
    """
    if target.exists():
        raise BundleError(f"{target} exists", "a bundle is never overwritten: give another folder, or delete it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as name:
        folder = Path(name) / "bundle"
        folder.mkdir()
        manifest = _fill(folder, checkpoint, state_dtype, index, **({"unlearned": UNSET} if any_intent else {}))
        folder.rename(target)
    return manifest


def _fill(folder: Path, checkpoint: Checkpoint, state_dtype: str, index: str, **facts: Any) -> Manifest:
    run, network = checkpoint.run, checkpoint.network.cpu().eval()
    category = torch.tensor(run.category_of)
    with torch.inference_mode():
        catalog = network.catalog(torch.arange(1, len(run.items) + 1), category).numpy()
    newcomers = weigh(checkpoint)
    pairs = Ranking(network, run.meaning.k).tables()
    tables = {CATALOG: catalog, **{f"{name}.npy": table.numpy() for name, table in pairs.items()}}
    kinds = {CATEGORIES: newcomers.vectors} if newcomers else {}
    if newcomers and newcomers.edges:
        kinds[PRICES] = newcomers.prices
    for name, table in (tables | kinds).items():
        np.save(folder / name, np.ascontiguousarray(table), allow_pickle=False)
    write_step(checkpoint, folder / STEP)
    write_intent(checkpoint, state_dtype, folder / INTENT)
    for step, along in RUNS.items():
        share(folder / step, "item_vectors.weight", folder / ITEMS)
        fold(folder / step, state_dtype, folder / along)
    files = {name.removesuffix(".npy"): folder / name for name in tables}
    write_top(checkpoint, files, folder / TOP)
    (folder / VOCABULARY).write_bytes(msgspec.json.encode(Ids(run.items, run.categories, run.category_of)))
    manifest = describe(checkpoint, state_dtype, training=_training(checkpoint), files=_hashes(folder), **facts)
    try:
        read_vocabulary(folder, manifest)
    except ValueError as error:
        raise BundleError(f"no worker would load this bundle: {said(error)}", _TRAIN) from error
    runtime = Network(folder, manifest)
    real = {name: tensor.numpy() for name, tensor in checkpoint.histories.items()}
    parity, vectors = check(checkpoint, runtime, {"random": random_histories(checkpoint), "real": real})
    if indices.wanted(index, len(catalog)):
        parity |= indices.write(checkpoint, files, folder)
    np.savez(folder / PARITY, **vectors)  # type: ignore[arg-type]  # its own keywords are never names of vectors
    manifest = msgspec.structs.replace(manifest, files=_hashes(folder), parity=parity)
    manifest = msgspec.structs.replace(manifest, model=digest(manifest))
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return manifest


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _training(checkpoint: Checkpoint) -> dict[str, object]:
    run = checkpoint.run
    return {"config": msgspec.to_builtins(run.config), "data": run.data, "metrics": run.metrics}
