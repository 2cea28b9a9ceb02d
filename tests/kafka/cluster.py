"""Three brokers in KRaft mode, each a controller too: leaders and the controller are bounced one at a time."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka.admin import AdminClient, ClusterMetadata

from stream.kafka.embedded_broker import free_port
from tests.kafka.nodes import Node
from tests.kafka.shop import wait_for

SIZE = 3
_SAFE = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "min.insync.replicas": "2",
    "default.replication.factor": "3",
}


class _Member(Node):
    """One of the three, with a controller's port that stays."""

    def __init__(self, data: Path, number: int, controllers: list[int]) -> None:
        super().__init__(data)
        self.number, self._controllers = number, controllers

    def properties(self) -> dict[str, str]:
        """Return a node's, with all voters."""
        own = self._controllers[self.number - 1]
        voters = ",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(self._controllers, 1))
        return {
            **super().properties(),
            **_SAFE,
            "node.id": str(self.number),
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{own}",
        }


class Cluster:
    """Start three brokers under a folder, and stop what of them runs; a context manager."""

    def __init__(self, folder: Path) -> None:
        ports = [free_port() for _ in range(SIZE)]
        self.nodes = [_Member(folder / f"node-{n}", n, ports) for n in range(1, SIZE + 1)]
        for node in self.nodes:
            node.cluster = self.nodes[0].cluster

    @property
    def address(self) -> str:
        """Return what --bootstrap-servers takes."""
        return ",".join(node.address for node in self.nodes)

    def __enter__(self) -> Self:
        """Start all at once: none answers before there are two."""
        try:
            self._all(lambda node: node.start())
            wait_for(lambda: len(self._metadata().brokers) == SIZE, 60, "three brokers are known")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill all: the last to leave would wait for a controller."""
        self._end()

    def leader_of(self, topic: str, partition: int) -> Node:
        """Return the broker that leads a partition."""
        return self.nodes[self._metadata().topics[topic].partitions[partition].leader - 1]

    def coordinator_of(self, topic: str, name: str) -> Node:
        """Return the broker that coordinates a group (`__consumer_offsets`) or a producer (`__transaction_state`)."""
        return self.leader_of(topic, _java_hash(name) % len(self._metadata().topics[topic].partitions))

    def controller(self) -> Node:
        """Return the active controller, as the quorum's own state has it; metadata name any broker."""
        states = [node.data / "log" / "__cluster_metadata-0" / "quorum-state" for node in self.nodes if node.alive()]
        newest = max((json.loads(path.read_text()) for path in states), key=lambda state: state["leaderEpoch"])
        return self.nodes[newest["leaderId"] - 1]

    def bounce(self, node: Node, hard: bool, down: Callable[[], None] = lambda: None) -> None:
        """End a broker, start it again after `down`, and wait until every replica is in sync."""
        node.end(hard)
        down()
        node.start()
        wait_for(self.in_sync, 120, "all replicas are in sync again")

    def in_sync(self) -> bool:
        """Tell whether every replica of every partition is in sync, with a leader."""
        parts = [part for topic in self._metadata().topics.values() for part in topic.partitions.values()]
        return all(len(part.isrs) == len(part.replicas) and part.leader >= 0 for part in parts)

    def _metadata(self) -> ClusterMetadata:
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0}).list_topics(timeout=10)

    def _end(self) -> None:
        for node in self.nodes:
            if node.alive():
                node.kill()

    def _all(self, act: Callable[[Node], None]) -> None:
        with ThreadPoolExecutor(SIZE) as pool:
            list(pool.map(act, self.nodes))


def _java_hash(text: str) -> int:
    """Hash as Java does, without the sign: so Kafka chooses a coordinator's partition."""
    value = 0
    for letter in text:
        value = (31 * value + ord(letter)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF
