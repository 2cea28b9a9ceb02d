"""Who may come, and what is said to those who may not: every login, every fault of one, every right taken away.

What is said goes to the table of docs/access.md.
"""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from stream.core.errors import BrokerError
from stream.kafka.client import admin
from stream.kafka.client.admin import reach
from stream.kafka.client.rights import Right, needed, principal
from stream.kafka.topics.admin import apply
from stream.settings import Settings, load
from tests.access import plain
from tests.kafka.oracle import assert_exactly_once
from tests.kafka.secured import USER, Secured, login, without
from tests.kafka.shop import Shop, Upstream, wait_for
from tests.stream.certificates import Authority, Pair
from tests.stream.issuer import Issuer

_DAY = timedelta(days=1)
_WHO = f"User:{USER}"
_WITHIN = 30.0  # seconds within which a missing right is named, at the start and while running
_TLS = ["security.protocol=SSL"]


class Desk:
    """Where clients of all kinds come, and what they bring."""

    def __init__(self, secured: Secured, folder: Path) -> None:
        sign = secured.authority.sign
        self.ca, self.issuer = secured.trust(), secured.issuer
        self.ours = sign("worker", "/C=CH/O=Shop/CN=worker")
        self.expired = sign("expired", "/O=Shop/CN=worker", begin=-2 * _DAY, end=-_DAY)
        stranger = Authority(folder, "stranger")
        self.strange, self.their_ca = stranger.sign("theirs", "/CN=worker"), stranger.pair.certificate

    def pair(self, pair: Pair) -> list[str]:
        return [*_TLS, self.ca, f"ssl.certificate.location={pair.certificate}", f"ssl.key.location={pair.key}"]

    def token(self, secret: str = "") -> list[str]:
        return ["security.protocol=SASL_PLAINTEXT", *self.issuer.properties(secret)]


ADMITTED: dict[str, tuple[str, Callable[[Desk], list[str]], str]] = {
    "TLS": ("TLS", lambda d: [*_TLS, d.ca], "User:ANONYMOUS"),
    "mutual TLS": ("MUTUAL", lambda d: d.pair(d.ours), "User:CN=worker,O=Shop,C=CH"),
    "PLAIN": ("LOGIN", lambda d: login("PLAIN"), _WHO),
    "SCRAM-SHA-256": ("LOGIN", lambda d: login("SCRAM-SHA-256"), _WHO),
    "SCRAM-SHA-512": ("LOGIN", lambda d: login("SCRAM-SHA-512"), _WHO),
    "SCRAM-SHA-256 over TLS": ("LOGINTLS", lambda d: [*login("SCRAM-SHA-256", protocol="SASL_SSL"), d.ca], _WHO),
    "OAUTHBEARER": ("LOGIN", lambda d: d.token(), _WHO),
}
REFUSED: dict[str, tuple[str, Callable[[Desk], list[str]], str]] = {
    "password, PLAIN": ("LOGIN", lambda d: login("PLAIN", "x"), "password is wrong"),
    "password, SCRAM-SHA-256": ("LOGIN", lambda d: login("SCRAM-SHA-256", "x"), "password is wrong"),
    "password, SCRAM-SHA-512": ("LOGIN", lambda d: login("SCRAM-SHA-512", "x"), "password is wrong"),
    "client secret, OAUTHBEARER": ("LOGIN", lambda d: d.token("x"), "the issuer gives no token"),
    "SASL mechanism": ("LOGINTLS", lambda d: [*login("PLAIN", protocol="SASL_SSL"), d.ca], "does not offer this SASL"),
    "CA of the broker": ("TLS", lambda d: [*_TLS, f"ssl.ca.location={d.their_ca}"], "a CA that is not trusted here"),
    "host name": ("TLS by its number", lambda d: [*_TLS, d.ca], "of another host than the address"),
    "no CA given": ("TLS", lambda d: [*_TLS], "a CA that is not trusted here"),
    "no client certificate": ("MUTUAL", lambda d: [*_TLS, d.ca], "wants a certificate from us"),
    "client certificate of another CA": ("MUTUAL", lambda d: d.pair(d.strange), "wants a certificate from us"),
    "client certificate expired": ("MUTUAL", lambda d: d.pair(d.expired), "our certificate has expired"),
    "PLAINTEXT to TLS": ("TLS", lambda d: ["security.protocol=PLAINTEXT"], "another protocol"),
    "PLAINTEXT to SASL": ("LOGIN", lambda d: ["security.protocol=PLAINTEXT"], "another protocol"),
    "PLAINTEXT to SASL over TLS": ("LOGINTLS", lambda d: ["security.protocol=PLAINTEXT"], "another protocol"),
    "TLS to SASL": ("LOGIN", lambda d: [*_TLS, d.ca], "another protocol"),
    "TLS to SASL over TLS": ("LOGINTLS", lambda d: [*_TLS, d.ca], "another protocol"),
    "SASL to TLS": ("TLS", lambda d: login("PLAIN"), "another protocol"),
    "SASL over TLS to TLS": ("TLS", lambda d: [*login("PLAIN", protocol="SASL_SSL"), d.ca], "another protocol"),
    "SASL over TLS to SASL": ("LOGIN", lambda d: [*login("PLAIN", protocol="SASL_SSL"), d.ca], "another protocol"),
    "SASL to PLAINTEXT": ("", lambda d: login("PLAIN"), "another protocol"),
    "TLS to PLAINTEXT": ("", lambda d: [*_TLS, d.ca], "another protocol"),
}

