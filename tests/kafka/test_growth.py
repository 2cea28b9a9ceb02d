"""A group's topics grow: each user's state is found where the user's events are from then on."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions

from stream.bundle.onnx import load
from stream.core.errors import FencedError, TopicError
from stream.kafka.client.admin import admin
from stream.kafka.growth import standstill, states
from stream.kafka.growth.grow import grow
from stream.kafka.growth.states import Writer, partitioner_hash
from tests.kafka.oracle import Finding, Record, Replay, assert_exactly_once, examine
from tests.kafka.reader import replay
from tests.kafka.shop import Shop, Upstream, event, wait_for

NOW = int(time.time() * 1000) - 600_000
USERS = [f"user-{n}" for n in range(80)]
SMALL_STEPS = """
import sys
from stream.kafka.growth import standstill, states
states._USERS, standstill.LOOK_SECONDS = 3, 2.0
from forecart import main
sys.exit(main())
"""


class Growing:
    """A shop whose topics grow, and how many events its users have sent."""

    def __init__(self, place: Shop) -> None:
        self.place, self.sent, self._dice = place, 0, random.Random(7)
        given = {**place.names, **place.extra, "bootstrap_servers": place.address, "group": place.group}
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("FORECART_")}
        self._env |= {f"FORECART_{k.upper()}": str(v) for k, v in given.items()}

    def send(self, rounds: int = 3, users: list[str] = USERS, **keys: str) -> None:
        """Let each user send so many events; record times grow, so that all partitions' clocks agree."""
        out, topic = self.place.producer(), self.place.settings.events_topic
        for _ in range(rounds):
            for user in users:
                self.sent += 1
                at = NOW + self.sent
                value, key = event(self.sent, user, at, self._dice), keys.get(user, user).encode()
                out.produce(topic, value, key, timestamp=at, on_delivery=self.place.ledger.enter)
        assert out.flush(30) == 0

    def score(self, name: str = "w0") -> None:
        """Let a worker score everything, and stop it."""
        worker = self.place.start(name)
        self.place.await_outcomes(90)
        worker.terminate()
        assert worker.wait(30) == 0

    def begin(self, *words: str, code: str = SMALL_STEPS) -> "subprocess.Popen[str]":
        """Begin to grow."""
        command = [sys.executable, "-c", code, "topics", "grow", *words]
        return subprocess.Popen(command, env=self._env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def grow(self, *words: str) -> dict[str, Any]:
        """Grow, and return what is said."""
        done = self.begin("--json", *words)
        out, said = done.communicate(timeout=120)
        assert done.returncode == 0, said
        return dict(json.loads(out))

    def refused(self, *words: str, code: int = 78) -> str:
        """Return why it is refused."""
        done = self.begin(*words)
        _, said = done.communicate(timeout=120)
        assert done.returncode == code, said
        assert "Traceback" not in said
        return said

    def grow_by_hand(self, partitions: int, *topics: str) -> None:
        """Grow topics as others would."""
        client = admin(self.place.settings)
        for topic in topics:
            client.create_partitions([NewPartitions(topic, partitions)])[topic].result(10)
            wait_for(lambda t=topic: len(client.list_topics(t, 5).topics[t].partitions) == partitions, 20, "grown")

    def counts(self) -> list[int]:
        """Return the partition counts of input and changelog."""
        topics = admin(self.place.settings).list_topics(timeout=10).topics
        return [
            len(topics[name].partitions) for name in (self.place.settings.events_topic, self.place.settings.changelog)
        ]

    def examine(self, partitions: int, faults: int = 0, left: int | None = None) -> Finding:
        """Ask the oracle; sessions are held to a replay of each user's events in order, wherever they lie.

        Events beyond the first `left` were left where they lay: users that have moved begin anew there.
        """
        reading = self.place.reader.read_all()
        numbered = [(int(json.loads(r.value or b"")["event_id"].split("-")[1]), r) for r in reading.events]
        alone = [r._replace(partition=0, offset=n) for n, r in sorted(numbered)]
        found = self._replay(alone)
        sessions = {(partitioner_hash(user) % partitions, user): one for (_, user), one in found.sessions.items()}
        if left is not None:
            sessions |= self._parted(alone, left, partitions)
        clocks = dict.fromkeys(range(partitions), found.clocks[0])
        finding = examine(
            reading, self.place.ledger.records, Replay(sessions, clocks, found.ttl), faults, self.place.since
        )
        self.place.record("figures", str(finding))
        return finding

    def _replay(self, records: list[Record]) -> Replay:
        return replay(records, load(self.place.bundle), self.place.settings)

    def _parted(self, alone: list[Record], left: int, partitions: int) -> dict[tuple[int, bytes], Any]:
        """Return both sessions of each user that has moved away from records of before."""
        found = {}
        moved, stayed = ([r for r in alone if (r.offset > left) is behind] for behind in (False, True))
        for records, count in ((moved, partitions), (stayed, self.place.partitions)):
            for (_, user), one in self._replay(records).sessions.items():
                if partitioner_hash(user) % partitions != partitioner_hash(user) % self.place.partitions:
                    found[partitioner_hash(user) % count, user] = one
        return found

    def lengths(self) -> Counter[str]:
        """Return the newest length of each user's session by the scores."""
        scores = [json.loads(m.value()) for m in self.place.read(self.place.settings.scores_topic)]
        scores.sort(key=lambda s: int(s["event_id"].split("-")[1]))
        return Counter({s["user_id"]: s["session"]["length"] for s in scores})


@pytest.fixture
def growing(shop: Any) -> Iterator[Growing]:
    """Make a shop with two partitions whose users have been scored."""
    made = Growing(shop(partitions=2))
    made.send()
    made.score()
    yield made


def test_sessions_go_on_after_two_partitions_have_become_five(growing: Growing):
    """A user has several records by then, of which the newest moves."""
    growing.send(1)
    growing.score()
    plan = growing.grow("--partitions", "5", "--dry-run")
    move = sum(partitioner_hash(user.encode()) % 5 != partitioner_hash(user.encode()) % 2 for user in USERS)
    assert plan["users"] == {"moved": move, "stayed": len(USERS) - move, "foreign": 0}
    assert (plan["changed"], plan["refused"]) == (False, "")
    done = growing.grow("--partitions", "5")
    assert (done["before"], done["after"], done["users"], done["changed"]) == (2, 5, plan["users"], True)
    stored = [m for m in growing.place.read(growing.place.settings.changelog) if m.key()[:1] == b"u"]
    assert set(Counter(m.key() for m in stored if m.partition() >= 2).values()) == {1}
    growing.send()
    growing.score()
    assert set(growing.lengths().values()) == {7}
    assert_exactly_once(growing.examine(5), at_least=560, sessions=80)
    assert growing.grow()["changed"] is False


@pytest.mark.guarantee(
    "`forecart topics grow` may be killed at any point, and is run again", under="from 2 to 5 partitions"
)
@pytest.mark.chaos
def test_it_may_be_killed_at_any_point(growing: Growing):
    """Kill it before, while the topics grow, and while states move; a worker started in the midst is refused."""
    dice = random.Random(11)
    for until in ("looking whether", "grows from", "partition 0: "):
        run = growing.begin("--partitions", "5")
        assert run.stderr
        while (line := run.stderr.readline()) and until not in line:
            pass
        time.sleep(dice.random() * 0.2)
        run.kill()
        run.communicate()
    assert growing.counts() == [5, 5]
    worker = growing.place.start("early")
    assert worker.wait(60) == 78
    assert "forecart topics grow" in growing.place.log_of("early").read_text()
    done = growing.grow()
    assert (done["before"], done["after"], done["resumed"], done["changed"]) == (2, 5, True, True)
    growing.send()
    growing.score()
    assert set(growing.lengths().values()) == {6}
    assert_exactly_once(growing.examine(5, faults=3), at_least=480, sessions=80)


class StopError(Exception):
    """What ends a run in a test."""


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let each run end after so many transactions; empty, it does not."""
    left: list[int] = []
    write = Writer.write

    def counted(self: Writer, *given: Any) -> None:
        write(self, *given)
        if left and (left.append(left.pop() - 1) or left[-1] <= 0):
            raise StopError

    monkeypatch.setattr(Writer, "write", counted)
    monkeypatch.setattr(states, "_USERS", 12)
    monkeypatch.setattr(standstill, "LOOK_SECONDS", 0.2)
    return left


def test_it_goes_on_between_any_two_transactions_and_to_another_count(growing: Growing, stops: list[int]):
    """End each run after two transactions: first to three partitions, then to five."""
    settings = growing.place.settings
    for target in (3, 3, 5, 5, 5, 5, 5, 5, 5, 5):
        stops[:] = [2]
        with suppress(StopError):
            grow(settings, target)
            break
    report = grow(settings)
    assert (report.after, report.changed) == (5, False)
    growing.send()
    growing.score()
    assert set(growing.lengths().values()) == {6}
    assert_exactly_once(growing.examine(5), at_least=480, sessions=80)


def test_what_does_not_stand_still_is_refused(growing: Growing):
    """Try it with a producer that goes on, with records that are not scored, and with a worker."""
    upstream = Upstream(growing.place, rate=50, seconds=12)
    upstream.start()
    assert "producers write to" in growing.refused("--partitions", "5")
    upstream.join()
    assert "records are not scored" in growing.refused("--partitions", "5")
    worker = growing.place.start("w0")
    growing.place.await_outcomes(90)
    assert "has members: w0" in growing.refused("--partitions", "5")
    assert "has members: w0" in growing.refused("--partitions", "5", "--dry-run", code=1)
    worker.terminate()
    worker.wait(30)
    assert "partitions cannot be taken away" in growing.refused("--partitions", "1")
    assert growing.counts() == [2, 2]
    assert growing.grow("--partitions", "3")["changed"]


def test_input_that_others_have_grown_is_given_its_state(growing: Growing):
    """Events under the new count wait in old and new partitions, and are scored after what was there before."""
    growing.grow_by_hand(4, growing.place.settings.events_topic)
    growing.send()
    done = growing.grow()
    assert (done["before"], done["after"], done["changed"]) == (2, 4, True)
    assert sum(done["unscored"].values()) == 240
    growing.score()
    assert set(growing.lengths().values()) == {6}
    assert_exactly_once(growing.examine(4), at_least=480, sessions=80)


def test_unscored_records_of_before_are_refused_or_left_where_they_lie(growing: Growing):
    growing.send(rounds=1)
    names = growing.place.settings
    growing.grow_by_hand(3, names.events_topic, names.changelog)
    assert "--leave-unscored goes on" in growing.refused()
    done = growing.grow("--leave-unscored")
    assert sum(done["unscored"].values()) == 80
    growing.score()
    assert_exactly_once(growing.examine(3, left=240), at_least=320, sessions=81)


def test_users_under_foreign_keys_stay_and_are_counted(growing: Growing):
    users = [f"guest-{n}" for n in range(10)]
    growing.send(1, users, **dict.fromkeys(users, "checkout"))
    growing.score()
    here = partitioner_hash(b"checkout") % 2
    foreign = [user for user in users if partitioner_hash(user.encode()) % 2 != here]
    assert growing.grow("--partitions", "3")["users"]["foreign"] == len(foreign) > 0
    last = {(m.partition(), m.key()): m.value() for m in growing.place.read(growing.place.settings.changelog)}
    assert all(last[here, b"u" + user.encode()] for user in foreign)


def test_a_group_that_never_ran_has_its_topics_grown(shop: Any):
    made = Growing(shop(partitions=2))
    assert made.grow("--partitions", "3")["changed"]
    assert made.counts() == [3, 3]
    made.send(1)
    made.score()
    assert_exactly_once(made.examine(3), at_least=80, sessions=80)


def test_a_worker_that_has_run_since_is_seen_before_the_positions_are_written(growing: Growing, stops: list[int]):
    """The positions that were read may be written again only where nothing was committed since."""
    settings = growing.place.settings
    reader, writer = states.Reader(settings), Writer(settings)
    still = standstill.Standstill(settings, admin(settings), reader, print)
    look = still.look(5)
    growing.send(1)
    growing.score()
    before = still.look(5).growth.positions
    with pytest.raises(TopicError, match="has come"):
        writer.write([], look.growth.marked(), lambda written: still.check_alone(look, written))
    assert still.look(5).growth.positions == before
    Writer(settings)
    with pytest.raises(FencedError, match="another `forecart topics grow`"):
        writer.write([], look.growth.marked())
    reader.close()


def test_markers_of_transactions_behind_the_last_record_are_no_unscored_records(shop: Any):
    made = Growing(shop(partitions=2))
    upstream = Upstream(made.place, rate=100, seconds=2, abort=0.3, users=50)
    upstream.start()
    upstream.join()
    made.score()
    done = made.begin("--partitions", "3")
    told, said = done.communicate(timeout=120)
    assert done.returncode == 0, said
    assert "from 2 to 3 partitions\n" in told
    assert "start the producers anew" in told
    assert "items that the model does not know stay with their partitions" in told
    assert "not scored" not in told
    assert f"{made.place.settings.changelog} grows from 2 to 3 partitions\n" in said


def test_a_coordinator_that_is_not_there_yet_ends_no_run(node: Any, shops: Any):
    """A broker that has had no group answers NOT_COORDINATOR at first, which librdkafka's administrator dies of."""
    made = Growing(shops(node.address, partitions=2))
    plan = made.grow("--partitions", "3", "--dry-run")
    assert (plan["before"], plan["after"], plan["refused"]) == (2, 3, "")
