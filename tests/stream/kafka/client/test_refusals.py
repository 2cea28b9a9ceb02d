"""Why a broker turns a client away is told, with the remedy: by real TLS listeners, and by texts of brokers."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from stream.core.errors import BrokerError, UnreachableError
from stream.kafka.client import admin
from stream.kafka.client.refusals import Heard, explain
from stream.settings import load
from tests.stream.certificates import Authority, Pair

_DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def listener() -> Iterator[Callable[..., str]]:
    """Listen as a broker would, up to the end of the handshake."""
    ended: list[Callable[[], None]] = []

    def listen(pair: Pair | None, clients: Path | None = None) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if pair else None
        if context and pair:
            context.load_cert_chain(*pair)
            if clients:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(clients)
        server = socket.create_server(("127.0.0.1", 0))

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with suppress(OSError), connection:
                    connection.settimeout(2)
                    if context:
                        with context.wrap_socket(connection, server_side=True) as secured:
                            secured.recv(1)
                    else:
                        connection.recv(1)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def end() -> None:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
            thread.join(5)

        ended.append(end)
        return f"localhost:{server.getsockname()[1]}"

    yield listen
    for end in ended:
        end()


def _said(tmp_path: Path, address: str, *lines: str) -> str:
    path = tmp_path / "kafka.properties"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BrokerError) as caught:
        admin.reach(load(kafka_properties=path, bootstrap_servers=address))
    return str(caught.value)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_SAY_SECONDS", 1.0)
    monkeypatch.setattr(admin, "_REACH_SECONDS", 1.0)


def test_a_broker_of_another_authority(tmp_path: Path, authority: Authority, listener):
    stranger = Authority(tmp_path / "other", "other")
    address = listener(stranger.sign("broker", "/CN=localhost", "DNS:localhost"))
    said = _said(tmp_path, address, "security.protocol=SSL", f"ssl.ca.location={authority.pair.certificate}")
    assert "a CA that is not trusted here" in said
    assert "ssl.ca.location" in said and "kafka.properties" in said


def test_a_broker_whose_certificate_has_expired(tmp_path: Path, authority: Authority, listener):
    address = listener(authority.sign("old", "/CN=localhost", "DNS:localhost", -2 * _DAY, -_DAY))
    said = _said(tmp_path, address, "security.protocol=SSL", f"ssl.ca.location={authority.pair.certificate}")
    assert "the broker's certificate, or its CA's, has expired" in said


def test_a_broker_of_another_host(tmp_path: Path, authority: Authority, listener):
    address = listener(authority.sign("elsewhere", "/CN=elsewhere", "DNS:elsewhere"))
    said = _said(tmp_path, address, "security.protocol=SSL", f"ssl.ca.location={authority.pair.certificate}")
    assert "of another host than the address" in said


def test_a_listener_that_speaks_no_tls(tmp_path: Path, authority: Authority, listener):
    address = listener(None)
    said = _said(tmp_path, address, "security.protocol=SSL", f"ssl.ca.location={authority.pair.certificate}")
    assert "another protocol" in said


def test_a_listener_that_speaks_tls(tmp_path: Path, authority: Authority, listener):
    address = listener(authority.sign("broker", "/CN=localhost", "DNS:localhost"))
    assert "another protocol" in _said(tmp_path, address, "security.protocol=PLAINTEXT")


@pytest.mark.parametrize("end, words", [(None, "wants a certificate from us"), (-_DAY, "our certificate has expired")])
def test_a_broker_that_wants_a_certificate(tmp_path: Path, authority: Authority, listener, end, words: str):
    address = listener(authority.sign("broker", "/CN=localhost", "DNS:localhost"), authority.pair.certificate)
    lines = ["security.protocol=SSL", f"ssl.ca.location={authority.pair.certificate}"]
    if end:
        pair = authority.sign("worker", "/O=Shop/CN=worker", begin=-2 * _DAY, end=end)
        lines += [f"ssl.certificate.location={pair.certificate}", f"ssl.key.location={pair.key}"]
    assert words in _said(tmp_path, address, *lines)


def test_nobody_there(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "nothing listens there" in _said(tmp_path, f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    "text, cause",
    [
        ("SASL authentication error: Authentication failed: Invalid username or password", "password is wrong"),
        ("due to invalid credentials with SASL mechanism SCRAM-SHA-256", "password is wrong"),
        ("Unsupported SASL mechanism: broker's supported mechanisms: PLAIN", "does not offer this SASL mechanism"),
        ('SASL authentication error: {"status":"invalid_token"}', "does not accept the issuer's token"),
        ('Failed to retrieve OIDC token from "http://a": access denied (401)', "the issuer gives no token"),
        ("Disconnected: verify that security.protocol is correctly configured", "another protocol"),
        ("Failed to resolve 'nowhere:9092': Name or service not known", "name is unknown"),
        ("something new", ""),
    ],
)
def test_texts_of_brokers(text: str, cause: str):
    found = explain(text, "/etc/kafka.properties")
    assert cause in found.text
    assert found.remedy


def test_what_tells_nothing_replaces_nothing():
    heard = Heard("a:1")
    heard.note(KafkaError(KafkaError._AUTHENTICATION, "Invalid username or password"))
    heard.note(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    heard.note(TimeoutError())
    failure = heard.failure()
    assert "user name or password is wrong (_AUTHENTICATION: Invalid username or password)" in str(failure)
    assert not isinstance(failure, UnreachableError)