# Too much for every run: other pairs of protocols.
IN_FULL = [case for case in REFUSED if " to " in case and case not in ("PLAINTEXT to SASL", "TLS to PLAINTEXT")]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with Issuer() as issuer, Secured(tmp_path_factory.mktemp("secured"), issuer) as running:
        yield running


@pytest.fixture(scope="module")
def desk(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(secured, tmp_path_factory.mktemp("stranger"))


def _file(folder: Path, lines: list[str]) -> Path:
    path = folder / "kafka.properties"
    path.write_text("\n".join(lines) + "\n")
    return path


def _come(secured: Secured, folder: Path, listener: str, lines: list[str]) -> Settings:
    name, _, by_number = listener.partition(" ")
    address = secured.at(name) if name else f"localhost:{secured.port}"
    if by_number:
        address = address.replace("localhost", "127.0.0.1")
    return load(kafka_properties=_file(folder, lines), bootstrap_servers=address)


@pytest.mark.parametrize("case", ADMITTED)
def test_who_is_admitted(case: str, secured: Secured, desk: Desk, tmp_path: Path):
    listener, lines, who = ADMITTED[case]
    settings = _come(secured, tmp_path, listener, lines(desk))
    reach(settings)
    assert principal(settings) == who


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.chaos if case in IN_FULL else ()) for case in REFUSED]
)
def test_who_is_refused(case: str, secured: Secured, desk: Desk, tmp_path: Path, monkeypatch, record_property):
    monkeypatch.setattr(admin, "_SAY_SECONDS", 1.0)
    monkeypatch.setattr(admin, "_REACH_SECONDS", 2.0)
    listener, lines, words = REFUSED[case]
    with pytest.raises(BrokerError) as caught:
        reach(_come(secured, tmp_path, listener, lines(desk)))
    assert words in caught.value.message
    assert "kafka.properties" in caught.value.remedy or case == "host name"
    record_property("said", (case, plain(str(caught.value))))


class Guarded:
    """A shop whose worker logs in, and may do what a worker needs and no more."""

    def __init__(self, shop: Shop, secured: Secured, lines: list[str], listener: str = "LOGIN") -> None:
        self.shop, self.client = shop, secured.admin()
        self.names = shop.names | {"catalog_topic": shop.settings.catalog_topic}
        self.rights = needed(shop.settings)
        apply(shop.settings, acls=_WHO)
        self._given = {
            "kafka_properties": _file(shop.folder, lines),
            "bootstrap_servers": secured.at(listener),
            "log_level": "info",
        }

    def right(self, role: str, operation: str) -> Right:
        """Return a right by the role of its topic, or the kind of its resource."""
        role_of = {name: key.removesuffix("_topic") for key, name in self.names.items()}
        [found] = [
            right
            for right in self.rights
            if role_of.get(right.name, right.kind.name.lower()) == role and right.operation.name == operation
        ]
        return found

    def start(self) -> "subprocess.Popen[bytes]":
        return self.shop.start("w", **self._given)

    def said(self) -> str:
        log = self.shop.log_of("w").read_text()
        return log[log.rindex("\nforecart: ") + 1 :] if "\nforecart: " in log else log

    def name(self, text: str) -> str:
        """Put roles in the place of this shop's names."""
        for key, name in self.names.items():
            text = text.replace(name or key, key.removesuffix("_topic").replace("_", "-"))
        return text.replace(self.shop.group, "GROUP")


