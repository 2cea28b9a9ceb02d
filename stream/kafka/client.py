"""One set of connection properties for both Kafka clients, and the group metadata that fences a transaction."""

import logging
import re
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from stream.core.errors import BrokerError, SettingError, UnreachableError
from stream.kafka.addresses import parse_addresses
from stream.kafka.errors import Kind, kind, passing, said
from stream.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

PARTITIONER = "murmur2_random"  # as Java and aiokafka do; librdkafka's own default is CRC32
_SAY_SECONDS, _REACH_SECONDS = 2.0, 8.0  # before it is said that a broker is waited for, and after
_PROPERTIES = {
    "bootstrap.servers",
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
}
# The values that may be named in a message: all others may be secrets, on the wrong line.
_CHOICES = {
    "security.protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "sasl.mechanism": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
}
# A name and a value as Java's properties have them: parted by =, by : or by space.
_LINE = re.compile(r"([^\s=:]*)\s*[=:]?\s*(.*)")
_QUIET: dict[str, Any] = {"log_level": 0, "error_cb": lambda _error: None, "reconnect.backoff.max.ms": 1000}


def properties(settings: Settings) -> dict[str, str]:
    """Return librdkafka's connection properties; raise SettingError for one that not both clients would obey."""
    found = {"bootstrap.servers": settings.bootstrap_servers}
    if settings.kafka_properties:
        found |= _read(settings.kafka_properties)
    if "bootstrap_servers" in settings.model_fields_set:  # the file's is a default
        found["bootstrap.servers"] = settings.bootstrap_servers
    protocol = found.get("security.protocol", "PLAINTEXT")
    found["bootstrap.servers"] = ",".join(parse_addresses(found["bootstrap.servers"], protocol))
    return found


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
        if name not in _PROPERTIES:
            known = f"write name=value; the names are {', '.join(sorted(_PROPERTIES))}"
            raise SettingError(f"line {number} of {path} has no property that both clients obey", known)
        choices = _CHOICES.get(name, ())
        if choices and value.upper() not in choices:
            raise SettingError(f"line {number} of {path} has an unknown {name}", f"write one of {', '.join(choices)}")
        found[name] = value.upper() if choices else value
    return found


