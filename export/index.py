"""An index for a large catalog, made to find what the exact answer holds, or refused."""

from pathlib import Path

import numpy as np
import torch

from export.graph import write_list, write_product
from export.parity import Vectors, expected
from models.data.cooccurrence import RECENT
from models.network.lstm import windows
from models.network.reranker import CANDIDATES
from models.training.checkpoint import Checkpoint
from stream.bundle import retrieval
from stream.bundle.files import CATALOG, INDEX, LIST, PRODUCT, TOP
from stream.bundle.onnx import exact_rank, product, session
from stream.bundle.retrieval import IndexedRank, Retrieval
from stream.core.errors import SettingError

CHOICES = AUTO, ALWAYS, NEVER = "auto", "always", "never"
MISSED = 1e-3  # of the exact answer's items, at most


def wanted(choice: str, items: int) -> bool:
    """Tell whether a catalog gets an index."""
    return choice == ALWAYS or (choice == AUTO and items > retrieval.EXACT)


def write(checkpoint: Checkpoint, tables: dict[str, Path], folder: Path) -> dict[str, float]:
    """Write index and list beside the bundle's other graphs; return the shares of the exact answers that they miss.

    Asked is what the run's own histories ask. Raises SettingError where more than `MISSED` is missed.
    """
    catalog = np.load(folder / CATALOG)
    found, k = max(CANDIDATES, checkpoint.run.meaning.k), checkpoint.run.meaning.k
    write_list(checkpoint, tables, found, folder / LIST)
    write_product(folder / PRODUCT)
    retrieval.write(retrieval.build(catalog), folder / INDEX)
    search = Retrieval(catalog, retrieval.read(folder / INDEX), product(folder / PRODUCT))
    asked = _asked(checkpoint)
    truth = retrieval.exact(asked["query"], catalog, found)[1]
    misses = {"items that the index misses": missed(search.search(asked["query"], found)[1], truth)}
    ranks = IndexedRank(search, session(folder / LIST).run, found), exact_rank(session(folder / TOP), len(catalog))
    listed, truth = (rank(asked["query"], asked["gate"], asked["recent"], None, k)[1] for rank in ranks)
    misses["items that lists by the index miss"] = missed(listed, truth)
    for name, share in misses.items():
        if not share <= MISSED:
            raise SettingError(f"{name}: {share:.2g}, allowed are {MISSED}", "export with --index never")
    return misses


def missed(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of the places in `truth` (q, n) that the same rows of `found` lack."""
    return 1 - float(np.mean([np.isin(*pair).mean() for pair in zip(truth, found, strict=True)]))


def _asked(checkpoint: Checkpoint) -> Vectors:
    """Return what the run's own histories ask for, each event's: query, gate and recent items."""
    histories = {name: tensor.numpy() for name, tensor in checkpoint.histories.items()}
    said = expected(checkpoint, histories)
    items = torch.from_numpy(histories["item"])
    recent = windows(torch.zeros(len(items), RECENT, dtype=torch.long), items).numpy()
    parts = {"query": said["expected_query"], "gate": said["expected_gate"], "recent": recent}
    return {name: np.ascontiguousarray(part.reshape(-1, part.shape[-1])) for name, part in parts.items()}
