"""When a round begins, what it takes along, and how long fetches rest, by what the last round took."""

from collections.abc import Iterable

ROUND_SECONDS = 0.5  # a round aims to stay below: far from the transaction's timeout, and from what a reader notices
_REST_SECONDS = 0.1  # at most between two fetches, whatever a commit took once
_CHUNK_AT_LEAST, _CHUNK_AT_FIRST = 32, 1024


class Pace:
    """The linger that adapts: none where nothing is being committed, else until the commit is about to end.

    Times are monotonic seconds, given by the caller.
    """

    def __init__(self, chunk: int) -> None:
        self._most, self.chunk = chunk, min(chunk, _CHUNK_AT_FIRST)
        self._cost = self._score_took = self._commit_took = self._commit_ends = 0.0

    def scored(self, events: int, seconds: float) -> None:
        """Note what scoring took, and size the chunks to come: a costly model gets smaller ones."""
        self._score_took, self._cost = seconds, seconds / max(events, 1)
        self.chunk = min(max(int(ROUND_SECONDS / 2 / self._cost), _CHUNK_AT_LEAST), self._most)

    def commits(self, now: float) -> float:
        """Note that a commit begins, which should take what the last one did; return until when fetches may rest."""
        self._commit_ends = now + self._commit_took
        return now + min(self._commit_took / 2 - self._score_took, _REST_SECONDS)

    def committed(self, seconds: float) -> None:
        """Note what a commit took."""
        self._commit_took = seconds

    def spare(self, now: float, events: int) -> float:
        """Return for how long the running commit should outlast the scoring of so many events; below 0: it does not."""
        return self._commit_ends - now - events * self._cost

    def fits(self, sizes: Iterable[int]) -> int:
        """Count the batches that a round has time for, at least one; the first round shows what a batch costs."""
        seconds, taken = 0.0, 0
        for size in sizes:
            if taken and (not self._cost or seconds >= ROUND_SECONDS):
                break
            seconds += size * self._cost
            taken += 1
        return taken
