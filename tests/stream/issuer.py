"""A small issuer of OAuth tokens: client credentials in, a signed JWT out, its key at /keys; standard library alone."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


class Issuer:
    """Listen on a free port; `life` is how many seconds a token is valid."""

    def __init__(self, client: str = "shop", secret: str = "s3cret", life: float = 60.0) -> None:
        self.client, self.secret, self.life = client, secret, life
        self.given: list[str] = []  # tokens
        self.scopes: list[str] = []
        self._key = secrets.token_bytes(32)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"issuer": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Start."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    def properties(self, secret: str = "") -> list[str]:
        """Return the lines of kafka.properties that lead here."""
        return [
            "sasl.mechanism=OAUTHBEARER",
            f"sasl.oauthbearer.client.id={self.client}",
            f"sasl.oauthbearer.client.secret={secret or self.secret}",
            f"sasl.oauthbearer.token.endpoint.url={self.url}/token",
            "sasl.oauthbearer.scope=kafka",
        ]

    def keys(self) -> dict[str, Any]:
        """Return what a broker holds tokens to."""
        return {"keys": [{"kty": "oct", "kid": "one", "alg": "HS256", "use": "sig", "k": _part(self._key)}]}

    def token(self, life: float | None = None) -> str:
        """Sign a token for the client."""
        now = time.time()
        claims = {"sub": self.client, "iss": self.url, "aud": "kafka", "scope": "kafka", "jti": secrets.token_hex(8)}
        claims |= {"iat": int(now), "exp": now + (self.life if life is None else life)}
        parts = [_part(json.dumps(one).encode()) for one in ({"alg": "HS256", "typ": "JWT", "kid": "one"}, claims)]
        signature = hmac.new(self._key, ".".join(parts).encode(), hashlib.sha256).digest()
        self.given.append(".".join([*parts, _part(signature)]))
        return self.given[-1]

    def admits(self, header: str) -> bool:
        """Tell whether a header of HTTP's basic authentication is the client's."""
        return header == "Basic " + base64.b64encode(f"{self.client}:{self.secret}".encode()).decode()


class _Handler(BaseHTTPRequestHandler):
    issuer: Issuer

    def do_GET(self) -> None:
        self._answer(200, self.issuer.keys())

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if not self.issuer.admits(self.headers.get("Authorization", "")):
            return self._answer(401, {"error": "invalid_client"})
        assert form["grant_type"] == ["client_credentials"]
        self.issuer.scopes += form.get("scope", [])
        token = self.issuer.token()
        self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": self.issuer.life})

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
