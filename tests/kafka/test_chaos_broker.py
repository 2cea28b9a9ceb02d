"""One broker that goes away and comes back: workers wait in their processes, nothing is lost, nothing is twice."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stream.kafka.embedded_broker import free_port
from tests.kafka.nodes import Node
from tests.kafka.proxy import Proxy
from tests.kafka.trial import PATIENCE, Trial

pytestmark = pytest.mark.slow
chaos = pytest.mark.chaos
Trials = Callable[..., Trial]


@pytest.mark.guarantee("Workers outlive a broker that restarts, idle and under load", under="down for 5 s and for 70 s")
@pytest.mark.parametrize(
    ("down", "times"),
    [(5.0, 1), pytest.param(5.0, 3, marks=chaos), pytest.param(70.0, 3, marks=chaos)],
)
def test_a_broker_restarts_idle_and_under_load(node: Node, trial: Trials, down: float, times: int):
    """Stop it while nothing comes, then stop and kill it while 500 events/s do."""
    one = trial(node.address)
    one.start()
    one.await_assigned()
    one.burst()
    for _ in range(times):
        one.outage(node, down)
        one.burst()
    for n in range(times):
        upstream = one.send(rate=500, seconds=down + 15)
        time.sleep(3)
        one.outage(node, down, hard=n % 2 == 0)
        upstream.join(PATIENCE)
        one.await_scored()
    one.end(at_least=900 * (1 + times) + 8000 * times)


@chaos
@pytest.mark.guarantee("Workers outlive 20 restarts of a broker", under="500 events/s, and pauses without any")
def test_twenty_restarts(node: Node, trial: Trials):
    one, dice = trial(node.address), random.Random(20)
    one.start()
    one.await_assigned()
    one.burst()
    for n in range(20):
        if n % 4 == 3:  # idle
            one.await_scored()
            one.outage(node, dice.uniform(1, 8), hard=n % 8 == 3)
            continue
        upstream = one.send(rate=500, seconds=25)
        time.sleep(dice.uniform(2, 6))
        one.outage(node, dice.uniform(1, 8), hard=dice.random() < 0.5)
        upstream.join(PATIENCE)
    one.end(at_least=100_000)


@pytest.mark.guarantee("Workers start while no broker is there, and wait for it", under="away for 15 s after the start")
def test_a_worker_starts_while_the_broker_is_away(node: Node, trial: Trials):
    one = trial(node.address)
    one.send(rate=1000, seconds=1).join(PATIENCE)
    node.stop()
    one.start()
    time.sleep(15)
    one.check_alive()
    one.bring_back(node)
    one.faults += 1
    one.await_assigned()
    one.burst()
    one.end(at_least=1800)


@pytest.mark.guarantee("kill -9 of a worker and of the broker at the same moment", under="500 events/s")
@pytest.mark.parametrize("times", [1, pytest.param(5, marks=chaos)])
def test_worker_and_broker_are_killed_together(node: Node, trial: Trials, times: int):
    """The worker comes back before the broker does."""
    one = trial(node.address)
    one.start()
    one.await_assigned()
    for n in range(times):
        upstream = one.send(rate=500, seconds=25)
        time.sleep(3)
        name = f"w{n % 2}"
        node.kill()
        one.kill(name)
        one.start(name)
        time.sleep(5)
        one.bring_back(node)
        upstream.join(PATIENCE)
        one.await_scored()
    one.end(at_least=10_000 * times)


@chaos
@pytest.mark.guarantee(
    "Workers find a cluster whose brokers all came back on other ports", under="bootstrap_servers still leads to them"
)
def test_all_brokers_come_back_on_other_ports(node: Node, trial: Trials, tmp_path: Path):
    with Proxy(tmp_path / "proxy.log") as bootstrap:
        bootstrap.forward(node.port)
        one = trial(bootstrap.address)
        one.start()
        one.await_assigned()
        one.burst()
        for _ in range(2):
            node.stop()
            node.port = free_port()
            bootstrap.forward(node.port)
            node.start()
            one.faults += 1
            one.burst()
        one.end(at_least=2700)
