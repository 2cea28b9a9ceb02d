"""How a model was trained: saved in the checkpoint, never an environment variable."""

import msgspec
import torch

from stream.core.errors import SettingError


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The dials of a training run."""

    seed: int = 0
    dimension: int = 128  # of hidden state and item vectors
    epochs: int = 4
    batch_events: int = 0  # padded events a step; 0: a hundredth of the log, from 256 to 4096
    longest: int = 256  # events a sequence; a longer history is cut
    lr: float = 4e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    dropout: float = 0.2
    scale: float = 14.0  # of the cosine
    negatives: int = 8192
    popularity_power: float = 0.75  # of the negatives' distribution
    unknown_rate: float = 0.05  # share of items hidden in training
    intent_weight: float = 1.0
    device: str = "cpu"
    state_every: float = 30.0  # seconds between the states that a killed run resumes from

    def __post_init__(self) -> None:
        for name in ("dimension", "epochs", "longest", "negatives"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}", "give a positive number")
        if self.batch_events < 0:
            raise SettingError(f"batch_events is {self.batch_events}", "give a positive number, or 0")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise SettingError("there is no CUDA device here", "use --device cpu")

    def budget(self, events: int) -> int:
        """Return the padded events of a step for a log of so many: a small log needs small steps to have enough."""
        return self.batch_events or min(max(events // 100, 256), 4096)
