"""The least rights of a worker: needed, missing, granted. A broker tells what we may do where it is asked (KIP-430)."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from stream.core.errors import BrokerError, ForecartError, RightsError
from stream.kafka.client.admin import answered
from stream.kafka.client.connection import by_token, decoded, properties
from stream.kafka.client.errors import said
from stream.kafka.client.groups import describe
from stream.kafka.client.tokens import TokenError, ask, claims
from stream.settings import Settings

_SECONDS = 5.0
_WORDS = {ResourceType.TOPIC: "topic", ResourceType.GROUP: "group", ResourceType.TRANSACTIONAL_ID: "transactional id"}
_SHORT = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C",
          "localityName": "L", "stateOrProvinceName": "ST", "domainComponent": "DC", "userId": "UID",
          "streetAddress": "STREET"}  # fmt: skip  # as Java writes names


class Right(NamedTuple):
    """To do something with a resource; `prefix` tells that the name is how the names begin."""

    kind: Any  # ResourceType
    name: str
    operation: Any  # AclOperation
    why: str = ""
    prefix: bool = False

    def __str__(self) -> str:
        return f"{self.operation.name} of {_WORDS[self.kind]} {self.name}{'*' * self.prefix}"

    def option(self) -> str:
        """Return it as kafka-acls has it."""
        operation = self.operation.name.title().replace("_", "")
        option = f"--operation {operation} --{_WORDS[self.kind].replace(' ', '-')} '{self.name}'"
        return f"{option} --resource-pattern-type prefixed" if self.prefix else option


def needed(settings: Settings) -> list[Right]:
    """List what a worker must be allowed; READ and WRITE allow to DESCRIBE."""
    read, write, look = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE_CONFIGS
    uses = [
        (settings.events_topic, (read, "to score what comes")),
        (settings.scores_topic, (write, "to publish scores")),
        (settings.dead_letters_topic, (write, "to publish what could not be scored")),
        (settings.changelog, (read, "to recover sessions")),
        (settings.changelog, (write, "to keep sessions and positions")),
        (settings.catalog_topic, (read, "to follow the shop's catalog")),
    ]
    topics = [Right(ResourceType.TOPIC, name, *use) for name, use in uses if name]
    configs = [
        Right(ResourceType.TOPIC, name, look, "to check the topic's settings")
        for name in dict.fromkeys(r.name for r in topics)
    ]
    return [
        *topics,
        *configs,
        Right(ResourceType.GROUP, settings.group, read, "to share the partitions, and to commit"),
        Right(ResourceType.TRANSACTIONAL_ID, f"{settings.group}/", write, "to commit exactly once", prefix=True),
    ]


def needed_still(settings: Settings) -> list[Right]:
    """List what a worker that has started must be allowed: it looks at no topic's settings any more."""
    return [right for right in needed(settings) if right.operation is not AclOperation.DESCRIBE_CONFIGS]


def missing(settings: Settings, wanted: Iterable[Right], client: AdminClient) -> list[Right]:
    """List the wanted rights that we have not, as far as Kafka tells: of transactional ids it does not.

    Raises KafkaException or TimeoutError where there is no answer.
    """
    wanted = list(wanted)
    topics, groups = (
        list(dict.fromkeys(right.name for right in wanted if right.kind is kind))
        for kind in (ResourceType.TOPIC, ResourceType.GROUP)
    )
    how = {"include_authorized_operations": True, "request_timeout": _SECONDS}
    asked: dict[tuple[Any, str], Callable[[], Any]] = {}
    if topics:
        answers = client.describe_topics(TopicCollection(topics), **how)
        asked |= {(ResourceType.TOPIC, n): partial(answer.result, _SECONDS + 1) for n, answer in answers.items()}
    asked |= {(ResourceType.GROUP, n): partial(describe, settings, n, _SECONDS) for n in groups}
    return lacking(wanted, {resource: _allowed(answer) for resource, answer in asked.items()})