def faust_options(settings: Settings) -> dict[str, Any]:
    """Return Faust's broker address and credentials for the same properties."""
    from faust.auth import SASLCredentials, SSLCredentials

    given = properties(settings)
    options: dict[str, Any] = {"broker": [f"kafka://{host}" for host in given["bootstrap.servers"].split(",")]}
    protocol = given.get("security.protocol", "PLAINTEXT")
    context = _context(given) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL"):
        options["broker_credentials"] = SASLCredentials(
            username=given.get("sasl.username"),
            password=given.get("sasl.password"),
            mechanism=given.get("sasl.mechanism", "PLAIN"),
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
    if protocol.startswith("SASL"):
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


def producer(settings: Settings, **more: Any) -> Producer:
    """Make a producer that partitions as Java does."""
    return _made(Producer, {**properties(settings), **_QUIET, "partitioner": PARTITIONER, **more})


def put(out: Producer, topic: str, value: bytes | None, key: bytes, **more: Any) -> None:
    """Queue a record; while the queue is full, let it drain."""
    while True:
        try:
            return out.produce(topic, value, key, **more)
        except BufferError:
            out.poll(0.1)


class Outbox:
    """Publish records one by one, and know whether all of them arrived."""

    def __init__(self, settings: Settings) -> None:
        self._out = producer(settings, **{"linger.ms": 5, "enable.idempotence": True})
        self.failed: list[Any] = []  # errors of records that did not arrive

    def put(self, topic: str, value: bytes | None, key: bytes) -> None:
        """Queue a record, once there is room for it."""
        put(self._out, topic, value, key, on_delivery=self._delivered)

    def wait(self, seconds: float) -> None:
        """Let records go out for up to so many seconds."""
        self._out.poll(seconds)

    def end(self, what: str) -> None:
        """Wait until all are acknowledged; raise BrokerError where one is not."""
        if left := self._out.flush(30) or self.failed:
            said = self.failed[0] if self.failed else f"{left} unacknowledged"
            raise BrokerError(f"{what} could not be published: {said}", "check the broker")

    def _delivered(self, error: Any, _message: Any) -> None:
        if error:
            self.failed.append(error)


def consumer(settings: Settings, **more: Any) -> Consumer:
    """Make a consumer that reads committed records and commits nothing by itself."""
    base = {"isolation.level": "read_committed", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    return _made(Consumer, {**properties(settings), **_QUIET, **base, **more})


def subscribe_all(reader: Consumer, topic: str) -> None:
    """Read all partitions of a topic from their beginnings, as no member of a group."""
    known = reader.list_topics(topic, 10).topics[topic].partitions
    reader.assign([TopicPartition(topic, number, 0) for number in known])


def admin(settings: Settings, **more: Any) -> AdminClient:
    """Make an administrator."""
    return _made(AdminClient, {**properties(settings), **_QUIET, **more})


def _made(kind: Callable[[dict[str, Any]], T], config: dict[str, Any]) -> T:
    try:
        return kind(config)
    except KafkaException as error:
        raise SettingError(
            f"Kafka's client refuses its settings: {error.args[0].str()}",
            "correct the file that kafka_properties names: protocol, credentials, the paths of the TLS files",
        ) from error


def reach(settings: Settings) -> AdminClient:
    """Return an administrator of a cluster that answers; raise BrokerError where none does within 10 s."""
    client, address = admin(settings), properties(settings)["bootstrap.servers"]
    try:
        client.list_topics(timeout=_SAY_SECONDS)
        return client
    except KafkaException:
        log.warning("waiting for Kafka at %s", address)
    try:
        client.list_topics(timeout=_REACH_SECONDS)
    except KafkaException as error:
        raise UnreachableError(
            f"no Kafka broker answers at {address}: {error.args[0].str()}",
            "check --bootstrap-servers, the network and the credentials; `forecart broker` starts one here",
        ) from error
    return client


def ended(error: KafkaError, what: str) -> bool:
    """Tell the end of a partition from an error that may pass, also one of no partition; else raise BrokerError."""
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    if kind(error) is not Kind.REFUSED and not error.fatal():
        return False
    raise BrokerError(f"{what} cannot be read: {error.str()}", "check the broker and the rights")


def again(deadline: float, call: Callable[[], T]) -> T:
    """Call until it succeeds, while its error may pass and `deadline` (monotonic seconds) is ahead."""
    while True:
        try:
            return call()
        except (KafkaException, TimeoutError) as error:
            if not passing(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def answered(what: str, seconds: float, call: Callable[[], T]) -> T:
    """Call until there is an answer, for up to `seconds`; raise UnreachableError without one, BrokerError for a no."""
    try:
        return again(time.monotonic() + seconds, call)
    except (KafkaException, TimeoutError) as error:
        if passing(error):
            raise UnreachableError(f"{what}: no answer from Kafka ({said(error)})", "check the brokers") from error
        raise BrokerError(f"{what}: {said(error)}", "check the brokers and the rights") from error


def group_metadata(group: str, generation: int, member: str, instance: str | None) -> bytes:
    """Write a consumer group's metadata as librdkafka serialises it, for `send_offsets_to_transaction`.

    The layout is private to librdkafka and held to its own consumer by a contract test. Raises ValueError
    for a generation below 0 or an empty member id: a broker accepts those without fencing.
    """
    if generation < 0 or not member:
        raise ValueError(f"not a member of {group}: generation {generation}, member id {member!r}")
    tail = b"\0" + instance.encode() + b"\0" if instance else b"\1"
    return b"CGMDv2:" + struct.pack("=i", generation) + group.encode() + b"\0" + member.encode() + b"\0" + tail
