"""One set of connection properties, for both clients."""

import ssl
import subprocess
from pathlib import Path

import pytest
from faust.auth import SASLCredentials, SSLCredentials

from stream.core.errors import SettingError
from stream.kafka.client import faust_options, properties
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


def test_certificates_reach_both_clients(tmp_path: Path, certificate: tuple[Path, Path]):
    cert, key = certificate
    lines = [f"ssl.ca.location={cert}", f"ssl.certificate.location={cert}", f"ssl.key.location={key}"]
    settings = _settings(tmp_path, "security.protocol=SSL", *lines)
    credentials = faust_options(settings)["broker_credentials"]
    assert isinstance(credentials, SSLCredentials)
    assert credentials.context.verify_mode == ssl.CERT_REQUIRED
    assert credentials.context.check_hostname
    assert properties(settings)["ssl.ca.location"] == str(cert)


def test_a_property_that_only_one_client_would_obey_is_refused(tmp_path: Path):
    with pytest.raises(SettingError, match="fetch") as caught:
        properties(_settings(tmp_path, "fetch.min.bytes=5"))
    assert "sasl.username" in caught.value.remedy


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SettingError, match="cannot be read"):
        properties(load(kafka_properties=tmp_path / "none"))
    with pytest.raises(SettingError, match="TLS files"):
        faust_options(_settings(tmp_path, "security.protocol=SSL", "ssl.ca.location=none"))
