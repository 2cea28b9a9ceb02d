"""When a round begins, what it takes along, and how long fetches rest, by what the last rounds took.

A round is bounded three times: in seconds of scoring, in events, and in bytes, by the larger of what it reads and what
it publishes. The bound in bytes adapts as a sender's window does: it grows while commits are quick, and shrinks where
one was slow or was aborted since it took too long. So a round gets through a slow link, and memory is bounded on a fast
one.
"""

from collections.abc import Iterable
from typing import NamedTuple

ROUND_SECONDS = 0.5  # a round aims to stay below: far from the transaction's timeout, and from what a reader notices
COMMIT_SHARE = 0.8  # of the transaction's timeout that its records may take to be acknowledged
ROUND_BYTES = 64 << 20  # of a round, at most, where no setting says otherwise
_REST_SECONDS = 0.1  # at most between two fetches, whatever a commit took once
_CHUNK_AT_LEAST, _CHUNK_AT_FIRST = 32, 1024
_AT_FIRST = 128 << 10  # bytes of a round: a link of 64 KiB/s takes 2 s for it; slow rounds go no lower, aborted ones do
_AT_LEAST = 16 << 10
_ADDED = 2048.0  # bytes that a round publishes for an event beyond those that it read, until one has told
_AIM = 4  # a commit aims to stay below this part of what it may take
_SLOWER, _ABORTED = 2, 8  # a round is so many times smaller after one that was slow, or was aborted
_LARGER, _FULL = 16, 4  # so many times larger at most after a quick one that had at least this part of its room
_PART, _PARTS = 4, 16  # of a round's bytes of now, and of the most: what is scored at once
_FETCHES = 4  # of the most bytes of a round: what is fetched at once


class Load(NamedTuple):
    """What a round or a part of it is: events, the bytes of their records, the bytes that are published of them."""

    events: int = 0
    read: int = 0
    published: int = 0

    @property
    def bytes(self) -> int:
        """Return what is bounded: the larger of both."""
        return max(self.read, self.published)

    def plus(self, other: "Load") -> "Load":
        """Return both together."""
        return Load(*map(sum, zip(self, other, strict=True)))


class Linger:
    """The linger that adapts: none where nothing is being committed, else until the commit is about to end.

    Times are monotonic seconds, given by the caller. `chunk` is how many events are scored at once, `room` how many
    bytes a round may have; `chunk`, `chunks` and `most` given bound them. `allowed` is how many seconds a commit may
    take.
    """

    def __init__(self, chunk: int, chunks: int = 8, most: int = ROUND_BYTES, allowed: float = 16.0) -> None:
        self._most, self._chunks, self._most_bytes, self._aim = chunk, chunks, most, allowed / _AIM
        self._cost = self._score_took = self._commit_took = self._commit_ends = 0.0
        self._added, self.room = _ADDED, min(most, _AT_FIRST)
        self._size_chunk()

    @property
    def part(self) -> int:
        """Return the bytes of records that are scored at once, at most."""
        return min(self.room // _PART, self._most_bytes // _PARTS)

    @property
    def fetch(self) -> int:
        """Return the bytes of records that are fetched at once, at most."""
        return min(self.room, self._most_bytes // _FETCHES)

    def scored(self, load: Load, seconds: float) -> None:
        """Note what scoring took, and size the chunks to come: a costly model gets smaller ones."""
        events = max(load.events, 1)
        self._score_took, self._cost = seconds, seconds / events
        self._added = max(load.published - load.read, 0) / events
        self._size_chunk()

    def commits(self, now: float) -> float:
        """Note that a commit begins, which should take what the last one did; return until when fetches may rest."""
        self._commit_ends = now + self._commit_took
        return now + min(self._commit_took / 2 - self._score_took, _REST_SECONDS)

    def committed(self, load: Load, seconds: float) -> None:
        """Note what a commit took: rounds grow while they are full and quick, and shrink where one is slow."""
        self._commit_took = seconds
        if seconds > self._aim:
            self._shrink(load, _SLOWER, _AT_FIRST)
        elif seconds < self._aim / _SLOWER and load.bytes >= self.room / _FULL:
            # To where a commit of this speed would take half of its aim.
            times = min(int(self._aim / _SLOWER / max(seconds, 0.001)), _LARGER)
            self.room = min(times * self.room, self._most_bytes)
        self._size_chunk()

    def aborted(self, load: Load) -> None:
        """Note that a round could not be committed in time: the next one is far smaller."""
        self._shrink(load, _ABORTED, _AT_LEAST)
        self._size_chunk()

    def spare(self, now: float, events: int) -> float:
        """Return for how long the running commit should outlast the scoring of so many events; below 0: it does not."""
        return self._commit_ends - now - events * self._cost

    def full(self, waiting: Load) -> bool:
        """Tell whether what waits is enough for a round."""
        return waiting.events >= self._chunks * self.chunk or self._expected(waiting) >= self.room

    def fits(self, sizes: Iterable[Load]) -> int:
        """Count the batches that a round has time and room for, at least one; the first shows what a batch costs."""
        seconds = expected = 0.0
        taken = 0
        for size in sizes:
            if taken and (not self._cost or seconds >= ROUND_SECONDS or expected >= self.room):
                break
            seconds += size.events * self._cost
            expected += self._expected(size)
            taken += 1
        return taken

    def _expected(self, load: Load) -> float:
        return load.read + load.events * self._added

    def _shrink(self, load: Load, times: int, least: int) -> None:
        self.room = max(min(self.room, load.bytes) // times, min(self.room, least))

    def _size_chunk(self) -> None:
        in_time = max(int(ROUND_SECONDS / 2 / self._cost), _CHUNK_AT_LEAST) if self._cost else _CHUNK_AT_FIRST
        in_room = max(int(self.room / max(self._added, 1.0)), 1)
        self.chunk = min(in_time, in_room, self._most)
