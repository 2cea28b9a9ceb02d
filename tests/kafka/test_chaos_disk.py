"""A broker whose disk is full ends itself; once there is space again and it was restarted, workers go on."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kafka.disk import SmallDisk
from tests.kafka.nodes import Node
from tests.kafka.shop import wait_for
from tests.kafka.trial import PATIENCE, Trial

pytestmark = pytest.mark.slow


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[tuple[SmallDisk, Node]]:
    """Run a broker on a disk of 256 MiB."""
    node = Node(tmp_path / "node")
    with SmallDisk(node.data / "log", 256) as disk, node:
        yield disk, node


@pytest.mark.guarantee(
    "Workers outlive a broker whose disk is full", under="500 events/s; space returns, it is restarted"
)
@pytest.mark.parametrize(("down", "times"), [(5, 1), pytest.param(70, 2, marks=pytest.mark.chaos)])
def test_the_brokers_disk_is_full(
    cramped: tuple[SmallDisk, Node], trial: Callable[..., Trial], down: float, times: int
):
    disk, node = cramped
    one = trial(node.address)
    one.start()
    one.await_assigned()
    for _ in range(times):
        upstream = one.send(rate=500, seconds=down + 20)
        time.sleep(3)
        disk.fill()
        one.faults += 1
        wait_for(lambda: not node.alive(), 60, "the broker ends by itself")
        node.stop()
        time.sleep(down)
        disk.free()
        one.bring_back(node)
        upstream.join(PATIENCE)
        one.await_scored()
    one.end(at_least=10_000 * times)
