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

from confluent_kafka import KafkaException
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from stream.core.errors import BrokerError, TopicError
from stream.kafka.client.admin import answered, reach
from stream.kafka.client.errors import said
from stream.kafka.growth.standstill import Look, Standstill
from stream.kafka.growth.states import AGAIN, Reader, Users, Writer, count
from stream.kafka.topics.watch import described
from stream.settings import Settings
from stream.state.growth import Growth

_ANSWER_SECONDS = 30.0
_SAY_SECONDS = 4.0


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
    reader = Reader(settings)
    run = _Run(settings, reader, partitions, leave_unscored, say)
    try:
        return run.plan() if dry_run else run.grow()
    finally:
        reader.close()


class _Run:
    """One run of the command."""

    def __init__(
        self, settings: Settings, reader: Reader, wanted: int | None, leave: bool, say: Callable[[str], None]
    ) -> None:
        self._settings, self._reader, self._wanted, self._leave, self._say = settings, reader, wanted, leave, say
        self._admin = reach(settings)
        self._still = Standstill(settings, self._admin, reader, say)
        self._read, self._said = 0, time.monotonic()

    def plan(self) -> Report:
        """Say what would become of the users, and what would be refused."""
        look = self._still.look(self._wanted)
        report = _report(look.growth)
        if look.growth.done:
            return report
        try:
            self._still.await_no_members()
            self._still.check_still(look.ends)
            report.unscored = self._still.check_scored(look, self._leave)
        except TopicError as error:
            report.refused = str(error)
        report.users = count(self._users(look.growth))
        return report

    def grow(self) -> Report:
        """Take all steps, or those that an earlier run has not come to."""
        still, writer = self._still, Writer(self._settings)  # the writer first: an earlier run writes nothing any more
        still.await_no_members()
        look = still.look(self._wanted)
        growth, report = look.growth, _report(look.growth)
        if growth.done:
            return report
        still.check_still(look.ends)
        still.check_scored(look, self._leave)
        self._mark(look, writer)
        for topic in (self._settings.changelog, self._settings.events_topic):
            self._grow_topic(topic, growth.target, writer)
        again = self._look_again(look)
        report.unscored = still.check_scored(again, self._leave)
        self._mark(again, writer)  # a worker that ran until the topics had grown wrote positions without a mark
        report.users = count(self._move(growth, writer))
        still.await_no_members()
        still.check_ends(again.ends)
        if growth.positions:
            writer.write([], again.growth.grown(look.topics.events, look.topics.changelog))
        report.changed = True
        return report

    def _mark(self, look: Look, writer: Writer) -> None:
        """Let the positions tell what is under way, unless they do."""
        growth = look.growth
        if growth.positions and growth.target not in growth.begun:
            writer.write([], growth.marked(), lambda written: self._still.check_alone(look, written))

    def _look_again(self, before: Look) -> Look:
        """Look once no worker can start any more, at an input that stands where it stood."""
        self._still.await_no_members()
        look = self._still.look(before.growth.target)
        self._still.check_ends(before.ends)
        return look

    def _grow_topic(self, topic: str, target: int, writer: Writer) -> None:
        def partitions() -> int:
            seen = answered(
                f"the partitions of {topic}", _ANSWER_SECONDS, lambda: described(self._admin, [topic])[topic]
            )
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
        ends = self._still.offsets(topic, sources)
        for n in sources:
            yield self._reader.users(growth, topic, n, ends[n], self._heard)

    def _move(self, growth: Growth, writer: Writer) -> Iterable[Users]:
        topic = self._settings.changelog
        for n, users in enumerate(self._users(growth)):
            self._say(f"{topic} partition {n}: {len(users.moving):,} users move, {users.stay:,} stay")
            for changes in self._reader.moves(users, topic, n, self._heard):
                writer.write(changes)
            yield users

    def _heard(self, records: int) -> None:
        self._read += records
        if (now := time.monotonic()) - self._said > _SAY_SECONDS:
            self._said = now
            self._say(f"{self._read:,} changelog records read")


def _report(growth: Growth) -> Report:
    return Report(growth.old, growth.target, resumed=bool(growth.begun))
