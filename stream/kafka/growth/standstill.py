"""Whether a group and its input stand still, so that states can be moved: no members, no producers, all scored."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from confluent_kafka import IsolationLevel as Isolation
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from stream.core.errors import TopicError
from stream.kafka.client.admin import answered
from stream.kafka.client.offsets import EARLIEST, LATEST, group_offsets, group_reader, log_offsets
from stream.kafka.group.watch import members_of
from stream.kafka.growth.states import AGAIN, Reader, partitioner_hash
from stream.kafka.topics.watch import described
from stream.settings import Settings
from stream.state.growth import Growth, plan_growth
from stream.state.position import Bounds, Position, Terms, Topics, stand

T = TypeVar("T")
LOOK_SECONDS = 5.0  # that the input must stand still
_LEAVE_SECONDS = 5.0  # beyond the session timeout, after which a worker that ended is no member any more
_ANSWER_SECONDS = 30.0


class Look(NamedTuple):
    """The topics, how far a growth has come, where the input's partitions go on and end, and the changelog's ends."""

    topics: Topics
    growth: Growth
    begins: dict[int, int]
    ends: dict[int, int]
    stored: dict[int, int]


class Standstill:
    """Look at a group and its topics, and refuse what does not stand still."""

    def __init__(self, settings: Settings, client: AdminClient, reader: Reader, say: Callable[[str], None]) -> None:
        self._settings, self._admin, self._reader, self._say = settings, client, reader, say

    def look(self, wanted: int | None) -> Look:
        """Find where everything stands, for a growth to `wanted` partitions: see `plan_growth` and `stand`.

        The group's offsets come first, which the changelog's end must cover.
        """
        names = self._settings
        seen = self._answered("the topics", lambda: described(self._admin, [names.events_topic, names.changelog]))
        events, changelog = seen[names.events_topic], seen[names.changelog]
        if not events or not changelog:
            missing = names.changelog if events else names.events_topic
            raise TopicError(f"there is no topic {missing}", "see `forecart topics plan`")
        committed = self._committed(events.partitions)
        lows = self.offsets(names.events_topic, range(events.partitions), EARLIEST)
        begins = self.offsets(names.changelog, range(changelog.partitions), EARLIEST)
        ends = self.offsets(names.changelog, range(changelog.partitions), LATEST)
        found = {n: self._reader.position(names.changelog, n, begins[n], ends[n]) for n in ends}
        positions = {n: position for n, position in found.items() if position}
        growth = plan_growth(events.partitions, changelog.partitions, positions, wanted)
        highs = self.offsets(names.events_topic, range(events.partitions), LATEST)
        # Held to each other as a worker's start holds them, under the old count.
        topics = Topics(events.id, changelog.id, growth.old)
        terms = Terms(
            names.events_topic, names.changelog, names.group, on_lost=names.on_lost, restored=names.restored_changelog
        )
        for n in range(min(growth.old, events.partitions)):
            position = positions.get(n, Position("", -1))
            where = f"{names.events_topic} partition {n}"
            lows[n] = stand(where, position, Bounds(lows[n], highs[n], committed.get(n, -1)), topics, terms).offset
        return Look(topics, growth, lows, highs, ends)

    def await_no_members(self) -> None:
        """Raise TopicError where the group has members; wait for a session timeout, for which one that ended stays."""
        deadline = time.monotonic() + self._settings.session_timeout_seconds + _LEAVE_SECONDS
        told = False
        while members := self._answered(f"the members of the group {self._settings.group}", self._members):
            if time.monotonic() > deadline:
                raise TopicError(
                    f"the group {self._settings.group} has members: {', '.join(members)}",
                    "stop the workers; one that has ended for good leaves at once by `forecart leave --name NAME`",
                )
            if not told:
                self._say(f"waiting until these are no members any more: {', '.join(members)}")
            told = True
            time.sleep(0.5)

    def _members(self) -> list[str]:
        return [member.name for member in members_of(self._settings)]

    def check_alone(self, look: Look, written: Mapping[int, int]) -> None:
        """Raise TopicError where a worker runs, or has since a look; `written` has where a record lies, by partition.

        Once this holds for records of an open transaction, no worker ends its recovery before the transaction does.
        """
        moved = any(offset != look.stored[n] for n, offset in written.items())
        if moved or self._members():
            raise TopicError(f"a worker of the group {self._settings.group} has come", f"stop it, then {AGAIN}")

    def check_still(self, ends: Mapping[int, int]) -> None:
        """Look for some seconds whether the input stays at these ends; raise TopicError where it does not."""
        self._say(f"looking whether the input stands still, for {LOOK_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)
        self.check_ends(ends)

    def check_ends(self, ends: Mapping[int, int]) -> None:
        """Raise TopicError where the input has grown beyond these ends, or a transaction in it is open."""
        topic = self._settings.events_topic
        now = self.offsets(topic, ends, LATEST)
        stable = self.offsets(topic, ends, LATEST, Isolation.READ_COMMITTED)
        if moving := [n for n in ends if now[n] != ends[n]]:
            raise TopicError(
                f"producers write to {topic} (partition {', '.join(map(str, moving))})", f"pause them, then {AGAIN}"
            )
        if waiting := [n for n in ends if stable[n] < now[n]]:
            raise TopicError(
                f"a producer's transaction is open in {topic} (partition {', '.join(map(str, waiting))})",
                f"let it end, then {AGAIN}; kafka-transactions.sh find-hanging names one that hangs",
            )

    def check_scored(self, look: Look, leave: bool) -> dict[int, int]:
        """Return how many records of each partition are unscored; raise TopicError where they may not be.

        `leave` bears those that lie where their users' state will not be.

        Once the input has grown no worker starts. Then what lies where its user's state will be is scored later, there.
        """
        topic, growth = self._settings.events_topic, look.growth
        unscored: dict[int, int] = {}
        for n in look.ends if growth.positions else ():
            records = stranded = 0
            for messages in self._reader.read(topic, n, look.begins[n], look.ends[n]):
                records += len(messages)
                keys = [message.key() for message in messages]
                stranded += sum(partitioner_hash(key) % growth.target != n for key in keys if key is not None)
            if records:
                unscored[n] = records
            if n >= growth.old and growth.target == growth.input:
                continue
            where = f"{topic} partition {n}: {records} records are not scored"
            if records and growth.input == growth.old:
                raise TopicError(where, f"start the workers until forecart_consumer_lag is 0, stop them, then {AGAIN}")
            if stranded and not leave:
                raise TopicError(
                    f"{where}, {stranded} of which lie where their users' state is not to be",
                    "they were written under another partition count than"
                    f" {growth.target}; --leave-unscored goes on: they are scored there, and their users begin anew",
                )
        return unscored

    def offsets(
        self,
        topic: str,
        numbers: Iterable[int],
        spec: OffsetSpec = LATEST,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
    ) -> dict[int, int]:
        """Ask for offsets of partitions."""
        what = f"the offsets of {topic}"
        return self._answered(what, lambda: log_offsets(self._admin, topic, numbers, spec, isolation))

    def _committed(self, partitions: int) -> dict[int, int]:
        reader, topic = group_reader(self._settings), self._settings.events_topic
        what = f"the offsets of the group {self._settings.group}"
        try:
            found = self._answered(what, lambda: group_offsets(reader, topic, partitions))
        finally:
            reader.close()
        return {tp.partition: int(tp.offset) for tp in found if tp.offset >= 0}

    def _answered(self, what: str, ask: Callable[[], T]) -> T:
        return answered(what, _ANSWER_SECONDS, ask)
