"""A bundle's files: copied to a place of our own while they are hashed, so that what was hashed is what is read.

Nothing here trusts a file: each has a size that fits the manifest, arrays are as large as they say, numbers are finite.
"""

import hashlib
import json
import math
import re
import stat
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, ZipFile

import msgspec
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from stream.core.errors import BundleError
from stream.core.events import ID_LENGTH_MAX, odd
from stream.core.features import NUMERIC
from stream.core.manifest import FORMAT, Manifest, Vocabulary

STEP, TOP, CATALOG, CATEGORIES, PRICES, VOCABULARY, PARITY, MANIFEST = (
    *("step.onnx", "top.onnx", "catalog.npy", "categories.npy", "prices.npy", "vocabulary.json"),
    *("parity.npz", "manifest.json"),
)
INTENT = "intent.onnx"  # the step for purchases alone
RUNS = {STEP: "step_run.onnx", INTENT: "intent_run.onnx"}  # the same along many events of one user
ITEMS = "items.npy"  # the vectors of items that the steps read
INDEX, PRODUCT, LIST = "index.npz", "product.onnx", "list.onnx"  # of a large catalog
PAIRS = tuple(f"{reach}_{part}.npy" for reach in ("near", "far") for part in ("neighbours", "weights"))
_KNOWN = {STEP, TOP, CATALOG, CATEGORIES, PRICES, VOCABULARY, PARITY, INTENT, *RUNS.values(), ITEMS}
_KNOWN |= {INDEX, PRODUCT, LIST, *PAIRS}
REMEDY = "export the checkpoint again (forecart export), or point --bundle to a whole bundle"
ROOM = "give TMPDIR, where a bundle is copied to before it is read, room for the bundle"
_NAME = re.compile(r"(?!\.)[\w.-]{1,200}", re.ASCII)  # of a file that lies in the bundle's own folder
_BLOCK = 1 << 20
_MANIFEST_BYTES = 16 << 20
_BYTES, _ID_BYTES = 512 << 20, 16 << 10  # the files have so many at most together, and so many more for each id
_HEADER_BYTES = 10_000  # of an array
_NAMED = 40  # characters of an id
_SAID = 300  # characters of a message that come from outside


class Ids(msgspec.Struct, forbid_unknown_fields=True):
    """The vocabulary on disk."""

    items: list[str]
    categories: list[str]
    category_of: list[int]


def digest(manifest: Manifest) -> str:
    """Return the model's name: SHA-256 over the manifest, its own name left out, first 16 hex digits."""
    content = msgspec.to_builtins(msgspec.structs.replace(manifest, model=""))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def said(error: object) -> str:
    """Return a foreign message on one line, short, and without what a terminal would obey."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:_SAID])


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest; raise BundleError where it is none, or not the one that was exported."""
    path = folder / MANIFEST
    try:
        raw = _contents(path, _MANIFEST_BYTES)
    except OSError as error:
        raise BundleError(f"there is no bundle in {folder}: {MANIFEST}: {error.strerror}", REMEDY) from error
    try:
        form = msgspec.json.decode(raw).get("format")
        if form != FORMAT:
            raise BundleError(f"{folder} is a bundle of format {said(form)}, this version reads {FORMAT}", REMEDY)
        manifest = msgspec.json.decode(raw, type=Manifest)
        named = digest(manifest)
    except (msgspec.DecodeError, AttributeError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} is no manifest: {said(error)}", REMEDY) from error
    if named != manifest.model:
        raise BundleError(f"{path} was changed after the export", REMEDY)
    if manifest.inputs != NUMERIC[: len(manifest.inputs)]:
        raise BundleError(f"{folder} wants the inputs {manifest.inputs}, this version computes {NUMERIC}", REMEDY)
    _check_names(path, manifest)
    return manifest


def _check_names(path: Path, manifest: Manifest) -> None:
    """Check that what is needed is listed, and that nothing listed lies elsewhere."""
    novelty, files = manifest.novelty, manifest.files
    kinds = {CATEGORIES, *([PRICES] if novelty.price_edges else [])} if novelty else set()
    needed = {STEP, CATALOG, VOCABULARY, PARITY, *([INDEX, PRODUCT, LIST] if INDEX in files else [TOP])} | kinds
    if missing := needed - files.keys():
        raise BundleError(f"{path} does not list {', '.join(sorted(missing))}", REMEDY)
    for name in files:
        if not _NAME.fullmatch(name):
            raise BundleError(f"{path} lists {said(repr(name))}, which is no name of a file in it", REMEDY)
    if other := files.keys() - _KNOWN:
        raise BundleError(f"{path} lists {min(other)}, which no bundle has", REMEDY)


def copy(folder: Path, manifest: Manifest, own: Path) -> None:
    """Copy what the manifest lists, hashing what is written; raise BundleError for what is not as it was exported."""
    left = _BYTES + _ID_BYTES * (manifest.items + manifest.categories)
    for name, expected in manifest.files.items():
        try:
            with _opened(folder / name, left) as source:
                found = _hashed(source, own / name, left)
        except OSError as error:
            raise BundleError(f"{folder / name} cannot be read: {error.strerror}", REMEDY) from error
        if found != expected:
            raise BundleError(f"{folder / name} is not what was exported: its SHA-256 is {found[:16]}…", REMEDY)
        left -= (own / name).stat().st_size


