"""Brokers' addresses as people write them: both clients get the same, or nobody does."""

from pathlib import Path

import pytest

from stream.core.errors import SettingError
from stream.kafka.client.addresses import parse_addresses
from stream.kafka.client.admin import admin
from stream.kafka.client.connection import faust_options, properties
from stream.settings import load

GOOD = {
    "a:1,b:2": ["a:1", "b:2"],
    " a:1 , b:2 ": ["a:1", "b:2"],
    "PLAINTEXT://a.example:9092,PLAINTEXT://b_1:9093": ["a.example:9092", "b_1:9093"],
    "plaintext://a:1/": ["a:1"],
    "INTERNAL://a:1": ["a:1"],
    "[::1]:9092,10.0.0.1:9092": ["[::1]:9092", "10.0.0.1:9092"],
    "PLAINTEXT://[2001:db8::7]:9092": ["[2001:db8::7]:9092"],
}
BAD = {
    "a": "address 1 of bootstrap_servers has no host and port",
    "a:1,": "address 2 of bootstrap_servers is empty",
    "": "address 1 of bootstrap_servers is empty",
    "a:1,,b:2": "address 2",
    "a:1 b:2": "address 1",
    "a:port": "address 1",
    "a:0": "port 0",
    "a:65536": "port 65536",
    "a:-1": "address 1",
    ":9092": "address 1",
    "[::1]": "address 1",
    "::1": "address 1",
    "::1:9092": "address 1",
    "[a]:9092": "brackets",
    "[::1::2]:9092": "brackets",
    "PLAINTEXT://": "address 1",
    "user:hunter2@a:1": "address 1",
    "a:1/topic": "address 1",
    "SSL://a:1": "says SSL, but security.protocol is PLAINTEXT",
}


@pytest.mark.parametrize("text", GOOD)
def test_both_clients_get_the_same_addresses(text: str):
    settings = load(bootstrap_servers=text)
    assert parse_addresses(text, "PLAINTEXT") == GOOD[text]
    assert properties(settings)["bootstrap.servers"] == ",".join(GOOD[text])
    assert faust_options(settings)["broker"] == [f"kafka://{address}" for address in GOOD[text]]
    admin(settings)


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_address_is_a_setting_with_its_remedy(text: str):
    with pytest.raises(SettingError) as caught:
        properties(load(bootstrap_servers=text))
    assert BAD[text] in str(caught.value)
    assert "host:port" in caught.value.remedy or "security.protocol=SSL" in caught.value.remedy
    assert "hunter2" not in str(caught.value)


def test_a_listener_s_name_must_agree_with_the_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FORECART_BOOTSTRAP_SERVERS")
    path = tmp_path / "kafka.properties"
    path.write_text("security.protocol=SASL_SSL\nbootstrap.servers=SASL_SSL://a:1, sasl_ssl://b:2\n")
    assert properties(load(kafka_properties=path))["bootstrap.servers"] == "a:1,b:2"
    with pytest.raises(SettingError, match="says PLAINTEXT, but security"):
        properties(load(kafka_properties=path, bootstrap_servers="PLAINTEXT://a:1"))
