"""Grow the partitions of a group's topics: every user's state goes where the user's events will lie, exactly once.

The order makes it safe to be killed and run again at any point:

1 check    the group has no members, the input stands still, each partition is scored to its end
2 mark     one transaction: positions and offsets tell the old count, and the target
3 grow     the changelog, then the input: no worker starts from here on, since the counts differ from the positions'
4 check    again, now that no worker can start: what one did in between is seen
5 move     transactions of some thousand users: the state to its new partition, a tombstone to the old one
6 check    no member has come, and the input stands where it stood
7 finish   one transaction: positions and offsets of all partitions tell the new count
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka import IsolationLevel as Isolation
from confluent_kafka.admin import NewPartitions, OffsetSpec  # type: ignore[attr-defined]

from stream.core.errors import BrokerError, TopicError
from stream.core.growth import Growth, plan_growth
from stream.core.position import Bounds, Position, Terms, Topics, stand
from stream.kafka.client import answered, reach
from stream.kafka.errors import said
from stream.kafka.states import AGAIN, Reader, Users, Writer, count, partitioner_hash
from stream.kafka.topic_watch import described
from stream.settings import Settings

T = TypeVar("T")
LOOK_SECONDS = 5.0  # that the input must stand still
_LEAVE_SECONDS = 5.0  # beyond the session timeout, after which a worker that ended is no member any more
_ANSWER_SECONDS = 30.0
_SAY_SECONDS = 4.0
_EARLIEST, _LATEST = OffsetSpec.earliest(), OffsetSpec.latest()


@dataclass(slots=True)
class Report:
    """What was done, or would be: partition counts, users by what becomes of them, unscored records by partition.

    `refused` says why nothing would be done, where only a plan was asked for.
    """

    before: int
    after: int
    users: Counter[str] = field(default_factory=Counter)
    unscored: dict[int, int] = field(default_factory=dict)
    resumed: bool = False
    changed: bool = False
    refused: str = ""


class _Look(NamedTuple):
    """The topics' ids, how far a growth has come, and where each partition of the input goes on and ends."""

    topics: Topics
    growth: Growth
    begins: dict[int, int]
    ends: dict[int, int]


