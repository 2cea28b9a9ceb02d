"""One set of connection properties, for both clients."""

import ssl
import subprocess
from pathlib import Path

import pytest
from faust.auth import SASLCredentials, SSLCredentials

from stream.core.errors import SettingError
from stream.kafka import catalog
from stream.kafka.client.admin import admin, consumer, producer
from stream.kafka.client.connection import aiokafka_options, faust_options, properties
from stream.kafka.exactly_once import changelog
from stream.settings import Settings, load


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-days", "1", "-nodes"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", key, "-out", cert, *subject]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def _settings(tmp_path: Path, *lines: str) -> Settings:
    path = tmp_path / "kafka.properties"
    path.write_text("\n".join(lines) + "\n")
    return load(kafka_properties=path, bootstrap_servers="a:1,b:2")


def test_plain_needs_no_file():
    settings = load(bootstrap_servers="a:1,b:2")
    assert properties(settings) == {"bootstrap.servers": "a:1,b:2"}
    assert faust_options(settings) == {"broker": ["kafka://a:1", "kafka://b:2"]}
    assert aiokafka_options(settings) == {"bootstrap_servers": "a:1,b:2", "security_protocol": "PLAINTEXT"}


def test_a_password_reaches_both_clients(tmp_path: Path):
    settings = _settings(
        tmp_path,
        "# how to reach the cluster",
        "security.protocol = SASL_PLAINTEXT",
        "sasl.mechanism=SCRAM-SHA-512",
        "sasl.username=shop",
        "sasl.password=se=cret",
    )
    assert properties(settings)["sasl.password"] == "se=cret"
    credentials = faust_options(settings)["broker_credentials"]
    assert isinstance(credentials, SASLCredentials)
    assert (credentials.username, credentials.password) == ("shop", "se=cret")
    assert credentials.mechanism.value == "SCRAM-SHA-512"
    assert credentials.ssl_context is None
    assert credentials.protocol.value == "SASL_PLAINTEXT"
    assert aiokafka_options(settings) == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "shop",
        "sasl_plain_password": "se=cret",
    }


def test_certificates_reach_both_clients(tmp_path: Path, certificate: tuple[Path, Path]):
    cert, key = certificate
    lines = [f"ssl.ca.location={cert}", f"ssl.certificate.location={cert}", f"ssl.key.location={key}"]
    settings = _settings(tmp_path, "security.protocol=SSL", *lines)
    credentials = faust_options(settings)["broker_credentials"]
    assert isinstance(credentials, SSLCredentials)
    assert credentials.context.verify_mode == ssl.CERT_REQUIRED
    assert credentials.context.check_hostname
    assert properties(settings)["ssl.ca.location"] == str(cert)
    options = aiokafka_options(settings)
    assert options["security_protocol"] == "SSL"
    assert options["ssl_context"].verify_mode == ssl.CERT_REQUIRED


def test_a_property_that_only_one_client_would_obey_is_refused(tmp_path: Path):
    with pytest.raises(SettingError, match="line 2 of ") as caught:
        properties(_settings(tmp_path, "security.protocol=SSL", "fetch.min.bytes=5"))
    assert "sasl.username" in caught.value.remedy


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SettingError, match="cannot be read"):
        properties(load(kafka_properties=tmp_path / "none"))
    with pytest.raises(SettingError, match="TLS files"):
        faust_options(_settings(tmp_path, "security.protocol=SSL", "ssl.ca.location=none"))


@pytest.mark.parametrize("separator", ["=", ":", " : ", " = ", " ", "\t"])
def test_a_line_is_separated_as_in_java(tmp_path: Path, separator: str):
    found = properties(_settings(tmp_path, "! a remark", f"  sasl.password{separator}a:b=c d"))
    assert found["sasl.password"] == "a:b=c d"


@pytest.mark.parametrize(
    "line",
    ["hunter2", "hunter2=", "=hunter2", "password: hunter2", "sasl.passwort=hunter2", "security.protocol=hunter2",
     "sasl.mechanism: hunter2", "sasl.password=\xffhunter2"],
)  # fmt: skip
def test_no_error_prints_what_stands_in_the_file(tmp_path: Path, line: str):
    path = tmp_path / "kafka.properties"
    path.write_bytes(b"# shop\n" + line.encode("latin-1"))
    with pytest.raises(SettingError) as caught:
        properties(load(kafka_properties=path))
    assert "hunter2" not in str(caught.value)
    assert "line 2 of" in str(caught.value) or "UTF-8" in str(caught.value)


def test_the_address_of_the_file_is_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FORECART_BOOTSTRAP_SERVERS")
    path = tmp_path / "kafka.properties"
    path.write_text("bootstrap.servers=file:1\n")
    assert properties(load(kafka_properties=path))["bootstrap.servers"] == "file:1"
    assert properties(load(kafka_properties=path, bootstrap_servers="flag:1"))["bootstrap.servers"] == "flag:1"
    monkeypatch.setenv("FORECART_BOOTSTRAP_SERVERS", "environment:1")
    assert properties(load(kafka_properties=path))["bootstrap.servers"] == "environment:1"
    assert faust_options(load(kafka_properties=path))["broker"] == ["kafka://environment:1"]


@pytest.mark.parametrize(
    "lines",
    [
        ("security.protocol=SSL", "ssl.ca.location=/none.pem"),
        ("security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN"),
    ],
)
def test_what_the_client_refuses_is_a_setting(tmp_path: Path, lines: tuple[str, ...]):
    settings = _settings(tmp_path, *lines)
    for make in (admin, producer, lambda s: consumer(s, **{"group.id": "g"})):
        with pytest.raises(SettingError, match="refuses its settings") as caught:
            make(settings)
        assert "kafka_properties" in caught.value.remedy


@pytest.mark.parametrize("given", [catalog._FETCH, changelog.FETCH])
def test_what_a_reader_takes_in_at_once_is_bounded(given: dict[str, object]):
    """librdkafka holds an answer to `receive.message.max.bytes`, and refuses one below what it asks for."""
    assert given["receive.message.max.bytes"] == 64 << 20
    assert {"fetch.message.max.bytes", "max.partition.fetch.bytes"} & set(given)
    consumer(Settings(), **{"group.id": "g", **given}).close()
