"""A real Prometheus beside two workers of two groups: which alert tells of a fault, how soon, and for how long.

The rules are the chart's own but for `blockedSeconds`, 60 here. Its table is that of docs/experiments.md:
`pytest -m chaos -s tests/kafka/test_chaos_alerts.py`.
"""

import os
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest

from tests.kafka.nodes import Node
from tests.kafka.oracle import assert_exactly_once
from tests.kafka.probes import ask
from tests.kafka.prometheus import Prometheus, Release, Watch
from tests.kafka.shop import BUNDLE, Ledger, Shop, event, wait_for

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("helm")), reason="prometheus and helm are not installed"
    ),
]
HEALTHY = 600.0  # seconds in which a group with a replay of duplicates must raise nothing
RATE, TICK = 30, 0.1


class Traffic(threading.Thread):
    """Send events to a shop; `broken` of them are none, and with `again` each is sent twice."""

    def __init__(self, place: Shop) -> None:
        super().__init__(daemon=True)
        self.place, self.broken, self.again, self.ended = place, 0.0, False, threading.Event()

    def run(self) -> None:
        out, dice, n = self.place.producer(), random.Random(1), 0
        while not self.ended.wait(TICK):
            for _ in range(int(RATE * TICK)):
                n += 1
                user = f"user-{n % 200}"
                value = event(n, user, int(time.time() * 1000), dice)
                value = b"no event" if dice.random() < self.broken else value
                for _ in range(1 + self.again):
                    out.produce(
                        self.place.settings.events_topic, value, user.encode(), on_delivery=self.place.ledger.enter
                    )
            out.poll(0)
        out.flush(10)


class Stage:
    """A release with its shop, its traffic and its worker."""

    def __init__(self, namespace: str, place: Shop) -> None:
        self.release, self.place, self.traffic = Release(namespace, place.group), place, Traffic(place)
        self.worker: subprocess.Popen[bytes]

    def start(self, **settings: object) -> None:
        """Start the worker."""
        self.worker = self.place.start("w0", metrics_port=self.release.port, **settings)

    def ready(self) -> bool:
        """Tell whether the worker is."""
        return ask(self.release.port, "/readyz")[0] == 200


