"""A group's topics grow: each user's state is found where the user's events are from then on."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions

from stream.kafka.client import admin
from stream.kafka.states import partitioner_hash
from stream.runtime import load
from tests.kafka.oracle import Finding, Replay, assert_exactly_once, examine
from tests.kafka.reader import replay
from tests.kafka.shop import Shop, event, wait_for

NOW = int(time.time() * 1000) - 600_000
USERS = [f"user-{n}" for n in range(80)]


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

    def command(self, *words: str) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", "forecart", "topics", "grow", *words]

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Begin to grow."""
        return subprocess.Popen(
            self.command(*words), env=self._env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

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

    def examine(self, partitions: int, faults: int = 0) -> Finding:
        """Ask the oracle; sessions are held to a replay of each user's events in order, wherever they lie."""
        reading = self.place.reader.read_all()
        numbered = [(int(json.loads(r.value or b"")["event_id"].split("-")[1]), r) for r in reading.events]
        alone = [r._replace(partition=0, offset=n) for n, r in sorted(numbered)]
        found = replay(alone, load(self.place.bundle), self.place.settings)
        sessions = {(partitioner_hash(user) % partitions, user): one for (_, user), one in found.sessions.items()}
        clocks = dict.fromkeys(range(partitions), found.clocks[0])
        return examine(reading, self.place.ledger.records, Replay(sessions, clocks, found.ttl), faults)

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
    plan = growing.grow("--partitions", "5", "--dry-run")
    move = sum(partitioner_hash(user.encode()) % 5 != partitioner_hash(user.encode()) % 2 for user in USERS)
    assert plan["users"] == {"moved": move, "stayed": len(USERS) - move, "foreign": 0}
    assert (plan["changed"], plan["refused"]) == (False, "")
    done = growing.grow("--partitions", "5")
    assert (done["before"], done["after"], done["users"], done["changed"]) == (2, 5, plan["users"], True)
    growing.send()
    growing.score()
    assert set(growing.lengths().values()) == {6}
    assert_exactly_once(growing.examine(5), at_least=480, sessions=80)
    assert growing.grow()["changed"] is False
