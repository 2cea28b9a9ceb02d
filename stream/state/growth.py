"""From one partition count to a larger one: how far a growth has come, and where a user's state belongs."""

from collections.abc import Mapping
from dataclasses import dataclass

from stream.core.errors import PositionError, SettingError
from stream.state.position import ANEW, RESTORE, Position


@dataclass(frozen=True, slots=True)
class Growth:
    """From `old` partitions, which the positions tell, to `target`; `begun` are the targets of runs that did not end.

    `input` and `changelog` are the topics' counts as they stand, `positions` has the old partitions' records.
    """

    old: int
    target: int
    input: int
    changelog: int
    positions: Mapping[int, Position]
    begun: tuple[int, ...] = ()

    @property
    def done(self) -> bool:
        """Tell whether there is nothing to move and nothing to grow."""
        return self.old == self.target == self.input and not self.begun

    @property
    def counts(self) -> tuple[int, ...]:
        """All counts that a state may have been placed by."""
        return self.old, *self.begun

    @property
    def sources(self) -> range:
        """The partitions that may have states to be moved."""
        return range(min(max(self.counts), self.changelog))

    def place(self, key_hash: int, partition: int) -> int | None:
        """Return where a user's state belongs, by the partitioner's hash of the user's id.

        None where its records have another key than that: no count would have brought them to this partition.
        """
        if all(key_hash % count != partition for count in self.counts):
            return None
        return key_hash % self.target

    def marked(self) -> dict[int, Position]:
        """Return the old partitions' positions while the growth is under way: they tell the old count and the targets.

        With them no worker starts once the topics have grown.
        """
        begun = (*(count for count in self.begun if count != self.target), self.target)
        return {n: _with(position, self.old, begun) for n, position in self.positions.items()}

    def grown(self, events_id: str, changelog_id: str) -> dict[int, Position]:
        """Return the positions of all partitions once it has ended: new ones are scored from offset 0."""
        fresh = Position(events_id, 0, 0, changelog_id)
        return {n: _with(self.positions.get(n, fresh), self.target, ()) for n in range(self.target)}


def _with(position: Position, partitions: int, growing: tuple[int, ...]) -> Position:
    return Position(position.topic_id, position.offset, position.clock, position.changelog_id, partitions, growing)


def plan_growth(events: int, changelog: int, positions: Mapping[int, Position], wanted: int | None) -> Growth:
    """Return how far a growth has come, by the partition counts of input and changelog and the positions there.

    Without `wanted` it goes to the count that the topics have, or that an unfinished run was to reach. Raises
    SettingError for a count below that, or where nobody says one, PositionError for positions that do not fit together.
    """
    told = {position.partitions for position in positions.values()} - {0}
    begun = next((position.growing for position in positions.values() if position.growing), ())
    old = told.pop() if told else len(positions) or changelog
    if told or (positions and set(positions) != set(range(old))):
        raise PositionError(
            f"the changelog has positions of the partitions {', '.join(map(str, sorted(positions)))},"
            f" written with {', '.join(map(str, sorted({old, *told})))} partitions",
            f"every partition of one count must have been owned by a worker once; else {RESTORE}, or {ANEW}",
        )
    least = max(old, events, changelog, *begun)
    target = wanted or least
    if target < least:
        raise SettingError(
            f"--partitions {target} is less than {least}, which the topics have, or an unfinished run was to reach",
            f"partitions cannot be taken away: give --partitions {least} or more",
        )
    return Growth(old, target, events, changelog, positions, begun)
