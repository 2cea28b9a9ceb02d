"""Probes and metrics over real HTTP."""

import errno
import http.client
import signal
import socket
import socketserver
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from stream.core.errors import SettingError
from stream.worker.health import CONNECTIONS, Health, stay
from stream.worker.telemetry import Telemetry


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Health, str]]]:
    running: list[Health] = []

    def start(live: str = "", ready: str = "", host: str = "127.0.0.1") -> tuple[Health, str]:
        telemetry = Telemetry()
        health = Health(telemetry, lambda: live, lambda: ready, lambda: telemetry.users.set(42))
        running.append(health)
        health.start(host, 0)
        return health, health.url

    yield start
    for health in running:
        health.stop()


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@ipv6
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_it_listens_on_an_address_of_ipv6(serve, host: str):
    _, url = serve(host=host)
    assert url.startswith("http://[::1]:")
    assert _get(url + "/livez") == (200, "ok\n")
    with pytest.raises(SettingError, match=r"cannot listen on \[::1\]:"):
        serve(host=host)[0].start(host, int(url.rpartition(":")[2]))


@ipv6
def test_all_addresses_are_those_of_ipv4_too(serve):
    _, url = serve(host="::")
    port = url.removeprefix("http://[::]:")
    for host in ("[::1]", "127.0.0.1"):
        assert _get(f"http://{host}:{port}/livez") == (200, "ok\n")


def test_all_addresses_are_those_of_ipv4_where_there_is_no_ipv6(serve, monkeypatch: pytest.MonkeyPatch):
    made = socket.socket

    def without(family: int = -1, *given: int, **more: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return made(family, *given, **more)

    monkeypatch.setattr(socketserver.socket, "socket", without)
    _, url = serve(host="::")
    monkeypatch.undo()
    assert url.startswith("http://0.0.0.0:")
    assert _get(url.replace("0.0.0.0", "127.0.0.1") + "/livez") == (200, "ok\n")


def test_a_host_that_is_not_this_one_is_told(serve):
    with pytest.raises(SettingError, match=r"cannot listen on 192\.0\.2\.1:0") as caught:
        serve(host="192.0.2.1")
    assert "FORECART_METRICS_HOST" in caught.value.remedy


def test_probes_say_why_not(serve):
    _, url = serve(ready="recovering")
    assert _get(url + "/livez") == (200, "ok\n")
    assert _get(url + "/readyz") == (503, "recovering\n")


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/readyz", 503), ("/metrics", 200), ("/", 404)])
def test_head_is_get_without_the_body(serve, path: str, status: int):
    _, url = serve(ready="recovering")
    host, port = url.removeprefix("http://").split(":")
    answers = []
    for method in ("HEAD", "GET"):
        with closing(http.client.HTTPConnection(host, int(port), timeout=5)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            answers.append((answer.status, answer.getheader("Content-Type"), answer.read()))
    assert answers[0] == (status, answers[1][1], b"")
    assert answers[1][0] == status
    assert answers[1][2]


def test_metrics_are_refreshed_when_scraped(serve):
    _, url = serve()
    status, body = _get(url + "/metrics?x=1")
    assert status == 200
    assert "forecart_state_users 42.0" in body


def _idle(url: str, stack: ExitStack) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return stack.enter_context(socket.create_connection((host, int(port)), 5))


def test_idle_connections_neither_pile_up_nor_keep_probes_out(serve):
    _, url = serve()
    with ExitStack() as stack:
        before = threading.active_count()
        idle = [_idle(url, stack) for _ in range(100)]
        assert _get(url + "/livez") == (200, "ok\n")
        assert idle[0].recv(1) == b""  # the oldest made room
        deadline = time.monotonic() + 10
        while threading.active_count() - before > CONNECTIONS and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() - before <= CONNECTIONS


def test_a_connection_that_asks_nothing_is_closed(serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stream.worker.health.SECONDS", 0.1)
    _, url = serve()
    with ExitStack() as stack:
        silent = _idle(url, stack)
        silent.sendall(b"GET /livez")
        assert silent.recv(1) == b""


def test_a_reader_that_leaves_is_no_fault_of_the_worker(serve, capfd: pytest.CaptureFixture[str]):
    _, url = serve()
    with ExitStack() as stack:
        gone = _idle(url, stack)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no farewell
    assert _get(url + "/livez")[0] == 200
    time.sleep(0.1)
    assert capfd.readouterr().err == ""


def test_other_paths_are_not_found(serve):
    assert _get(serve()[1] + "/")[0] == 404


def test_a_taken_port_is_an_error(serve):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        health = Health(Telemetry(), lambda: "", lambda: "", lambda: None)
        with pytest.raises(SettingError, match="cannot listen"):
            health.start("127.0.0.1", other.getsockname()[1])


def test_the_watchdog_ends_what_is_not_live_for_too_long():
    ended = threading.Event()
    health = Health(Telemetry(), lambda: "stuck", lambda: "", lambda: None)
    reasons: list[str] = []
    health.watch(0.2, lambda why: (reasons.append(why), ended.set()))
    assert ended.wait(5)
    assert reasons == ["stuck"]


def test_who_cannot_begin_can_be_scraped_for_so_long_and_signals_are_as_they_were_afterwards():
    before, port, seen = signal.getsignal(signal.SIGTERM), _free_port(), []
    asking = threading.Thread(target=lambda: seen.extend(_asked(f"http://127.0.0.1:{port}/readyz")))
    asking.start()
    began = time.monotonic()
    stay(Telemetry(), "127.0.0.1", port, "no model", 1.0)
    assert time.monotonic() - began >= 1
    asking.join(10)
    assert seen == [503, "no model\n"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_who_cannot_begin_does_not_stay_where_its_port_is_taken(serve):
    began, port = time.monotonic(), int(serve()[1].rpartition(":")[2])
    stay(Telemetry(), "127.0.0.1", port, "no model", 30.0)
    assert time.monotonic() - began < 5


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _asked(url: str) -> tuple[int, str]:
    """Ask until there is an answer."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return _get(url)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
