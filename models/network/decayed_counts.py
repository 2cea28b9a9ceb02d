"""What a user did, counted by type at several paces: state that forgets exponentially with time."""

import torch
from torch import Tensor, nn

SPANS = (300.0, 3_600.0, 6 * 3_600.0, 86_400.0, 7 * 86_400.0)  # seconds in which a count falls to 1/e
PACES = (30.0, 120.0, 300.0, 3_600.0, 86_400.0)  # seconds likewise, of what a pause leaves of the event before


class DecayedCounts(nn.Module):
    """Count events by type in `SPANS`: a linear recurrence, the same in whole sequences and in steps."""

    spans: Tensor
    marks: Tensor  # (types, types): what one event of a type adds
    paces: Tensor

    def __init__(self, types: int) -> None:
        super().__init__()
        self.types = types
        self.register_buffer("spans", torch.tensor(SPANS), persistent=False)
        self.register_buffer("marks", torch.eye(types), persistent=False)
        self.register_buffer("paces", torch.tensor(PACES), persistent=False)

    @property
    def width(self) -> int:
        """Return the counts of a user."""
        return self.types * len(SPANS)

    def forward(self, counts: Tensor, type: Tensor, log_gap: Tensor) -> Tensor:
        """Return the counts after one event each: (n, types * spans), from those before, (n,) types and pauses."""
        fade = torch.exp(-_seconds(log_gap)[:, None] / self.spans)
        return counts * fade.repeat_interleave(self.types, 1) + self._one(type)

    def over(self, counts: Tensor, type: Tensor, log_gap: Tensor) -> Tensor:
        """Return the counts after each event of sequences, (B, T, types * spans), of (B, T) types and pauses."""
        fade = torch.exp(-_seconds(log_gap)[..., None] / self.spans).repeat_interleave(self.types, 2)
        found = []
        for faded, one in zip(fade.unbind(1), self._one(type).unbind(1), strict=True):
            counts = counts * faded + one
            found.append(counts)
        return torch.stack(found, 1)

    def left(self, log_gap: Tensor) -> Tensor:
        """Return what pauses leave, (..., paces), 1 to 0: an LSTM cannot make seconds out of their logarithm."""
        return torch.exp(-_seconds(log_gap)[..., None] / self.paces)

    def _one(self, type: Tensor) -> Tensor:
        return torch.cat([self.marks[type]] * len(SPANS), -1)


def _seconds(log_gap: Tensor) -> Tensor:
    """Undo the logarithm of the input `log_gap`, see stream.core.features.numeric."""
    return torch.expm1(10 * log_gap).clamp_min(0)
