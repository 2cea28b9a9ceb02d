"""Workers that go for good leave the group; those that come back do not."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from tests.cluster import Cluster
from tests.kafka.oracle import assert_exactly_once
from tests.kafka.shop import Shop, Upstream, wait_for

SESSION_SECONDS = 30
ALL = [0, 1, 2, 3]
REPLICA = """
import sys
from pathlib import Path
from stream.worker import kubernetes
kubernetes.Replica.__init__.__defaults__ = (Path(sys.argv.pop(1)),)
from forecart import main
sys.exit(main())
"""


def _assignments(place: Shop, name: str) -> list[list[int]]:
    text = place.log_of(name).read_text() if place.log_of(name).exists() else ""
    return [json.loads(found) for found in re.findall(r"assigned in generation \d+: partitions (\[.*\])", text)]


def _share(place: Shop, *names: str) -> bool:
    """Tell whether each worker has partitions, and all of them together have all."""
    shares = [(_assignments(place, name) or [[]])[-1] for name in names]
    return all(shares) and sorted(number for share in shares for number in share) == ALL


def _leave(place: Shop, *names: str) -> tuple[int, dict[str, bool]]:
    command = [sys.executable, "-m", "forecart", "leave", "--bootstrap-servers", place.address, "--group", place.group]
    given = [word for name in names for word in ("--name", name)]
    done = subprocess.run([*command, *given, "--json"], capture_output=True, text=True, timeout=60)
    assert not done.stderr
    return done.returncode, json.loads(done.stdout)["members"]


def _settled(place: Shop) -> None:
    place.await_outcomes(60)
    assert_exactly_once(place.examine())


@pytest.fixture
def place(shop):
    """Run two workers that share the partitions."""
    made = shop(session_timeout_seconds=SESSION_SECONDS)
    for name in ("w-0", "w-1"):
        made.start(name)
    wait_for(lambda: _share(made, "w-0", "w-1"), 90, "both have partitions")
    return made


def test_who_leaves_is_replaced_at_once_and_who_comes_back_keeps_its_partitions(place):
    upstream = Upstream(place, rate=200, seconds=12)
    upstream.start()
    before = {name: _assignments(place, name) for name in ("w-0", "w-1")}
    place.workers["w-1"][-1].terminate()
    assert place.workers["w-1"][-1].wait(30) == 0
    place.start("w-1")
    wait_for(lambda: len(_assignments(place, "w-1")) > len(before["w-1"]), 60, "w-1 is back")
    assert _assignments(place, "w-1")[-1] == before["w-1"][-1]
    assert _assignments(place, "w-0") == before["w-0"]  # no rebalance

    place.workers["w-1"][-1].terminate()
    assert place.workers["w-1"][-1].wait(30) == 0
    ended = time.monotonic()
    assert _leave(place, "w-1", "nobody") == (1, {"w-1": True, "nobody": False})
    wait_for(lambda: _share(place, "w-0"), SESSION_SECONDS, "w-0 has all partitions")
    assert time.monotonic() - ended < SESSION_SECONDS * 0.6  # a member's heartbeat, every 6 s, brings the news
    assert _leave(place, "w-1") == (1, {"w-1": False})
    upstream.join()
    _settled(place)


def test_a_worker_that_still_runs_joins_again_and_loses_nothing(place):
    upstream = Upstream(place, rate=500, seconds=15)
    upstream.start()
    time.sleep(3)
    before = len(_assignments(place, "w-1"))
    assert _leave(place, "w-1") == (0, {"w-1": True})
    wait_for(lambda: len(_assignments(place, "w-1")) > before and _share(place, "w-0", "w-1"), 90, "w-1 is back")
    upstream.join()
    _settled(place)
    assert [place.workers[name][-1].poll() for name in ("w-0", "w-1")] == [None, None]


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.chaos)])
def test_a_worker_that_was_scaled_down_leaves_at_its_end(shop, tmp_path, replicas):
    place, cluster = shop(session_timeout_seconds=SESSION_SECONDS), Cluster(tmp_path)
    cluster.answer = {"spec": {"replicas": replicas}}
    with cluster.serve() as environment:
        place.start("w-0")
        _start_as_replica(place, "w-1", cluster, environment)
        wait_for(lambda: _share(place, "w-0", "w-1"), 90, "both have partitions")
        upstream = Upstream(place, rate=200, seconds=5)
        upstream.start()
        time.sleep(2)
        place.workers["w-1"][-1].terminate()
        assert place.workers["w-1"][-1].wait(30) == 0
    ended, log = time.monotonic(), place.log_of("w-1").read_text()
    assert cluster.asked == [("/apis/apps/v1/namespaces/shops/statefulsets/w/scale", "Bearer secret")]
    assert log.index("stopped: positions are committed") < log.index("replicas, this is number 1")
    assert ("scaled down: w-1 has left" in log) == (replicas == 1)
    wait_for(lambda: _share(place, "w-0"), SESSION_SECONDS * 3, "w-0 has all partitions")
    assert (time.monotonic() - ended < SESSION_SECONDS * 0.6) == (replicas == 1)
    upstream.join()
    _settled(place)


def _start_as_replica(place: Shop, name: str, cluster: Cluster, environment: dict[str, str]) -> None:
    """Start a worker that finds its service account in the test's folder."""
    given = {**place.names, **place.extra, "bundle": place.bundle, "bootstrap_servers": place.address}
    given |= {"group": place.group, "name": name, "metrics_port": 0, "leave_on_scale_down": True}
    env = {k: v for k, v in os.environ.items() if not k.startswith("FORECART_")} | environment
    env |= {f"FORECART_{k.upper()}": str(v) for k, v in given.items()}
    with place.log_of(name).open("ab") as log:
        command = [sys.executable, "-c", REPLICA, cluster.account, "worker"]
        place.workers[name].append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