RIGHTS = [
    ("events", "READ"), ("scores", "WRITE"), ("dead_letters", "WRITE"), ("changelog", "READ"), ("changelog", "WRITE"),
    ("catalog", "READ"), ("group", "READ"), ("transactional_id", "WRITE"),
]  # fmt: skip
AT_START = [(role, "DESCRIBE_CONFIGS") for role in ("events", "scores", "dead_letters", "changelog", "catalog")]
IN_SHORT = [("events", "READ"), ("changelog", "WRITE"), ("group", "READ")]


def _place(secured: Secured, shops: Callable[..., Shop]) -> Guarded:
    shop = shops(secured.address, catalog_topic=f"catalog-{time.time_ns()}")
    return Guarded(shop, secured, login("SCRAM-SHA-512"))


def test_each_right_that_a_worker_needs_is_taken(secured: Secured, shops):
    place = _place(secured, shops)
    tried = [place.right(*each) for each in [*RIGHTS, *AT_START]]
    assert sorted(map(str, tried)) == sorted(map(str, place.rights))


@pytest.mark.parametrize(
    "role, operation",
    [pytest.param(*each, marks=() if each in IN_SHORT else pytest.mark.chaos) for each in [*RIGHTS, *AT_START]],
)
def test_a_right_that_is_missing_at_the_start(role, operation, secured: Secured, shops, record_property):
    place = _place(secured, shops)
    right = place.right(role, operation)
    with without(place.client, right, _WHO):
        began = time.monotonic()
        worker = place.start()
        assert worker.wait(_WITHIN) == 69
    _named(place, right, f"{operation} of {role}, at the start", time.monotonic() - began, record_property)


@pytest.mark.chaos
@pytest.mark.parametrize("role, operation", RIGHTS)
def test_a_right_that_is_taken_away(role, operation, secured: Secured, shops, record_property):
    place = _place(secured, shops)
    right = place.right(role, operation)
    upstream = Upstream(place.shop, rate=50, seconds=120)
    upstream.start()
    worker = place.start()
    wait_for(place.shop.outcomes, 60, "scores")
    with without(place.client, right, _WHO):
        began = time.monotonic()
        assert worker.wait(_WITHIN) == 69
    upstream.seconds = 0
    _named(place, right, f"{operation} of {role}, taken away", time.monotonic() - began, record_property)


def _named(place: Guarded, right: Right, case: str, seconds: float, record_property) -> None:
    said = place.said()
    assert re.search(rf"{_WHO} is not allowed: {re.escape(str(right))}( \(.*)?\n", said), said  # and no other one
    assert f"forecart topics apply --acls '{_WHO}'" in said
    record_property("said", (case.replace("_", " "), f"after {seconds:.0f} s: {plain(place.name(said))}"))


@pytest.mark.parametrize("case", ["OAUTHBEARER", pytest.param("mutual TLS", marks=pytest.mark.chaos)])
def test_a_worker_scores_with_the_least_rights(case: str, secured: Secured, desk: Desk, shops):
    listener, lines, who = ADMITTED[case]
    shop = shops(secured.address)
    place = Guarded(shop, secured, lines(desk), listener)
    apply(shop.settings, acls=who)
    upstream = Upstream(shop, rate=50, seconds=5)
    upstream.start()
    worker = place.start()
    upstream.join()
    shop.await_outcomes(40)
    assert len(shop.outcomes()) == upstream.sent
    assert worker.poll() is None


