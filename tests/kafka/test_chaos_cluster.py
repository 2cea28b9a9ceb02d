"""Three brokers, replication 3, min.insync.replicas 2: leaders, coordinators and the controller are bounced."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kafka.cluster import Cluster
from tests.kafka.nodes import Node
from tests.kafka.trial import PATIENCE, Trial

pytestmark = pytest.mark.slow
chaos = pytest.mark.chaos


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Run three brokers."""
    with Cluster(tmp_path / "cluster") as running:
        yield running


def _roles(cluster: Cluster, one: Trial) -> dict[str, Callable[[], Node]]:
    """Return who is bounced: found anew each time, since a bounce moves them."""
    settings = one.place.settings
    return {
        "leader of the input": lambda: cluster.leader_of(settings.events_topic, 0),
        "controller": cluster.controller,
        "group's coordinator": lambda: cluster.coordinator_of("__consumer_offsets", settings.group),
        "transaction's coordinator": lambda: cluster.coordinator_of("__transaction_state", f"{settings.group}/w0"),
        "leader of the changelog": lambda: cluster.leader_of(settings.changelog, 1),
    }


@pytest.mark.guarantee(
    "Workers outlive bounces of three brokers: leaders, the controller, the coordinators of group and transactions",
    under="500 events/s, replication 3, min.insync.replicas 2, acks=all upstream; stopped and killed",
)
@pytest.mark.parametrize(
    ("roles", "times"),
    [(("leader of the input", "controller"), 1), pytest.param((), 2, marks=chaos)],
    ids=["two", "all"],
)
def test_brokers_are_bounced(cluster: Cluster, trial: Callable[..., Trial], roles: tuple[str, ...], times: int):
    one = trial(cluster.address)
    one.start()
    one.await_assigned()
    found = _roles(cluster, one)
    for n in range(times):
        for m, role in enumerate(roles or found):
            upstream = one.send(rate=500, seconds=15)
            time.sleep(3)
            cluster.bounce(found[role](), hard=(n + m) % 2 == 0, down=lambda: time.sleep(5))
            one.faults += 1
            upstream.join(PATIENCE)
            one.await_scored()
    one.end(at_least=3000 * times * len(roles or found))
