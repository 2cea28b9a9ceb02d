"""Other versions: state that an earlier Forecart wrote, both in one group, and the oldest broker."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kafka import earlier
from tests.kafka.nodes import OldNode
from tests.kafka.shop import Shop
from tests.kafka.trial import PATIENCE, Trial

pytestmark = pytest.mark.slow
Trials = Callable[..., Trial]


@pytest.mark.guarantee("State that the Forecart of 2026-11-26 wrote is read and carried on", under="the same bundle")
def test_an_earlier_changelog_is_carried_on(shop: Callable[..., Shop]):
    """The oracle replays what both versions scored as one log: an unread session or position would show."""
    one = Trial(shop(partitions=earlier.PARTITIONS))
    earlier.restore(one.place)
    before = one.place.examine()
    assert (before.want, before.lost, before.far) == (earlier.EVENTS, 0, 0)
    one.start("w0")
    one.await_assigned()
    one.place.since = int(time.time() * 1000)  # what is sent now has the recording's times
    earlier.send(one.place, range(earlier.EVENTS, 2 * earlier.EVENTS))
    one.end(at_least=2 * earlier.EVENTS)


@pytest.mark.guarantee(
    "A rolling update, with both versions in the group", under="from the commit of 2026-11-26, 500 events/s"
)
def test_a_rolling_update(shop: Callable[..., Shop], tmp_path: Path):
    one = Trial(shop())
    source = earlier.unpack(tmp_path / "source")
    one.start(source=source, bundle=source / "stream/demo/bundle")
    one.await_assigned()
    upstream = one.send(rate=500, seconds=24)
    for name in ("w0", "w1"):
        time.sleep(6)
        one.workers[name].terminate()
        assert one.workers[name].wait(30) == 0
        one.start(name)
        one.faults += 1
    upstream.join(PATIENCE)
    one.end(at_least=10_000)


@pytest.fixture
def oldest(tmp_path: Path) -> Iterator[OldNode]:
    """Run the oldest broker."""
    with OldNode(tmp_path / "node") as running:
        yield running


@pytest.mark.guarantee("The oldest broker gives the same", under="Apache Kafka 3.7.2, kill -9 of workers, 500 events/s")
def test_the_oldest_broker(oldest: OldNode, trial: Trials):
    one = trial(oldest.address)
    one.start()
    one.await_assigned()
    upstream = one.send(rate=500, seconds=18)
    for name in ("w0", "w1", "w0"):
        time.sleep(4)
        one.kill(name)
        one.start(name)
    upstream.join(PATIENCE)
    one.end(at_least=7_000)


def test_the_command_that_creates_topics_works_on_the_oldest_broker(oldest: OldNode):
    env = os.environ | {"FORECART_BOOTSTRAP_SERVERS": oldest.address}
    for arguments in (["apply"], ["plan"]):
        command = [sys.executable, "-m", "forecart", "topics", *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
