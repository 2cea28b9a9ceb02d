"""Secrets and shoppers' events: in no line of the log, whatever its level, on a broker that asks for a login."""

import base64
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition

from stream.core.events import Event
from stream.kafka.topics.admin import apply
from tests.fakes import NOON
from tests.kafka.secured import PASSWORD, Secured, login
from tests.kafka.secured import USER as LOGIN
from tests.kafka.shop import Shop
from tests.stream.issuer import Issuer

USER, ITEM = "shopper-who-is-private", "item-that-is-private"
CLIENT_SECRET, KEY_PASSWORD = "hunter2-of-the-client", "hunter2-of-the-key"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with Issuer(secret=CLIENT_SECRET) as issuer, Secured(tmp_path_factory.mktemp("secured"), issuer) as running:
        yield running


def _login(secured: Secured, folder: Path, how: str, wrong: str = "") -> tuple[str, str, list[str]]:
    """Return listener, principal and properties; `wrong` is put behind the secret."""
    if how == "OAUTHBEARER":
        lines = ["security.protocol=SASL_PLAINTEXT", *secured.issuer.properties(CLIENT_SECRET + wrong)]
        return "LOGIN", f"User:{secured.issuer.client}", lines
    if how == "key":
        pair, key = secured.authority.sign(f"w{folder.name}", "/CN=worker"), folder / "locked.key"
        lock = ["openssl", "pkey", "-in", pair.key, "-aes256", "-passout", f"pass:{KEY_PASSWORD}", "-out", key]
        subprocess.run(lock, check=True, capture_output=True)
        names = {"certificate.location": pair.certificate, "key.location": key, "key.password": KEY_PASSWORD + wrong}
        lines = ["security.protocol=SSL", secured.trust(), *(f"ssl.{name}={value}" for name, value in names.items())]
        return "MUTUAL", "User:CN=worker", lines
    return "LOGIN", f"User:{LOGIN}", login(how, PASSWORD + wrong)


def _secrets(issuer: Issuer) -> list[bytes]:
    """Return what must not be found, as it is and as it travels."""
    texts = [PASSWORD, USER, ITEM, CLIENT_SECRET, KEY_PASSWORD, *issuer.given]
    travelling = [f"\0{LOGIN}\0{PASSWORD}", f"{issuer.client}:{CLIENT_SECRET}"]
    return [text.encode() for text in texts + travelling] + [base64.b64encode(text.encode()) for text in travelling]


def _clean(secured: Secured, folder: Path) -> None:
    logs = sorted(folder.glob("*.log"))
    assert logs
    for log in logs:
        content = log.read_bytes()
        assert content
        assert not [secret for secret in _secrets(secured.issuer) if secret in content], log.name


@pytest.mark.parametrize("how", ["PLAIN", "SCRAM-SHA-512", "OAUTHBEARER", "key"])
@pytest.mark.parametrize("program", ["forecart", "faust"])
def test_no_level_writes_a_secret_or_an_event(
    secured: Secured, shops: Callable[..., Shop], tmp_path: Path, program: str, how: str
):
    shop, path = shops(secured.address, partitions=1), tmp_path / "kafka.properties"
    listener, who, lines = _login(secured, tmp_path, how)
    apply(shop.settings, acls=who)
    path.write_text("\n".join(lines) + "\n")
    events = [Event(f"e{n}", USER, "view", ITEM, NOON + n) for n in range(20)]
    values = [*map(msgspec.json.encode, events), b'{"user_id":"' + USER.encode() + b'","broken']
    shop.send([(USER.encode(), value) for value in values], timestamp=NOON)
    given = {"bootstrap_servers": secured.at(listener), "kafka_properties": path, "log_level": "debug"}
    worker = shop.start("w0", **given) if program == "forecart" else _by_faust(shop, given)
    try:
        assert _scored(shop) == 20
    finally:
        worker.terminate()
        worker.wait(40)
    _clean(secured, tmp_path)


WRONG = {  # the worker's exit code, and what it says
    "PLAIN": (69, "user name or password is wrong"),
    "SCRAM-SHA-512": (69, "user name or password is wrong"),
    "OAUTHBEARER": (69, "the issuer gives no token"),
    "key": (78, "ssl.key.location failed"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_worker_ends_by_a_wrong_secret_and_does_not_write_it(
    secured: Secured, shops: Callable[..., Shop], tmp_path: Path, how: str
):
    code, words = WRONG[how]
    shop, path = shops(secured.address, partitions=1), tmp_path / "kafka.properties"
    listener, _, lines = _login(secured, tmp_path, how, wrong="-wrong")
    path.write_text("\n".join(lines) + "\n")
    worker = shop.start("w0", bootstrap_servers=secured.at(listener), kafka_properties=path, log_level="debug")
    assert worker.wait(40) == code
    assert words in shop.log_of("w0").read_text()
    _clean(secured, tmp_path)


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
