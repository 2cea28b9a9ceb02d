"""Why brokers turn a client away, in words and with the remedy: logins, TLS, addresses.

librdkafka knows it and tells it by the way, while its calls end with no more than a timeout.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException

from stream.core.errors import BrokerError, UnreachableError
from stream.kafka.client.errors import Kind, kind, passing, said


class Refusal(NamedTuple):
    """What is wrong, and what to do."""

    text: str
    remedy: str


# The first pattern that an error's text has says what is wrong; texts are those of librdkafka, OpenSSL and brokers.
_TURNED_AWAY: tuple[tuple[str, str, str], ...] = (
    (
        r"failed to acquire sasl oauthbearer token|oidc|the issuer at",
        "the issuer gives no token",
        "check sasl.oauthbearer.token.endpoint.url, client.id and client.secret in {file}, and https.ca.location",
    ),
    (
        r"invalid username or password|invalid credentials",
        "user name or password is wrong",
        "correct sasl.username and sasl.password in {file}",
    ),
    (
        r"unsupported sasl mechanism",
        "the broker does not offer this SASL mechanism",
        "write one that it offers as sasl.mechanism in {file}",
    ),
    (
        r"invalid_token|token.*(invalid|expired)",
        "the broker does not accept the issuer's token",
        "check audience, scope and issuer that the broker expects, and sasl.oauthbearer.scope in {file}",
    ),
    (
        r"(host ?name|ip address) mismatch|not valid for",
        "the broker's certificate is of another host than the address",
        "use a name that the certificate has as address, or let the broker have one with this name",
    ),
    (
        r"alert certificate expired|alert number 45|our certificate",
        "our certificate has expired",
        "renew the file of ssl.certificate.location in {file}",
    ),
    (
        r"certificate has expired",
        "the broker's certificate, or its CA's, has expired",
        "renew it at the broker, and look at this machine's clock",
    ),
    (
        r"certificate is not yet valid",
        "the broker's certificate is not valid yet",
        "look at the clocks of broker and this machine",
    ),
    (
        r"certificate verify failed",
        "the broker's certificate is of a CA that is not trusted here",
        "let ssl.ca.location in {file} name the CA that signed it",
    ),
    (
        r"certificate required|handshake failure|bad certificate|unknown ca|alert certificate|bad_certificate",
        "the broker wants a certificate from us, of a CA that it trusts",
        "set ssl.certificate.location and ssl.key.location in {file} to a pair of that CA",
    ),
)
_AWAY: tuple[tuple[str, str, str], ...] = (  # also said of a broker that goes
    (
        r"plaintext broker listener|ssl listener|wrong version number|security\.protocol|require sasl|sasl state",
        "the listener speaks another protocol than we do",
        "set security.protocol in {file} to the listener's: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
    ),
    (r"failed to resolve", "the host's name is unknown", "check --bootstrap-servers and the DNS"),
    (
        r"connection refused",
        "nothing listens there",
        "check --bootstrap-servers, and whether the broker runs; `forecart broker` starts one here",
    ),
)
_UNKNOWN = Refusal("", "check --bootstrap-servers, the network and the credentials; `forecart broker` starts one here")
_FILE = "the file that kafka_properties names"


def explain(text: str, file: object = None) -> Refusal:
    """Say what an error's text means; `file` is where the properties stand."""
    for pattern, cause, remedy in (*_TURNED_AWAY, *_AWAY):
        if re.search(pattern, text, re.IGNORECASE):
            return Refusal(cause, remedy.format(file=file or _FILE))
    return _UNKNOWN


def turns_away(text: str) -> bool:
    """Tell whether an error's text is of a broker that is there and does not want us as we are."""
    return any(re.search(pattern, text, re.IGNORECASE) for pattern, _, _ in _TURNED_AWAY)


class Heard:
    """Why a cluster cannot be reached, by what its client told of its connections (librdkafka's `error_cb`)."""

    def __init__(
        self, address: str, file: object = None, probe: Callable[[str, int, bool], str] = lambda *_: ""
    ) -> None:
        """`probe` says what is wrong with a host and port, which may have closed a connection."""
        self.address, self._file, self._probe = address, file, probe
        self.forget()

    def forget(self) -> None:
        """Forget what was heard: the cluster has answered since."""
        self.refused, self._words, self._tells = False, "", False

    def note(self, error: KafkaError | KafkaException | TimeoutError) -> None:
        """Take note of an error; that a call ended, or that all connections are down, replaces none that tells more."""
        cause = KafkaException(error) if isinstance(error, KafkaError) else error
        words = said(cause)
        tells = explain(words) is not _UNKNOWN
        if tells or not (self._tells or (self._words and words.startswith("_ALL_BROKERS_DOWN"))):
            self._words, self._tells = words, tells
        self.refused |= turns_away(words) or (not passing(cause) and kind(cause.args[0]) is Kind.REFUSED)

    def look(self) -> None:
        """Look ourselves at the TLS of a broker of which nothing tells enough; this may take seconds."""
        found = re.search(r"ssl://(.+):(\d+)/.*(certificate verify failed|alert)", self._words)
        if self._tells and not found:
            return
        host, _, port = self.address.split(",")[0].rpartition(":") if not found else (found[1], "", found[2])
        if why := self._probe(host.strip("[]"), int(port), self._words.startswith("_TRANSPORT")):
            self._words, self._tells = f"{self._words[: found.end()] if found else self._words}: {why}", True

    def why(self) -> str:
        """Return the reason in words: ours, then the client's."""
        if not self._words:
            return "no answer yet"
        cause = explain(self._words, self._file).text
        return f"{cause} ({self._words})" if cause else self._words

    def remedy(self) -> str:
        """Return what to do."""
        return explain(self._words, self._file).remedy

    def failure(self) -> BrokerError:
        """Return the error that says both."""
        if self.refused:
            return BrokerError(f"Kafka at {self.address} turns us away: {self.why()}", self.remedy())
        return UnreachableError(f"no Kafka broker answers at {self.address}: {self.why()}", self.remedy())
