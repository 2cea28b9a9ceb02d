"""From raw records to events: the one way for a shop's events in Forecart's own shape, another for its own shape."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.core.events import BadEvent, Event, decode, decode_all


class Decoder(Protocol):
    """What a scorer needs of a topic's shape; positions, which are asked for late, become the ids of events without."""

    def types(self, types: Sequence[str]) -> dict[str, int]:
        """Return the places of a model's types by their names in the topic."""

    def one(self, raw: bytes | None, newest: int, largest: int, position: str) -> Event | BadEvent:
        """Decode a record as `stream.core.events.decode` does."""

    def all(
        self,
        raws: Sequence[bytes | None],
        newest: NDArray[np.int64],
        largest: int,
        positions: Callable[[], Iterable[str]],
    ) -> list[Event] | None:
        """Decode a chunk in one go; None where `one` finds a record that is no event."""


class Native:
    """Decode events in Forecart's own shape."""

    def types(self, types: Sequence[str]) -> dict[str, int]:
        """Return the places of a model's types."""
        return {name: i for i, name in enumerate(types)}

    def one(self, raw: bytes | None, newest: int, largest: int, position: str) -> Event | BadEvent:
        """Decode a record."""
        return decode(raw, newest, largest)

    def all(
        self,
        raws: Sequence[bytes | None],
        newest: NDArray[np.int64],
        largest: int,
        positions: Callable[[], Iterable[str]],
    ) -> list[Event] | None:
        """Decode a chunk."""
        return decode_all(raws, newest, largest)
