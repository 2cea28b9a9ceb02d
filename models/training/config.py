"""How a model was trained: saved in the checkpoint, never an environment variable."""

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import torch

from models.heads.losses import LOSSES, SOFTMAX
from models.network.popularity import BASELINES
from stream.core.errors import SettingError
from stream.core.manifest import STATES

_Range = tuple[Callable[[float], bool], str]
_POSITIVE: _Range = (lambda value: value > 0, "a positive number")
_NOT_NEGATIVE: _Range = (lambda value: value >= 0, "a positive number, or 0")
_SHARE: _Range = (lambda value: 0 <= value < 1, "a number from 0 to below 1")
_RANGES: dict[str, _Range] = {
    "seed": (lambda value: 0 <= value < 2**63, "a whole number from 0 to below 2^63"),
    **dict.fromkeys(
        ("dimension", "epochs", "longest", "negatives", "lr", "clip", "scale", "purchase_weight"), _POSITIVE
    ),
    **dict.fromkeys(("batch_events", "weight_decay", "popularity_power"), _NOT_NEGATIVE),
    **dict.fromkeys(("item_weight", "intent_weight", "state_every"), _NOT_NEGATIVE),
    "intent_reach": (lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    **dict.fromkeys(("dropout", "unknown_rate", "judged", "intent_dropout", "averaging", "smoothing"), _SHARE),
}


PRESETS: dict[str, dict[str, Any]] = {
    "small": {"dimension": 64, "negatives": 2048},
    "base": {},
    "large": {"dimension": 192, "epochs": 4, "dropout": 0.3, "negatives": 8192},
}


LSTM = "lstm"
TIME, RANDOM = ORDERS = ("time", "random")
PAIRS, CHANCE = STARTS = ("pairs", "chance")
MODELS = (LSTM, *BASELINES)


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The dials of a training run; the defaults are the preset `base`."""

    model: str = LSTM
    seed: int = 0
    dimension: int = 128  # of hidden state and item vectors
    epochs: int = 3
    batch_events: int = 0  # padded events a step; 0: a hundredth of the log, from 256 to 4096
    longest: int = 256  # events a sequence; a longer history is cut
    lr: float = 4e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    dropout: float = 0.25
    scale: float = 14.0  # of the cosine
    loss: str = SOFTMAX  # of the next item, or bpr-max
    smoothing: float = 0.0  # of the next item's label
    negatives: int = 4096
    popularity_power: float = 0.75  # of the negatives' distribution
    order: str = TIME  # of the sequences in an epoch, or random
    start: str = PAIRS  # of the item vectors: what was seen together, or chance
    averaging: float = 0.0  # weights of the steps before count by this power in the network that is kept; 0: none
    prices: bool = False  # whether an item's price level has a vector
    unknown_rate: float = 0.05  # share of items hidden in training
    judged: float = (
        0.05  # latest share of the events, which the reranker learns from in a temporal holdout; 0: no reranker
    )
    item_weight: float = 1.0  # of the next item; 0: purchases alone are learned, and read nothing of the items
    intent_weight: float = 1.0
    purchase_weight: float = 1.0  # of a purchase among the labels; the calibration takes it back
    intent_dropout: float = 0.2  # inside the purchase head
    intent_reach: float = 0.1  # share of the purchases' gradient that the LSTM of items gets; 0: they do not read it
    device: str = "cpu"
    state_every: float = 30.0  # seconds between the states that a killed run resumes from

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise SettingError(f"there is no model {self.model!r}", f"the models are {', '.join(MODELS)}")
        if self.loss not in LOSSES:
            raise SettingError(f"there is no loss {self.loss!r}", f"the losses are {', '.join(LOSSES)}")
        if self.order not in ORDERS:
            raise SettingError(f"there is no order {self.order!r}", f"the orders are {', '.join(ORDERS)}")
        if self.start not in STARTS:
            raise SettingError(f"there is no start {self.start!r}", f"the starts are {', '.join(STARTS)}")
        for name, (good, allowed) in _RANGES.items():
            value = getattr(self, name)
            if not (good(value) and math.isfinite(value)):
                raise SettingError(f"{name} is {value}", f"give {allowed}")

    def budget(self, events: int) -> int:
        """Return the padded events of a step for a log of so many: a small log needs small steps to have enough."""
        return self.batch_events or min(max(events // 100, 256), 4096)


def check_device(name: str) -> None:
    """Raise SettingError where this machine lacks a device; a record of training elsewhere may still name it."""
    match = re.fullmatch(r"cpu|cuda(?::(\d{1,4}))?", name)
    if not match:
        raise SettingError(f"there is no device {name!r}", "use --device cpu, or --device cuda")
    if not name.startswith("cuda"):
        return
    if not torch.cuda.is_available():
        raise SettingError("there is no CUDA device here", "use --device cpu")
    if int(match[1] or 0) >= (count := torch.cuda.device_count()):
        raise SettingError(f"there is no {name}: this machine has {count} CUDA devices", "use --device cuda")


def check_state(name: str) -> None:
    """Raise SettingError for what is no stored type of the users' states."""
    if name not in STATES:
        raise SettingError(f"--state is {name!r}", f"give {' or '.join(STATES)}")
