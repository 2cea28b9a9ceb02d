"""The bundle that the benchmarks serve: an LSTM of hidden size 128, trained briefly, made once and then reused.

Its speed is that of a bundle trained for long; its scores are of no use.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import onnx
import onnx.utils

from stream.bundle.files import MANIFEST, RUNS, STEP, VOCABULARY
from stream.bundle.onnx import load
from stream.core.errors import BundleError

_SHOPPERS = ("--shoppers", "2000", "--days", "7", "--seed", "1")
_TRAINING = ("--horizon", "1h", "--set", "epochs=1", "--set", "judged=0")


def cache() -> Path:
    """Return the folder that benchmarks keep things in between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forecart" / "benchmarks"


def bundle(dimension: int = 128) -> Path:
    """Return the folder of the bundle, made where there is none that this version reads."""
    folder = cache() / f"bundle-{dimension}"
    try:
        whole = {*RUNS, *RUNS.values()} <= load(folder).manifest.files.keys()
    except BundleError:
        whole = False
    if not whole:
        _make(folder, dimension)
        load(folder)
    return folder


def light(folder: Path, query: bool = False) -> Path:
    """Return a folder for who knows no bundles: ids, meaning, and the step with 32-bit states.

    The step is without what lists need, but for the `query` where it is asked for.
    """
    made = folder.with_name(f"{folder.name}-light")
    made.mkdir(exist_ok=True)
    step = onnx.load(folder / STEP)
    left = ("gate",) if query else ("gate", "query")
    wanted = [value.name for value in step.graph.output if value.name not in left]
    given = [value.name for value in step.graph.input]
    onnx.save(onnx.utils.Extractor(step).extract_model(given, wanted), made / STEP)
    for name in (MANIFEST, VOCABULARY):
        shutil.copy(folder / name, made)
    return made


def _make(folder: Path, dimension: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"making {folder}, once", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        log, run, made = (Path(name) / part for part in ("shoppers.jsonl", "run", "bundle"))
        with log.open("wb") as out:
            _forecart("shoppers", *_SHOPPERS, out=out)
        told = ("--format", "events", "--data", str(log), "--out", str(run), "--set", f"dimension={dimension}")
        _forecart("train", *told, *_TRAINING)
        _forecart("export", str(run), str(made))
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _forecart(*words: str, out: IO[bytes] | None = None) -> None:
    subprocess.run([sys.executable, "-m", "forecart", *words], check=True, stdout=out or sys.stderr)
