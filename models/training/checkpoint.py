"""A training run on disk: arrays in npz, facts in JSON, nothing pickled, every file replaced whole."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import msgspec
import numpy as np
import torch
from torch import Tensor

from models.data.log import Log, price_levels, type_order, vocabulary
from models.files import replace_file
from models.network.lstm import Network
from models.network.popularity import Baseline
from models.training.config import LSTM, TrainConfig
from stream.core.errors import CheckpointError, SettingError
from stream.core.manifest import ColdStart, TaskSpec, Vocabulary

WEIGHTS, STATE, HISTORIES, RUN, CURVE = "weights.npz", "resume.npz", "histories.npz", "run.json", "loss.png"
_FACTS = "facts"


class Run(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The facts of a run: how it was trained, what it means, on which data, how it went."""

    config: TrainConfig
    meaning: TaskSpec
    items: list[str]
    categories: list[str]
    category_of: list[int]
    price_level: list[int] = []  # of the items, 0: no price; empty where none has one
    price_edges: list[float] = []  # between the levels
    data: dict[str, Any] = {}
    calibration: dict[str, tuple[float, float]] = {}
    novelty: ColdStart | None = None
    epochs: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}

    @classmethod
    def over(cls, log: Log, config: TrainConfig, meaning: TaskSpec, data: dict[str, Any] | None = None) -> Self:
        """Set out to train on a log: its items, categories, price levels and types."""
        vocab = vocabulary(log)
        level, edges = price_levels(log.known_prices[np.unique(log.item)])
        return cls(
            config=config,
            meaning=msgspec.structs.replace(meaning, types=type_order(log.types)),
            items=vocab.items,
            categories=vocab.categories,
            category_of=vocab.category_of[1:].tolist(),
            price_level=level,
            price_edges=edges,
            data=data or {},
        )

    def identity(self) -> dict[str, Any]:
        """Return, as JSON keeps it, what an interrupted run must share with the one that takes it up."""
        vocabulary = msgspec.json.encode((self.items, self.categories, self.category_of, self.price_level))
        facts = {"config": self.config, "data": self.data, "meaning": self.meaning}
        kept: dict[str, Any] = msgspec.json.decode(
            msgspec.json.encode(facts | {"vocabulary": hashlib.sha256(vocabulary).hexdigest()})
        )
        return kept

    @property
    def edges(self) -> tuple[float, ...]:
        """Return what divides the levels of price that the network knows, nothing where it knows none."""
        return tuple(self.price_edges) if self.config.prices else ()

    @property
    def vocabulary(self) -> Vocabulary:
        """Index the run's items and categories."""
        return Vocabulary(self.items, self.categories, self.category_of)

    def network(self) -> Network:
        """Make the run's network, untrained."""
        return Network(
            items=len(self.items),
            categories=len(self.categories),
            types=len(self.meaning.types),
            horizons=self.meaning.horizons,
            dimension=self.config.dimension,
            dropout=self.config.dropout,
            scale=self.config.scale,
            intent_dropout=self.config.intent_dropout,
            intent_reach=self.config.intent_reach if self.config.item_weight else 0.0,
            price_level=self.price_level if self.config.prices else (),
        )

    def baseline(self) -> Baseline:
        """Make the run's baseline, which has counted nothing yet."""
        return Baseline(len(self.items), len(self.meaning.horizons))


@dataclass(slots=True)
class Checkpoint:
    """A finished run in memory; `histories` are some training sequences, (n, T), for the parity check."""

    network: Network | Baseline
    run: Run
    histories: dict[str, Tensor]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
    """Write named tensors and JSON-able facts, readable without pickle."""
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    arrays[_FACTS] = np.frombuffer(msgspec.json.encode(facts), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    replace_file(path, buffer.getbuffer())


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read what `save_tensors` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != _FACTS}
        return tensors, msgspec.json.decode(arrays[_FACTS].tobytes())


def finish(folder: Path, run: Run) -> None:
    """Mark a run as finished: its facts stand beside its weights, and it can no longer be resumed."""
    replace_file(folder / RUN, msgspec.json.format(msgspec.json.encode(run), indent=1))
    (folder / STATE).unlink(missing_ok=True)


def load(folder: Path, device: str = "cpu") -> Checkpoint:
    """Read a finished run; raise CheckpointError with what is missing."""
    try:
        run = msgspec.json.decode((folder / RUN).read_bytes(), type=Run)
        network = run.network() if run.config.model == LSTM else run.baseline()
        network.load_state_dict(load_tensors(folder / WEIGHTS)[0])
        histories = load_tensors(folder / HISTORIES)[0]
    except FileNotFoundError as error:
        unfinished = " (the run was interrupted: train again with the same --out to go on)"
        hint = unfinished if (folder / STATE).exists() else ""
        raise CheckpointError(f"{error.filename} is missing{hint}", "name the folder that train --out wrote") from error
    except SettingError as error:
        raise CheckpointError(f"{folder} is no readable run: {error.message}", "train again") from error
    except (ValueError, RuntimeError, KeyError, OSError, EOFError, BadZipFile, msgspec.DecodeError) as error:
        raise CheckpointError(f"{folder} is no readable run: {error}", "train again") from error
    return Checkpoint(network.to(device).eval(), run, histories)