def lacking(wanted: Iterable[Right], allowed: dict[tuple[Any, str], set[Any] | None]) -> list[Right]:
    """List the wanted rights on resources of which it is known what is allowed, and that this is not."""
    found = []
    for right in wanted:
        operations = allowed.get((right.kind, right.name))
        if operations is not None and right.operation not in operations:
            found.append(right)
    return found


def _allowed(answer: Callable[[], Any]) -> set[Any] | None:
    """Return what is allowed, or may be, by a description; None where it does not say, or there is no such thing."""
    try:
        return set(answer().authorized_operations or ()) or None
    except KafkaException as error:
        code = error.args[0].code()
        if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return {AclOperation.DESCRIBE_CONFIGS}  # a right apart, of which this refusal to DESCRIBE does not tell
        if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return set()
        if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.GROUP_ID_NOT_FOUND):
            return None
        raise


def refusal(settings: Settings, rights: Iterable[Right], because: str = "") -> RightsError:
    """Return the error of missing rights: each by resource and operation, who lacks it, and how to grant it."""
    rights, who = list(rights), principal(settings)
    commands = "\n    ".join(
        f"kafka-acls --bootstrap-server HOST --add --allow-principal '{who}' {right.option()}" for right in rights
    )
    if {str(right) for right in rights} <= {str(right) for right in needed(settings)}:
        commands = f"forecart topics apply --acls '{who}', for all that a worker needs; or this alone:\n    {commands}"
    seen = f" ({because})" if because else ""
    return RightsError(
        f"{who} is not allowed: {'; '.join(str(right) for right in rights)}{seen}", f"grant it: {commands}"
    )


def require(settings: Settings, client: AdminClient, wanted: Iterable[Right]) -> None:
    """Raise RightsError that names each of the rights that we have not."""
    if found := answered("what we may do", 3 * _SECONDS, lambda: missing(settings, wanted, client)):
        raise refusal(settings, found)


def diagnose(settings: Settings, error: ForecartError, client: AdminClient) -> ForecartError:
    """Return the error of missing rights where these explain an error, else the error itself."""
    found: list[Right] = []
    if isinstance(error, RightsError):
        return error
    if "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" in error.message:
        found = [right for right in needed(settings) if right.kind is ResourceType.TRANSACTIONAL_ID]
    with suppress(KafkaException, TimeoutError):  # no answer explains nothing
        found += missing(settings, needed_still(settings), client)
    return refusal(settings, found, error.message) if found else error


def principal(settings: Settings) -> str:
    """Return who brokers take us for, unless they map names: of the token, the login, or the certificate."""
    given = properties(settings)
    protocol, certificate = given.get("security.protocol", ""), given.get("ssl.certificate.location")
    if by_token(given):
        try:
            return f"User:{claims(ask(given))['sub']}"
        except (TokenError, KeyError):
            return f"User:{given['sasl.oauthbearer.client.id']}"
    if protocol.startswith("SASL"):
        return f"User:{given.get('sasl.username', '')}"
    if protocol == "SSL" and certificate:
        return f"User:{_subject(certificate)}"
    return "User:ANONYMOUS"


def _subject(path: str) -> str:
    """Return a certificate's subject as Java writes it: the last part first."""
    parts = [pair for part in decoded(path)["subject"] for pair in part]
    return ",".join(f"{_SHORT.get(name, name)}={value}" for name, value in reversed(parts))


def grant(settings: Settings, who: str, client: AdminClient) -> list[Right]:
    """Allow a principal all that a worker needs; return it. Raises BrokerError where that is refused."""
    rights = needed(settings)
    pattern = {True: ResourcePatternType.PREFIXED, False: ResourcePatternType.LITERAL}
    bindings = [
        AclBinding(right.kind, right.name, pattern[right.prefix], who, "*", right.operation, AclPermissionType.ALLOW)
        for right in rights
    ]
    try:
        for answer in client.create_acls(bindings, request_timeout=_SECONDS).values():
            answer.result(_SECONDS + 1)
    except (KafkaException, TimeoutError) as error:
        raise BrokerError(
            f"{principal(settings)} cannot grant rights to {who}: {said(error)}",
            "it needs ALTER of the cluster, and brokers with an authorizer; see docs/access.md",
        ) from error
    return rights
