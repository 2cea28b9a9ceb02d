"""The pure heart, shared by serving and training: no clock, no environment, no I/O."""

from stream.core.scoring import score

__all__ = ["score"]