def no_room(own: Path | str, error: OSError) -> BundleError:
    """Return the error for a place that takes no copy of a bundle."""
    return BundleError(f"no room for a copy in {own}: {said(error.strerror or error)}", ROOM)


def _hashed(source: BinaryIO, target: Path, most: int) -> str:
    """Copy at most so many bytes, even of a file that grows meanwhile."""
    found = hashlib.sha256()
    try:
        out = target.open("wb", buffering=0)
    except OSError as error:
        raise no_room(target.parent, error) from error
    with out:
        while most >= 0 and (block := source.read(_BLOCK)):
            found.update(block)
            most -= len(block)
            _write(out, block, target.parent)
    return found.hexdigest()


def _write(out: FileIO, block: bytes, own: Path) -> None:
    left = memoryview(block)
    try:
        while left:
            left = left[out.write(left) :]
    except OSError as error:
        raise no_room(own, error) from error


def _opened(path: Path, most: int) -> BinaryIO:
    """Open a file of at most so many bytes; raise OSError for a pipe too, which would let us wait for ever."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(0, "it is no file")
    if facts.st_size > most:
        raise OSError(0, f"it has {facts.st_size:,} bytes, {most:,} are left of what such a bundle may have")
    return path.open("rb")


def _contents(path: Path, most: int) -> bytes:
    with _opened(path, most) as file:
        return file.read(most)


def read_vocabulary(own: Path, manifest: Manifest, printable: bool = True) -> Vocabulary:
    """Read the ids; raise ValueError where they are not those that the manifest counts, each once and publishable."""
    ids = msgspec.json.decode((own / VOCABULARY).read_bytes(), type=Ids)
    for what, names, count in (
        ("items", ids.items, manifest.items),
        ("categories", ids.categories, manifest.categories),
        ("items' categories", ids.category_of, manifest.items),
    ):
        if len(names) != count:
            raise ValueError(f"{VOCABULARY} has {len(names)} {what}, the manifest {count}")
    for what, names in (("item", ids.items), ("category", ids.categories)):
        if len(set(names)) < len(names) or "" in names:
            raise ValueError(f"{VOCABULARY} has an {what} twice or without a name")
    _check_ids("item", ids.items, printable)
    _check_ids("category", ids.categories, printable=False)  # no score names one
    if ids.category_of and not 0 <= min(ids.category_of) <= max(ids.category_of) <= manifest.categories:
        raise ValueError(f"{VOCABULARY} has an item of a category that is not there")
    return Vocabulary(ids.items, ids.categories, ids.category_of)


def _check_ids(what: str, names: list[str], printable: bool) -> None:
    if max(map(len, names), default=0) > ID_LENGTH_MAX or (printable and not all(map(str.isprintable, names))):
        name = next(name for name in names if odd(name, printable=printable))
        raise ValueError(f"{VOCABULARY} has the {what} {name[:_NAMED]!r}, which {odd(name, printable=printable)}")


def check_tables(own: Path, manifest: Manifest) -> None:
    """Check each table: floats finite, indices those of items; raise ValueError. Graphs read the same files."""
    for name in manifest.files:
        if not name.endswith(".npy"):
            continue
        table = read_array(own / name)
        if table.dtype.kind in "iu" and not 0 <= table.min(initial=0) <= table.max(initial=0) <= manifest.items:
            raise ValueError(f"{name} names items that are not there")
        if name == CATALOG and (table.ndim != 2 or len(table) != manifest.items or table.dtype != np.float32):
            raise ValueError(f"{name} has the shape {table.shape}, the manifest {manifest.items} items")


def read_array(path: Path) -> NDArray[Any]:
    """Map the array of an npy file; raise ValueError where it is not as large as it says, or not finite."""
    with path.open("rb") as file:
        shape, fortran, dtype, at = _array(file, path.stat().st_size, path.name)
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    return _finite(np.asarray(np.memmap(path, dtype, "r", at, shape, "F" if fortran else "C")), path.name)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an npz file, which holds them as they are: what is compressed is refused unread."""
    arrays, size = {}, path.stat().st_size
    with ZipFile(path) as stored:
        members = stored.infolist()
        if any(member.compress_type != ZIP_STORED for member in members):
            raise ValueError(f"{path.name} is compressed")
        if sum(member.file_size for member in members) > size or len({m.filename for m in members}) < len(members):
            raise ValueError(f"{path.name} holds more than its {size:,} bytes")
        for member in members:
            with stored.open(member) as opened:
                shape, fortran, dtype, at = _array(opened, member.file_size, member.filename)
                values = np.frombuffer(opened.read(member.file_size - at), dtype)
            array = values.reshape(shape, order="F" if fortran else "C")
            arrays[member.filename.removesuffix(".npy")] = _finite(array, member.filename)
    return arrays


def _array(file: Any, size: int, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read the header of an array of numbers in so many bytes: its shape, order and type, and where it begins."""
    versions = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in versions:
        raise ValueError(f"{name} is an array of an unknown format")
    shape, fortran, dtype = versions[version](file, max_header_size=_HEADER_BYTES)
    at: int = file.tell()
    if dtype.kind not in "biuf" or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - at:
        raise ValueError(f"{name} is not the array of {dtype}, {shape}, that it says it is")
    return shape, fortran, dtype, at


def _finite(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.dtype.kind == "f":
        for rows in np.array_split(array, max(array.nbytes // _BLOCK, 1)) if array.ndim else [array]:
            if not np.isfinite(rows).all():
                raise ValueError(f"{name} holds what is no number")
    return array
