"""OAUTHBEARER tokens by client credentials, for aiokafka; librdkafka asks the issuer by itself (`method=oidc`)."""

import asyncio
import base64
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka.abc import AbstractTokenProvider

_KEPT = 0.8  # of a token's life: then the next one is asked for, as librdkafka does
_ANSWER = 10.0  # seconds
_NAME = "sasl.oauthbearer."


class TokenError(OSError):
    """Raised where the issuer gives no token; an OSError, since aiokafka tries again after those."""


class Tokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Hand out a token that is valid, asked for once and again before it ends."""

    def __init__(self, given: Mapping[str, str], now: Callable[[], float] = time.time) -> None:
        """Take the properties of `stream.kafka.client.connection`."""
        self._given, self._now = given, now
        self._token, self._until = "", 0.0
        self._asking = threading.Lock()  # an asyncio one would belong to one loop

    async def token(self) -> str:
        """Return a token; raise TokenError where there is none."""
        return await asyncio.to_thread(self._valid)

    def _valid(self) -> str:
        with self._asking:
            if self._now() >= self._until:
                self._token = ask(self._given)
                began, ends = self._now(), float(claims(self._token).get("exp", 0))
                self._until = began + _KEPT * (ends - began)
            return self._token


def ask(given: Mapping[str, str]) -> str:
    """Ask the issuer for a token; raise TokenError."""
    url = given[_NAME + "token.endpoint.url"]
    form = {"grant_type": "client_credentials"}
    if scope := given.get(_NAME + "scope"):
        form["scope"] = scope
    who = f"{given[_NAME + 'client.id']}:{given[_NAME + 'client.secret']}"
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())
    request.add_header("Authorization", f"Basic {base64.b64encode(who.encode()).decode()}")
    request.add_header("Accept", "application/json")
    try:
        context = ssl.create_default_context(cafile=given.get("https.ca.location")) if url.startswith("https") else None
        with urllib.request.urlopen(request, timeout=_ANSWER, context=context) as answer:
            token = json.load(answer)["access_token"]
        if not claims(token):
            raise ValueError("what came is no JWT")
    except urllib.error.HTTPError as error:
        with error:
            raise TokenError(f"the issuer at {url} gives no token: {error.code} {error.reason}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TokenError(f"the issuer at {url} gives no token: {error!r}") from error
    return str(token)


def claims(token: str) -> dict[str, Any]:
    """Return what a token says of its bearer, without looking at its signature; nothing where it is no JWT."""
    try:
        middle = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
