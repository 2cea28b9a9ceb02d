"""Forecart as of an earlier commit: its source to run workers from, and the topics that such a worker left behind.

`python -m tests.kafka.earlier` records those topics anew.
"""

import json
import os
import random
import subprocess
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from stream.kafka.embedded_broker import Broker
from tests.kafka.shop import Shop, event, wait_for

COMMIT = "e70b9f3"  # of 2026-11-26
ROOT = Path(__file__).parents[2]
TOPICS = Path(__file__).with_name("earlier.jsonl")
ROLES = ("events_topic", "scores_topic", "dead_letters_topic", "changelog_topic")
EVENTS, PARTITIONS = 20, 2
_USERS, _BEGIN, _STEP = 4, 1_795_800_000_000, 1000  # the first event's time, and from one to the next, ms


def unpack(folder: Path) -> Path:
    """Write the earlier source to a folder, from the history; a copy that was made without one skips, else CI fails."""
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True)
    if archive.returncode:
        shallow = subprocess.run(["git", "rev-parse", "--is-shallow-repository"], cwd=ROOT, capture_output=True)
        whole = shallow.stdout.strip() == b"false"
        say = pytest.fail if os.environ.get("CI") and whole else pytest.skip
        say(f"the commit {COMMIT} is not in this copy's history")
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def send(place: Shop, numbers: range) -> None:
    """Send events of a few users, some of items that the model does not know, and one record that is no event."""
    out = place.producer()
    for n in numbers:
        user, at = f"user-{n % _USERS}", _BEGIN + n * _STEP
        value = event(n, user, at, random.Random(n))
        if n % 7 == 3:
            value = value.replace(b'"item-', b'"new-item-')
        out.produce(place.settings.events_topic, b"no event" if n == 9 else value, user.encode(), timestamp=at)
    assert out.flush(30) == 0


def restore(place: Shop) -> None:
    """Write the recorded topics into a shop's, and commit the group's offsets, as if it had been there."""
    lines = [json.loads(line) for line in TOPICS.read_text().splitlines()]
    names = {role: getattr(place.settings, role) for role in ROLES}
    out, topic_id = place.producer(), _topic_id(place)
    for line in lines:
        key, value = (None if line[part] is None else b64decode(line[part]) for part in ("key", "value"))
        if line["role"] == "changelog_topic" and key == b"p" and value:
            value = json.dumps({**json.loads(value), "topic_id": topic_id}).encode()
        headers = [(name, b64decode(data)) for name, data in line["headers"]]
        out.produce(names[line["role"]], value, key, line["partition"], timestamp=line["timestamp"], headers=headers)
    assert out.flush(30) == 0
    ends = [sum((n["role"], n["partition"]) == ("events_topic", part) for n in lines) for part in range(PARTITIONS)]
    group = Consumer({"bootstrap.servers": place.address, "group.id": place.group})
    marks = [TopicPartition(names["events_topic"], part, end) for part, end in enumerate(ends)]
    group.commit(offsets=marks, asynchronous=False)
    group.close()


def _topic_id(place: Shop) -> str:
    client, name = AdminClient({"bootstrap.servers": place.address, "log_level": 0}), place.settings.events_topic
    return str(client.describe_topics(TopicCollection([name]))[name].result(10).topic_id)


def _line(role: str, message: Any) -> str:
    def text(data: bytes | None) -> str | None:
        return None if data is None else b64encode(data).decode()

    found = {"role": role, "partition": message.partition(), "timestamp": message.timestamp()[1]}
    found |= {"key": text(message.key()), "value": text(message.value())}
    return json.dumps(found | {"headers": [(name, text(data)) for name, data in message.headers() or []]})


def record() -> None:
    """Let a worker of the earlier commit score events, and write down what its topics hold."""
    with tempfile.TemporaryDirectory() as name, Broker() as broker:
        folder = Path(name)
        place = Shop(broker.address, "earlier", folder, partitions=PARTITIONS)
        try:
            place.start("w0", source=unpack(folder / "source"))
            for begin in range(0, EVENTS, 10):
                send(place, range(begin, begin + 10))
                wait_for(lambda want=begin + 10: sum(place.outcomes().values()) == want, 60, "the events are scored")
        finally:
            place.close()
        lines = [_line(role, m) for role in ROLES for m in place.read(getattr(place.settings, role))]
    TOPICS.write_text("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    record()
