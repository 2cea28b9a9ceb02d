"""One set of connection properties for both Kafka clients."""

import re
import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stream.core.errors import SettingError
from stream.kafka.client.addresses import parse_addresses
from stream.kafka.client.tokens import Tokens
from stream.settings import Settings

_OAUTH = "sasl.oauthbearer."
_TLS, _CLOSED = "it is a SSL listener", "it closes our connections, and may require SASL"
_NAMES = {
    "bootstrap.servers",
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "https.ca.location",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
}
# The values that may be named in a message: all others may be secrets, on the wrong line.
_CHOICES = {
    "security.protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "sasl.mechanism": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"),
}
# A name and a value as Java's properties have them: parted by =, by : or by space.
_LINE = re.compile(r"([^\s=:]*)\s*[=:]?\s*(.*)")


def properties(settings: Settings) -> dict[str, str]:
    """Return librdkafka's connection properties; raise SettingError for one that not both clients would obey."""
    found = {"bootstrap.servers": settings.bootstrap_servers}
    if settings.kafka_properties:
        found |= _read(settings.kafka_properties)
    if "bootstrap_servers" in settings.model_fields_set:  # the file's is a default
        found["bootstrap.servers"] = settings.bootstrap_servers
    protocol = found.get("security.protocol", "PLAINTEXT")
    found["bootstrap.servers"] = ",".join(parse_addresses(found["bootstrap.servers"], protocol))
    if by_token(found):
        for name in ("client.id", "client.secret", "token.endpoint.url"):
            if not found.get(_OAUTH + name):
                raise SettingError(f"OAUTHBEARER needs {_OAUTH}{name}", f"add it to {settings.kafka_properties}")
        found[f"{_OAUTH}method"] = "oidc"  # librdkafka then asks the issuer by itself, and again in time
    return found


def by_token(given: Mapping[str, str]) -> bool:
    """Tell whether these properties log in by a token."""
    return _sasl(given) and given.get("sasl.mechanism") == "OAUTHBEARER"


def files(settings: Settings) -> list[Path]:
    """Return the files that a login is made of: of properties, of keys and of certificates."""
    named = [Path(value) for name, value in properties(settings).items() if name.endswith(".location")]
    return [settings.kafka_properties, *named] if settings.kafka_properties else []


def _sasl(given: Mapping[str, str]) -> bool:
    return given.get("security.protocol", "").startswith("SASL")


def _read(path: Path) -> dict[str, str]:
    """Read a file of properties; its errors name the line and none of its text."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}", "check the setting kafka_properties") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"{path} is not UTF-8", "check the setting kafka_properties") from error
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] in "#!":
            continue
        name, value = _LINE.findall(text)[0]
        if name not in _NAMES:
            known = f"write name=value; the names are {', '.join(sorted(_NAMES))}"
            raise SettingError(f"line {number} of {path} has no property that both clients obey", known)
        choices = _CHOICES.get(name, ())
        if choices and value.upper() not in choices:
            raise SettingError(f"line {number} of {path} has an unknown {name}", f"write one of {', '.join(choices)}")
        found[name] = value.upper() if choices else value
    return found


def faust_options(settings: Settings) -> dict[str, Any]:
    """Return Faust's broker address and credentials for the same properties."""
    from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials

    given, login = properties(settings), aiokafka_options(settings)
    options: dict[str, Any] = {"broker": [f"kafka://{host}" for host in given["bootstrap.servers"].split(",")]}
    context = login.get("ssl_context")
    if tokens := login.get("sasl_oauth_token_provider"):
        options["broker_credentials"] = OAuthCredentials(oauth_cb=tokens, ssl_context=context)
    elif _sasl(given):
        options["broker_credentials"] = SASLCredentials(
            username=login["sasl_plain_username"],
            password=login["sasl_plain_password"],
            mechanism=login["sasl_mechanism"],
            ssl_context=context,
        )
    elif context:
        options["broker_credentials"] = SSLCredentials(context=context)
    return options


def aiokafka_options(settings: Settings) -> dict[str, Any]:
    """Return aiokafka's own options for the same properties, for what is asked without Faust."""
    given = properties(settings)
    protocol = given.get("security.protocol", "PLAINTEXT")
    options: dict[str, Any] = {"bootstrap_servers": given["bootstrap.servers"], "security_protocol": protocol}
    if protocol.endswith("SSL"):
        options["ssl_context"] = _context(given)
    if by_token(given):
        options["sasl_mechanism"] = given["sasl.mechanism"]
        options["sasl_oauth_token_provider"] = Tokens(given)
    elif _sasl(given):
        options["sasl_mechanism"] = given.get("sasl.mechanism", "PLAIN")
        options["sasl_plain_username"] = given.get("sasl.username")
        options["sasl_plain_password"] = given.get("sasl.password")
    return options


def _context(given: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=given.get("ssl.ca.location"))
        if certificate := given.get("ssl.certificate.location"):
            context.load_cert_chain(certificate, given.get("ssl.key.location"), given.get("ssl.key.password"))
    except (OSError, ssl.SSLError) as error:
        raise SettingError(f"the TLS files cannot be used: {error}", "check the ssl properties") from error
    return context


def probe(settings: Settings, host: str, port: int, closed: bool = False, seconds: float = 3.0) -> str:
    """Return what is wrong with a broker's TLS, in words; nothing where nothing is, or nobody answers.

    Of a certificate librdkafka says no more than that it could not be verified, of a listener that speaks TLS where we
    do not it says nothing, nor of one that `closed` the connection since it requires SASL.
    """
    given = properties(settings)
    secured = given.get("security.protocol", "").endswith("SSL")
    try:
        ours = given.get("ssl.certificate.location") if secured else None
        if ours and ssl.cert_time_to_seconds(until := decoded(ours)["notAfter"]) < time.time():
            return f"our certificate was valid until {until}"
        context = _context(given) if secured else _careless()
        with (
            socket.create_connection((host, port), seconds) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            found = "" if secured else _TLS
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        found = _TLS if not secured and "ALERT" in (error.reason or "") else ""
    except ConnectionResetError:
        found = ""
    except (OSError, SettingError):
        return ""
    return found or (_CLOSED if closed and not _sasl(given) else "")


def decoded(certificate: str) -> dict[str, Any]:
    """Return what a file's first certificate says, as `ssl.SSLSocket.getpeercert` does."""
    found: dict[str, Any] = ssl._ssl._test_decode_cert(certificate)  # type: ignore[attr-defined]  # there is no other
    return found


def _careless() -> ssl.SSLContext:
    """Return a context that trusts anybody, with whom nothing is exchanged."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
