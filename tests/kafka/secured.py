"""A broker that trusts nobody: TLS, mutual TLS, PLAIN, SCRAM and OAUTHBEARER listeners, and access lists.

The tests' own producers and readers come as ANONYMOUS over PLAINTEXT, a super user.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from stream.kafka import embedded_broker as embedded
from stream.kafka.client.admin import admin
from stream.kafka.client.rights import Right
from stream.settings import Settings
from tests.kafka.nodes import Node
from tests.stream.certificates import Authority
from tests.stream.issuer import Issuer

USER, PASSWORD = "shop", "open sesame"
_LOGIN = "org.apache.kafka.common.security"
_LISTENERS = ("TLS", "MUTUAL", "LOGIN", "LOGINTLS")
_PROTOCOLS = {"TLS": "SSL", "MUTUAL": "SSL", "LOGIN": "SASL_PLAINTEXT", "LOGINTLS": "SASL_SSL"}


class Secured(Node):
    """Its CA signs its own certificate and those of clients; `issuer` gives the tokens that it takes."""

    def __init__(self, data: Path, issuer: Issuer) -> None:
        self.ports = {name: embedded.free_port() for name in _LISTENERS}
        self.authority, self.issuer = Authority(data / "ca"), issuer
        self._known, self._keystore = False, data / "broker.pem"
        self.show(self.authority)
        super().__init__(data)

    def properties(self) -> dict[str, str]:
        """Return the embedded broker's, and four listeners more."""
        found = super().properties()
        for name, port in self.ports.items():
            found["listeners"] += f",{name}://127.0.0.1:{port}"
            found["advertised.listeners"] += f",{name}://localhost:{port}"
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **_PROTOCOLS}
        found["listener.security.protocol.map"] = ",".join(f"{name}:{how}" for name, how in protocols.items())
        found |= {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:admin",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.pair.certificate),
            "listener.name.mutual.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "listener.name.logintls.sasl.enabled.mechanisms": "SCRAM-SHA-256",
        }
        for listener in ("login", "logintls"):
            prefix = f"listener.name.{listener}."
            plain = f'{_LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
            found[f"{prefix}plain.sasl.jaas.config"] = plain
            for kind in ("256", "512"):
                found[f"{prefix}scram-sha-{kind}.sasl.jaas.config"] = f"{_LOGIN}.scram.ScramLoginModule required;"
            bearer = f"{prefix}oauthbearer.sasl."
            found[f"{bearer}jaas.config"] = f"{_LOGIN}.oauthbearer.OAuthBearerLoginModule required;"
            found[f"{bearer}server.callback.handler.class"] = (
                f"{_LOGIN}.oauthbearer.OAuthBearerValidatorCallbackHandler"
            )
            found[f"{prefix}oauthbearer.connections.max.reauth.ms"] = "3600000"  # a session ends with its token
        return found | {
            "sasl.oauthbearer.jwks.endpoint.url": f"{self.issuer.url}/keys",
            "sasl.oauthbearer.expected.audience": "kafka",
            "sasl.oauthbearer.expected.issuer": self.issuer.url,
            **self.more,
        }

    def start(self) -> None:
        """Start, let Java ask the issuer, and make the user known."""
        before = os.environ.get("JDK_JAVA_OPTIONS")
        os.environ["JDK_JAVA_OPTIONS"] = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.issuer.url}/keys"
        try:
            super().start()
        finally:
            os.environ.pop("JDK_JAVA_OPTIONS")
            if before is not None:
                os.environ["JDK_JAVA_OPTIONS"] = before
        if not self._known:
            self.set_password(PASSWORD)
            self._known = True

    def show(self, authority: Authority) -> None:
        """Come with a certificate of this CA from the next start on; clients are held to the first one still."""
        own = authority.sign("broker", "/CN=broker", "DNS:localhost")
        self._keystore.write_text(own.key.read_text() + own.certificate.read_text())
        self._keystore.chmod(0o600)

    def admin(self) -> AdminClient:
        """Return an administrator that may all."""
        return admin(Settings(bootstrap_servers=self.address))

    def set_password(self, password: str, user: str = USER) -> None:
        """Let a user log in by SCRAM with another password."""
        client = self.admin()
        for kind in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):  # one a request
            change = UserScramCredentialUpsertion(user, ScramCredentialInfo(kind, 4096), password.encode())
            [answer] = client.alter_user_scram_credentials([change]).values()
            answer.result(10)

    def at(self, listener: str) -> str:
        """Return the address of a listener."""
        return f"localhost:{self.ports[listener]}"

    def trust(self) -> str:
        """Return the line that trusts this broker."""
        return f"ssl.ca.location={self.authority.pair.certificate}"


def login(mechanism: str, password: str = PASSWORD, protocol: str = "SASL_PLAINTEXT") -> list[str]:
    """Return the lines of a login."""
    return [f"security.protocol={protocol}", f"sasl.mechanism={mechanism}", f"sasl.username={USER}",
            f"sasl.password={password}"]  # fmt: skip


def bindings(rights: list[Right], who: str) -> list[AclBinding]:
    """Return the access list that allows rights to a principal."""
    how = {True: ResourcePatternType.PREFIXED, False: ResourcePatternType.LITERAL}
    return [AclBinding(r.kind, r.name, how[r.prefix], who, "*", r.operation, AclPermissionType.ALLOW) for r in rights]


def take(client: AdminClient, right: Right, who: str) -> None:
    """Take a right away; it is gone when this returns."""
    how = ResourcePatternType.PREFIXED if right.prefix else ResourcePatternType.LITERAL
    which = AclBindingFilter(right.kind, right.name, how, who, "*", right.operation, AclPermissionType.ALLOW)
    [answer] = client.delete_acls([which]).values()
    assert answer.result(10), right
    while client.describe_acls(which).result():
        time.sleep(0.05)


@contextmanager
def without(client: AdminClient, right: Right, who: str) -> Iterator[None]:
    """Take a right away for a while."""
    take(client, right, who)
    try:
        yield
    finally:
        for answer in client.create_acls(bindings([right], who)).values():
            answer.result(10)
