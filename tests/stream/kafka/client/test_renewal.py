"""Another login is taken up once all of its files fit together."""

from pathlib import Path

import pytest

from stream.kafka.client.reachability import Reachability
from stream.kafka.client.renewal import Renewal
from stream.settings import Settings, load
from tests.stream.certificates import Authority


def _settings(tmp_path: Path, *lines: str) -> Settings:
    path = tmp_path / "kafka.properties"
    path.write_text("\n".join(lines) + "\n")
    return load(kafka_properties=path, bootstrap_servers="a:1")


def test_a_password_is_taken_up_once(tmp_path: Path):
    lines = ["security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.username=shop"]
    renewal = Renewal(_settings(tmp_path, *lines, "sasl.password=one"))
    assert not renewal.changed()
    _settings(tmp_path, *lines, "sasl.password=two")
    assert renewal.changed()
    assert not renewal.changed()


def test_a_certificate_waits_for_its_key(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    authority = Authority(tmp_path / "ca")
    first, second = (authority.sign(name, "/CN=worker") for name in ("first", "second"))
    lines = [f"ssl.certificate.location={first.certificate}", f"ssl.key.location={first.key}"]
    renewal = Renewal(_settings(tmp_path, "security.protocol=SSL", *lines))
    first.certificate.write_text(second.certificate.read_text())
    assert not renewal.changed() and not renewal.changed()
    assert len([text for text in caplog.messages if "cannot be used, the old ones stay" in text]) == 1
    first.key.write_text(second.key.read_text())
    assert renewal.changed()


def test_what_cannot_be_read_is_waited_for(tmp_path: Path):
    settings = _settings(tmp_path, "security.protocol=PLAINTEXT")
    renewal = Renewal(settings)
    (tmp_path / "kafka.properties").write_text("half a li")
    assert not renewal.changed()
    (tmp_path / "kafka.properties").unlink()
    assert not renewal.changed()


def test_without_a_file_nothing_changes():
    assert not Renewal(Settings()).changed()


def test_clients_are_made_anew(tmp_path: Path):
    told = []
    kafka = Reachability(_settings(tmp_path, "security.protocol=PLAINTEXT"))
    kafka._back, kafka._renew = (lambda: told.append("back")), (lambda: told.append("renew"))
    kafka._take(True)
    kafka._client = object()
    kafka._take_up()
    assert (told, kafka.outages, kafka._client) == (["renew", "back"], 1, None)
    assert kafka.renewed_at == pytest.approx(kafka.since, abs=1)