@pytest.mark.chaos
def test_tokens_end_while_a_worker_runs(secured: Secured, desk: Desk, shops):
    secured.issuer.life = 15.0
    try:
        place = Guarded(shops(secured.address), secured, desk.token())
        upstream = Upstream(place.shop, rate=50, seconds=60)
        upstream.start()
        began, worker = len(secured.issuer.given), place.start()
        upstream.join()
        place.shop.await_outcomes(40)
    finally:
        secured.issuer.life = 60.0
    assert len(place.shop.outcomes()) == upstream.sent
    assert worker.poll() is None
    assert len(secured.issuer.given) - began > 3 * 3  # each client asks anew, several times


@pytest.mark.chaos
@pytest.mark.parametrize("what", ["certificate", "password"])
def test_a_renewed_login_is_taken_up_before_the_old_one_ends(what: str, tmp_path: Path, shops):
    """A certificate of two minutes: all connections after it are made with the next one."""
    life = 120.0
    with Issuer() as issuer, Secured(tmp_path / "broker", issuer) as own:
        if what == "certificate":
            pair = own.authority.sign("short", "/CN=worker", end=timedelta(seconds=life))
            lines = ["security.protocol=SSL", own.trust()]
            lines += [f"ssl.certificate.location={pair.certificate}", f"ssl.key.location={pair.key}"]
            place = Guarded(shops(own.address), own, lines, "MUTUAL")
            apply(place.shop.settings, acls="User:CN=worker")
        else:
            place = Guarded(shops(own.address), own, login("SCRAM-SHA-512"))
        signed, worker = time.monotonic(), place.start()
        Upstream(place.shop, rate=50, seconds=10).run()
        place.shop.await_outcomes(60)
        if what == "certificate":
            fresh = own.authority.sign("fresh", "/CN=worker")
            for old, new in zip(pair, fresh, strict=True):
                old.write_text(new.read_text())
        else:
            own.set_password("another one")
            _file(place.shop.folder, login("SCRAM-SHA-512", "another one"))
        wait_for(lambda: "were renewed: taken up" in place.shop.log_of("w").read_text(), 20, "the renewal")
        if what == "certificate":
            assert time.monotonic() - signed < life
            time.sleep(max(signed + life + 5 - time.monotonic(), 0))
        own.end(hard=False)
        own.start()
        Upstream(place.shop, rate=50, seconds=10).run()
        place.shop.await_outcomes(90)
        assert_exactly_once(place.shop.examine(), at_least=500)
        assert worker.poll() is None


@pytest.mark.chaos
@pytest.mark.parametrize("what", ["CA", "client secret"])
def test_what_a_login_rests_on_is_replaced(what: str, tmp_path: Path, shops):
    """The broker comes back with a certificate of a new CA, or the issuer admits by a new secret alone."""
    with Issuer(life=20.0) as issuer, Secured(tmp_path / "broker", issuer) as own:
        ca, next_ca = tmp_path / "ca.pem", Authority(tmp_path / "next", "next")
        ca.write_text(own.authority.pair.certificate.read_text())
        if what == "CA":
            lines = [*login("SCRAM-SHA-256", protocol="SASL_SSL"), f"ssl.ca.location={ca}"]
            place = Guarded(shops(own.address), own, lines, "LOGINTLS")
        else:
            place = Guarded(shops(own.address), own, ["security.protocol=SASL_PLAINTEXT", *issuer.properties()])
        worker = place.start()
        Upstream(place.shop, rate=50, seconds=10).run()
        place.shop.await_outcomes(60)
        if what == "CA":
            ca.write_text(next_ca.pair.certificate.read_text())
        else:
            issuer.secret = "another one"
            _file(place.shop.folder, ["security.protocol=SASL_PLAINTEXT", *issuer.properties()])
        wait_for(lambda: "were renewed: taken up" in place.shop.log_of("w").read_text(), 20, "the renewal")
        own.end(hard=False)
        if what == "CA":
            own.show(next_ca)
        given = len(issuer.given)
        time.sleep(issuer.life)  # no token of the old secret is valid any more
        own.start()
        Upstream(place.shop, rate=50, seconds=10).run()
        place.shop.await_outcomes(90)
        assert_exactly_once(place.shop.examine(), at_least=500)
        assert worker.poll() is None
        assert what == "CA" or len(issuer.given) > given
