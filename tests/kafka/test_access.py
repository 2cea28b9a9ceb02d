"""Who may come, and what is said to those who may not: every login, every fault of one, every right taken away."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from stream.core.errors import BrokerError
from stream.kafka.client import Outbox, reach
from stream.kafka.rights import needed, principal
from stream.settings import Settings, load
from tests.kafka.secured import PASSWORD, Secured, login, without
from tests.kafka.shop import Shop, event
from tests.stream.certificates import Authority
from tests.stream.issuer import Issuer

_DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as running:
        yield running


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Secured]:
    with Secured(tmp_path_factory.mktemp("secured"), issuer) as running:
        yield running


@pytest.fixture
def come(tmp_path: Path) -> Callable[..., Settings]:
    """Make settings that come to an address with these lines."""

    def settings(address: str, *lines: str) -> Settings:
        path = tmp_path / "kafka.properties"
        path.write_text("\n".join(lines) + "\n")
        return load(kafka_properties=path, bootstrap_servers=address)

    return settings


def test_probe_all(secured: Secured, come, issuer: Issuer, tmp_path: Path):
    import time

    ca = secured.trust()
    mine = secured.authority.sign("worker", "/O=Shop/CN=worker")
    old = secured.authority.sign("oldworker", "/O=Shop/CN=worker", begin=-2 * _DAY, end=-_DAY)
    stranger = Authority(tmp_path / "other", "other")
    theirs = stranger.sign("theirs", "/CN=worker")

    def pair(p):
        return [f"ssl.certificate.location={p.certificate}", f"ssl.key.location={p.key}"]

    cases = {
        "tls": ("TLS", ["security.protocol=SSL", ca]),
        "mutual": ("MUTUAL", ["security.protocol=SSL", ca, *pair(mine)]),
        "plain": ("LOGIN", login("PLAIN")),
        "256": ("LOGIN", login("SCRAM-SHA-256")),
        "512": ("LOGIN", login("SCRAM-SHA-512")),
        "256tls": ("LOGINTLS", [*login("SCRAM-SHA-256", protocol="SASL_SSL"), ca]),
        "oauth": ("LOGIN", ["security.protocol=SASL_PLAINTEXT", *issuer.properties()]),
        "x wrong plain": ("LOGIN", login("PLAIN", "x")),
        "x wrong 256": ("LOGIN", login("SCRAM-SHA-256", "x")),
        "x wrong 512": ("LOGIN", login("SCRAM-SHA-512", "x")),
        "x mechanism": ("LOGINTLS", [*login("PLAIN", protocol="SASL_SSL"), ca]),
        "x oauth secret": ("LOGIN", ["security.protocol=SASL_PLAINTEXT", *issuer.properties("x")]),
        "x ca": ("TLS", ["security.protocol=SSL", f"ssl.ca.location={stranger.pair.certificate}"]),
        "x noca": ("TLS", ["security.protocol=SSL"]),
        "x no cert": ("MUTUAL", ["security.protocol=SSL", ca]),
        "x old cert": ("MUTUAL", ["security.protocol=SSL", ca, *pair(old)]),
        "x their cert": ("MUTUAL", ["security.protocol=SSL", ca, *pair(theirs)]),
        "x plaintext to tls": ("TLS", ["security.protocol=PLAINTEXT"]),
        "x plaintext to sasl": ("LOGIN", ["security.protocol=PLAINTEXT"]),
        "x plaintext to sasl_ssl": ("LOGINTLS", ["security.protocol=PLAINTEXT"]),
        "x tls to sasl": ("LOGIN", ["security.protocol=SSL", ca]),
        "x tls to sasl_ssl": ("LOGINTLS", ["security.protocol=SSL", ca]),
        "x sasl to tls": ("TLS", login("PLAIN")),
        "x sasl_ssl to tls": ("TLS", [*login("PLAIN", protocol="SASL_SSL"), ca]),
        "x sasl_ssl to sasl": ("LOGIN", [*login("PLAIN", protocol="SASL_SSL"), ca]),
        "x sasl to plain": ("", login("PLAIN")),
        "x ssl to plain": ("", ["security.protocol=SSL", ca]),
    }
    for name, (listener, lines) in cases.items():
        settings = come(secured.at(listener) if listener else secured.address, *lines)
        began = time.monotonic()
        try:
            reach(settings)
            said = "ok " + principal(settings)
        except BrokerError as e:
            said = str(e)
        print(f"CASE {name}: {time.monotonic() - began:.1f} s: {said}")
