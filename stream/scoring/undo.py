"""What a chunk did to a partition, taken back: sessions, unseen items, clock, sweeps and position as they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from stream.scoring.scorer import Partition
from stream.state.sessions import Changes


@dataclass(frozen=True, slots=True)
class Undo:
    """A partition before a chunk, and what the chunk changed in its sessions."""

    part: Partition
    was: Partition  # with a table of unseen items of its own, and the same sessions
    changes: Changes

    def take_back(self) -> None:
        """Make the partition what it was; what came after the chunk was taken back before."""
        self.part.store.undo(self.changes)
        for one in fields(Partition):
            setattr(self.part, one.name, getattr(self.was, one.name))


@contextmanager
def noting(part: Partition, records: int) -> Iterator[Undo]:
    """Note what a chunk of so many records does to a partition."""
    was = replace(part, newcomers=part.newcomers.copy())
    with part.store.noting(records) as changes:
        yield Undo(part, was, changes)
