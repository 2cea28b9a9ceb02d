"""Checkpoint to bundle, refused when parity fails."""
