"""OAUTHBEARER by client credentials: one token for all connections, another one before it ends."""

import asyncio
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from faust.auth import OAuthCredentials

from stream.core.errors import SettingError
from stream.kafka.client.admin import admin
from stream.kafka.client.connection import aiokafka_options, faust_options, properties
from stream.kafka.client.tokens import TokenError, Tokens, claims
from stream.settings import Settings, load
from tests.stream.issuer import Issuer


def _settings(tmp_path: Path, *lines: str) -> Settings:
    path = tmp_path / "kafka.properties"
    path.write_text("\n".join(("security.protocol=SASL_PLAINTEXT", *lines)) + "\n")
    return load(kafka_properties=path, bootstrap_servers="127.0.0.1:1")


def test_both_clients_get_a_token_of_the_issuer(tmp_path: Path):
    with Issuer() as issuer:
        settings = _settings(tmp_path, *issuer.properties())
        assert properties(settings)["sasl.oauthbearer.method"] == "oidc"
        provider = aiokafka_options(settings)["sasl_oauth_token_provider"]
        assert asyncio.run(provider.token()) == issuer.given[-1]
        credentials = faust_options(settings)["broker_credentials"]
        assert isinstance(credentials, OAuthCredentials)
        assert claims(asyncio.run(credentials.oauth_cb.token()))["sub"] == "shop"
        before = len(issuer.given)
        with pytest.raises(KafkaException):  # nothing listens: librdkafka has asked for its token nevertheless
            admin(settings).list_topics(timeout=1)
        assert len(issuer.given) > before
        assert set(issuer.scopes) == {"kafka"}


def test_a_token_is_asked_for_once_and_again_before_it_ends():
    now = 0.0

    async def several() -> list[str]:
        return await asyncio.gather(*(tokens.token() for _ in range(5)))

    with Issuer(life=100.0) as issuer:
        given = dict(line.split("=", 1) for line in issuer.properties())
        tokens = Tokens(given, now=lambda: time.time() + now)
        assert len(set(asyncio.run(several()))) == len(issuer.given) == 1
        now = 79.0
        asyncio.run(several())
        assert len(issuer.given) == 1
        now = 81.0
        asyncio.run(several())
        assert len(issuer.given) == 2


def test_an_issuer_that_refuses_is_told_without_the_secret(tmp_path: Path):
    with Issuer() as issuer:
        provider = aiokafka_options(_settings(tmp_path, *issuer.properties("wrong-one")))["sasl_oauth_token_provider"]
        with pytest.raises(TokenError, match="401 Unauthorized") as caught:
            asyncio.run(provider.token())
        assert "wrong-one" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path):
    with pytest.raises(SettingError, match=r"OAUTHBEARER needs sasl.oauthbearer.client.id"):
        properties(_settings(tmp_path, "sasl.mechanism=OAUTHBEARER"))


@pytest.mark.parametrize("token", ["", "a.b", "a.!.c", "a.MTI.c"])
def test_what_is_no_token_says_nothing(token: str):
    assert claims(token) == {}
