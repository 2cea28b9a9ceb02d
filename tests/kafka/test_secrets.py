"""Secrets and shoppers' events: in no line of the log, whatever its level, on a broker that asks for a password."""

import base64
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from stream.core.events import Event
from stream.kafka.broker import Broker, free_port
from tests.fakes import NOON
from tests.kafka.shop import Shop

PASSWORD, USER, ITEM = "hunter2-correct-horse", "shopper-who-is-private", "item-that-is-private"


class Guarded(Broker):
    """A broker with a second door, that asks for a password."""

    door = 0

    def properties(self) -> dict[str, str]:
        self.door = self.door or free_port()
        found = super().properties()
        login = "org.apache.kafka.common.security.plain.PlainLoginModule"
        found["listeners"] += f",SASL_PLAINTEXT://127.0.0.1:{self.door}"
        found["advertised.listeners"] += f",SASL_PLAINTEXT://127.0.0.1:{self.door}"
        found["listener.security.protocol.map"] = (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT"
        )
        found["sasl.enabled.mechanisms"] = "PLAIN"
        found["listener.name.sasl_plaintext.plain.sasl.jaas.config"] = f'{login} required user_shop="{PASSWORD}";'
        return found


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with Guarded() as running:
        yield running


def _secrets() -> list[bytes]:
    """Return what must not be found, as it is and as it travels."""
    plain = [PASSWORD, USER, ITEM]
    login = f"\0shop\0{PASSWORD}".encode()
    return [*(text.encode() for text in plain), base64.b64encode(login), login]


@pytest.mark.parametrize("how", ["forecart", "faust", "refused"])
def test_no_level_writes_a_password_or_an_event(guarded: Guarded, shops: Callable[..., Shop], tmp_path: Path, how: str):
    shop = shops(guarded.address, partitions=1)
    path = tmp_path / "kafka.properties"
    password = PASSWORD if how != "refused" else PASSWORD + "-wrong"
    path.write_text(
        f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=shop\nsasl.password={password}\n"
    )
    out = Producer({"bootstrap.servers": guarded.address})
    events = [Event(f"e{n}", USER, "view", ITEM, NOON + n) for n in range(20)]
    for value in [*map(msgspec.json.encode, events), b'{"user_id":"' + USER.encode() + b'","broken']:
        out.produce(shop.names["events_topic"], value, USER.encode(), timestamp=NOON)
    assert out.flush(20) == 0
    given = {"bootstrap_servers": f"127.0.0.1:{guarded.door}", "kafka_properties": path, "log_level": "debug"}
    worker = shop.start("w0", **given) if how != "faust" else _by_faust(shop, given)
    try:
        if how == "refused":
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(20)
        else:
            assert _scored(shop) == 20
    finally:
        worker.terminate()
        worker.wait(40)
    logs = sorted(tmp_path.glob("*.log"))
    assert logs
    for log in logs:
        content = log.read_bytes()
        assert content
        assert not [secret for secret in _secrets() if secret in content], log.name


def _by_faust(shop: Shop, given: dict[str, object]) -> subprocess.Popen[bytes]:
    values = {**shop.names, **shop.extra, "bundle": shop.bundle, "group": shop.group, "name": "w0", "metrics_port": 0}
    env = {k: v for k, v in os.environ.items() if not k.startswith("FORECART_")}
    env |= {f"FORECART_{k.upper()}": str(v) for k, v in {**values, **given}.items()}
    with (shop.folder / "faust.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "faust", "-A", "stream.app", "worker", "-l", "debug"],
            env=env,
            stdout=log,
            stderr=log,
        )


def _scored(shop: Shop) -> int:
    """Count the scores that come within a minute."""
    reader = Consumer(
        {"bootstrap.servers": shop.address, "group.id": "look", "isolation.level": "read_committed", "log_level": 0}
    )
    reader.assign([TopicPartition(shop.names["scores_topic"], 0, 0)])
    found = [message for message in reader.consume(20, 60) if not message.error()]
    reader.close()
    return len(found)