class Table:
    """Rows of what was done, and what was told of it."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.rows = (
            watch,
            ["| fault | alert | fired after, s | cleared after, s |", "| --- | --- | --- | --- |"],
        )

    def add(self, fault: str, alert: str, fired: float, cleared: float) -> None:
        """Add a fault; both times are counted from its begin and from its end."""
        self.rows.append(f"| {fault} | {alert} | {fired:.0f} | {cleared:.0f} |")
        print(self.rows[-1], flush=True)


def _burst(one: Stage, watch: Watch, table: Table) -> None:
    one.traffic.broken = 0.25
    fired = watch.until("ForecartDeadLetters", one.release.namespace, True, 120)
    watch.rest(max(60 - fired, 0))
    one.traffic.broken = 0.0
    cleared = watch.until("ForecartDeadLetters", one.release.namespace, False, 240)
    table.add("first burst of one reason, a quarter of all events for a minute", "ForecartDeadLetters", fired, cleared)


def _hang(one: Stage, watch: Watch, table: Table) -> None:
    out = one.place.producer(**{"transactional.id": f"upstream-{one.place.group}", "transaction.timeout.ms": 600_000})
    out.init_transactions(30)
    out.begin_transaction()
    topic, own = one.place.settings.events_topic, Ledger()
    for n in range(200):
        out.produce(topic, event(n, f"user-{n}", int(time.time() * 1000), random.Random(n)), on_delivery=own.enter)
    out.flush()
    fired = watch.until("ForecartInputBlocked", one.release.namespace, True, 180)
    out.commit_transaction(30)
    one.place.ledger.records += own.records
    cleared = watch.until("ForecartInputBlocked", one.release.namespace, False, 120)
    table.add("a producer's transaction hangs, blockedSeconds 60", "ForecartInputBlocked", fired, cleared)


def _stop(one: Stage, watch: Watch, table: Table) -> None:
    os.kill(one.worker.pid, signal.SIGSTOP)
    fired = watch.until("ForecartWorkerDown", one.release.namespace, True, 240)
    os.kill(one.worker.pid, signal.SIGCONT)
    cleared = watch.until("ForecartWorkerDown", one.release.namespace, False, 120)
    table.add("worker stopped (SIGSTOP)", "ForecartWorkerDown", fired, cleared)


def _kill(one: Stage, watch: Watch, table: Table, bundle: object) -> None:
    """Kill the worker, start it with a bundle that is broken, then with the right one."""
    one.worker.kill()
    one.worker.wait()
    fired = watch.until("ForecartWorkerDown", one.release.namespace, True, 240)
    one.start(bundle=bundle)
    began = watch.now
    cleared = watch.until("ForecartWorkerDown", one.release.namespace, False, 120)
    table.add("worker killed; started again", "ForecartWorkerDown", fired, cleared)
    watch.until("ForecartBundleRefused", one.release.namespace, True, 120)
    refused = watch.now - began
    one.worker.terminate()
    assert one.worker.wait(20) == 78
    one.start()
    cleared = watch.until("ForecartBundleRefused", one.release.namespace, False, 120)
    table.add("corrupt bundle; started with the right one", "ForecartBundleRefused", refused, cleared)


def _outage(node: Node, stages: list[Stage], watch: Watch, table: Table) -> None:
    began = watch.now
    node.stop()
    fired = [watch.until("ForecartKafkaUnreachable", one.release.namespace, True, 120) for one in stages]
    watch.rest(120 - (watch.now - began))
    node.start()
    cleared = sum(watch.until("ForecartKafkaUnreachable", one.release.namespace, False, 120) for one in stages)
    table.add("broker away for two minutes", "ForecartKafkaUnreachable, of both groups", sum(fired), cleared)


def test_each_fault_is_told_of_once_by_its_own_release(node: Node, shops, tmp_path):
    red, blue = stages = [Stage(namespace, shops(node.address)) for namespace in ("red", "blue")]
    broken = tmp_path / "bundle"
    shutil.copytree(BUNDLE, broken)
    (broken / "top.onnx").write_bytes(b"no model")
    with Prometheus(tmp_path, [one.release for one in stages], blockedSeconds=60) as prometheus:
        wait_for(lambda: _answers(prometheus), 30, "Prometheus answers")
        for one in stages:
            one.start()
        wait_for(lambda: all(one.ready() for one in stages), 90, "both workers are ready")
        watch = Watch(prometheus)
        table = Table(watch)
        for one in stages:
            one.traffic.start()
        watch.rest(60)
        blue.traffic.again = True
        duplicates_from = watch.now
        assert not watch.look()
        for fault in (_burst, _hang, _stop):
            fault(red, watch, table)
        watch.rest(HEALTHY - (watch.now - duplicates_from))
        blue.traffic.again = False
        assert not [row for row in watch.seen if row[2] == "blue"], "a healthy group raised an alert"
        _kill(blue, watch, table, broken)
        wait_for(blue.ready, 90, "the worker is ready again")
        _outage(node, stages, watch, table)
        for one in stages:
            one.traffic.ended.set()
            one.traffic.join(20)
        watch.look()
    for one, faults in zip(stages, (4, 3), strict=True):
        one.place.await_outcomes(120)
        assert_exactly_once(one.place.examine(faults), at_least=int(RATE * HEALTHY / 2), sessions=200)
    told = {alert for _, alert, _, began in watch.seen if began}
    print("\n".join(table.rows), "besides: " + ", ".join(sorted(told)), sep="\n")


def _answers(prometheus: Prometheus) -> bool:
    try:
        prometheus.firing()
    except OSError:
        return False
    return True
