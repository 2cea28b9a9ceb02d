"""Probes and metrics over real HTTP."""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from stream.core.errors import SettingError
from stream.health import Health
from stream.telemetry import Telemetry


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Health, str]]]:
    running: list[Health] = []

    def start(live: str = "", ready: str = "") -> tuple[Health, str]:
        telemetry = Telemetry()
        health = Health(telemetry, lambda: live, lambda: ready, lambda: telemetry.users.set(42))
        running.append(health)
        return health, f"http://127.0.0.1:{health.start('127.0.0.1', 0)}"

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


def test_probes_say_why_not(serve):
    _, url = serve(ready="recovering")
    assert _get(url + "/livez") == (200, "ok\n")
    assert _get(url + "/readyz") == (503, "recovering\n")


def test_metrics_are_refreshed_when_scraped(serve):
    _, url = serve()
    status, body = _get(url + "/metrics?x=1")
    assert status == 200
    assert "forecart_state_users 42.0" in body


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