def grow(
    settings: Settings,
    partitions: int | None = None,
    *,
    dry_run: bool = False,
    leave_unscored: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Grow input and changelog to `partitions`, by default to what the input has, and move the users' states.

    With `leave_unscored` unscored records may lie where their users' state is not any more: their users begin anew
    there. Raises TopicError where workers or producers run or records are unscored, SettingError for an impossible
    count, PositionError where changelog, input and group do not fit.
    """
    run = _Run(settings, partitions, leave_unscored, say)
    try:
        return run.plan() if dry_run else run.grow()
    finally:
        run.reader.close()


class _Run:
    """One run of the command."""

    def __init__(
        self, settings: Settings, partitions: int | None, leave_unscored: bool, say: Callable[[str], None]
    ) -> None:
        self._settings, self._wanted, self._leave, self._say = settings, partitions, leave_unscored, say
        self._admin, self.reader = reach(settings), Reader(settings)
        self._read, self._said = 0, time.monotonic()

    def plan(self) -> Report:
        """Say what would become of the users, and what would be refused."""
        look = self._look()
        report = self._report(look)
        if look.growth.done:
            return report
        try:
            self._await_no_members()
            self._check_still(look.ends)
            report.unscored = self._check_scored(look)
        except TopicError as error:
            report.refused = str(error)
        report.users = count(self._users(look.growth))
        return report

    def grow(self) -> Report:
        """Take all steps, or those that an earlier run has not come to."""
        look = self._checked()
        report, growth = self._report(look), look.growth
        if growth.done:
            return report
        writer = Writer(self._settings)
        if growth.positions:
            writer.write([], growth.marked())
        for topic in (self._settings.changelog, self._settings.events_topic):
            self._grow_topic(topic, growth.target, writer)
        again = self._checked(look)
        report.unscored = self._check_scored(again)
        report.users = count(self._move(growth, writer))
        self._await_no_members()
        self._check_ends(again.ends)
        if growth.positions:
            writer.write([], again.growth.grown(look.topics.events, look.topics.changelog))
        report.changed = True
        return report

    def _report(self, look: _Look) -> Report:
        return Report(look.growth.old, look.growth.target, resumed=bool(look.growth.begun))

    def _checked(self, before: _Look | None = None) -> _Look:
        """Take step 1, or step 4, for which the input must also stand where it stood before."""
        self._await_no_members()
        look = self._look()
        if look.growth.done:
            return look
        if before:
            self._check_ends(before.ends)
        else:
            self._check_still(look.ends)
        self._check_scored(look)
        return look

    def _look(self) -> _Look:
        """Find where everything stands: the group's offsets first, which the changelog's end must cover."""
        names = self._settings
        seen = self._answered("the topics", lambda: described(self._admin, [names.events_topic, names.changelog]))
        events, changelog = seen[names.events_topic], seen[names.changelog]
        if not events or not changelog:
            missing = names.changelog if events else names.events_topic
            raise TopicError(f"there is no topic {missing}", "see `forecart topics plan`")
        committed = self._committed()
        lows = self._offsets(names.events_topic, range(events.partitions), _EARLIEST)
        begins = self._offsets(names.changelog, range(changelog.partitions), _EARLIEST)
        ends = self._offsets(names.changelog, range(changelog.partitions), _LATEST)
        found = {n: self.reader.position(names.changelog, n, begins[n], ends[n]) for n in ends}
        positions = {n: position for n, position in found.items() if position}
        growth = plan_growth(events.partitions, changelog.partitions, positions, self._wanted)
        highs = self._offsets(names.events_topic, range(events.partitions), _LATEST)
        # Held to each other as a worker's start holds them, under the old count.
        topics = Topics(events.id, changelog.id, growth.old)
        terms = Terms(
            names.events_topic, names.changelog, names.group, on_lost=names.on_lost, restored=names.restored_changelog
        )
        for n in range(min(growth.old, events.partitions)):
            position = positions.get(n, Position("", -1))
            where = f"{names.events_topic} partition {n}"
            lows[n] = stand(where, position, Bounds(lows[n], highs[n], committed.get(n, -1)), topics, terms).offset
        return _Look(topics, growth, lows, highs)

    def _await_no_members(self) -> None:
        """Wait for a session timeout at most, since a static member that has ended stays for so long."""
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
        group = self._settings.group
        try:
            found = self._admin.describe_consumer_groups([group], request_timeout=5)[group].result(6)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return []
            raise
        return sorted(member.group_instance_id or member.client_id for member in found.members)

    def _check_still(self, ends: dict[int, int]) -> None:
        self._say(f"looking whether the input stands still, for {LOOK_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)
        self._check_ends(ends)

    def _check_ends(self, ends: dict[int, int]) -> None:
        """Raise TopicError where the input has grown beyond these ends, or a transaction in it is open."""
        topic = self._settings.events_topic
        now = self._offsets(topic, ends, _LATEST)
        stable = self._offsets(topic, ends, _LATEST, Isolation.READ_COMMITTED)
        if moving := [n for n in ends if now[n] != ends[n]]:
            raise TopicError(
                f"producers write to {topic} (partition {', '.join(map(str, moving))})", f"pause them, then {AGAIN}"
            )
        if waiting := [n for n in ends if stable[n] < now[n]]:
            raise TopicError(
                f"a producer's transaction is open in {topic} (partition {', '.join(map(str, waiting))})",
                f"let it end, then {AGAIN}; kafka-transactions.sh find-hanging names one that hangs",
            )

    def _check_scored(self, look: _Look) -> dict[int, int]:
        """Return how many records of each partition are unscored; raise TopicError where they may not be.

        Once the input has grown no worker starts. Then what lies where its user's state will be is scored later, there.
        """
        topic, growth = self._settings.events_topic, look.growth
        unscored: dict[int, int] = {}
        for n in look.ends if growth.positions else ():
            records = stranded = 0
            for messages in self.reader.read(topic, n, look.begins[n], look.ends[n]):
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
            if stranded and not self._leave:
                raise TopicError(
                    f"{where}, {stranded} of which lie where their users' state is not to be",
                    "they were written under another partition count than"
                    f" {growth.target}; --leave-unscored goes on: they are scored there, and their users begin anew",
                )
        return unscored

    def _grow_topic(self, topic: str, target: int, writer: Writer) -> None:
        def partitions() -> int:
            seen = self._answered(f"the partitions of {topic}", lambda: described(self._admin, [topic])[topic])
            return seen.partitions if seen else 0

        if (there := partitions()) < target:
            self._say(f"{topic} grows from {there} to {target} partitions")
            asked = self._admin.create_partitions([NewPartitions(topic, target)], request_timeout=_ANSWER_SECONDS)
            try:
                asked[topic].result(_ANSWER_SECONDS + 1)
            except (KafkaException, TimeoutError) as error:
                raise BrokerError(
                    f"{topic} does not grow: {said(error)}",
                    "check the brokers, or grant the right: kafka-acls --bootstrap-server HOST --add"
                    f" --allow-principal User:NAME --operation Alter --topic {topic}; then {AGAIN}",
                ) from error
        deadline = time.monotonic() + _ANSWER_SECONDS
        while partitions() < target or writer.knows(topic) < target:
            if time.monotonic() > deadline:
                raise BrokerError(f"{topic} has not yet {target} partitions", f"check the brokers, then {AGAIN}")
            time.sleep(0.1)

    def _users(self, growth: Growth) -> Iterable[Users]:
        """Find the users of one partition after the other."""
        topic = self._settings.changelog
        sources = growth.sources if growth.positions else range(0)
        ends = self._offsets(topic, sources, _LATEST)
        for n in sources:
            yield self.reader.users(growth, topic, n, ends[n], self._heard)

    def _move(self, growth: Growth, writer: Writer) -> Iterable[Users]:
        topic = self._settings.changelog
        for n, users in enumerate(self._users(growth)):
            self._say(f"{topic} partition {n}: {len(users.moving):,} users move, {users.stay:,} stay")
            for changes in self.reader.moves(users, topic, n, self._heard):
                writer.write(changes)
            yield users

    def _heard(self, records: int) -> None:
        self._read += records
        if (now := time.monotonic()) - self._said > _SAY_SECONDS:
            self._said = now
            self._say(f"{self._read:,} changelog records read")

    def _offsets(
        self, topic: str, numbers: Iterable[int], spec: OffsetSpec, isolation: Isolation = Isolation.READ_UNCOMMITTED
    ) -> dict[int, int]:
        asked = {TopicPartition(topic, number): spec for number in numbers}

        def ask() -> dict[int, int]:
            answers = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=5)
            return {tp.partition: int(answer.result(6).offset) for tp, answer in answers.items()}

        return self._answered(f"the offsets of {topic}", ask) if asked else {}

    def _committed(self) -> dict[int, int]:
        group, topic = self._settings.group, self._settings.events_topic

        def ask() -> dict[int, int]:
            asked = [ConsumerGroupTopicPartitions(group)]
            found = self._admin.list_consumer_group_offsets(asked, request_timeout=5)[group].result(6)
            return {tp.partition: int(tp.offset) for tp in found.topic_partitions if tp.topic == topic}

        return self._answered(f"the offsets of the group {group}", ask)

    def _answered(self, what: str, ask: Callable[[], T]) -> T:
        return answered(what, _ANSWER_SECONDS, ask)
