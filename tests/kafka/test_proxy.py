"""The proxy of the fault tests does to a connection what it says, and undoes it."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """Send back whatever comes, on a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(65536):
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: int, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(tmp_path / "proxy.log") as running:
        running.forward(echo)
        yield running


def _echoed(connection: socket.socket, data: bytes) -> float:
    """Send and wait for it to come back; return the seconds that took."""
    began, left = time.monotonic(), len(data)
    connection.sendall(data)
    while left:
        got = connection.recv(65536)
        assert got, "the connection was closed"
        left -= len(got)
    return time.monotonic() - began


def _connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def test_a_delay_holds_each_way_and_ends(proxy: Proxy):
    with _connect(proxy) as connection:
        _echoed(connection, b"a")
        proxy.delay(300)
        assert _echoed(connection, b"a") >= 0.6
        proxy.mend()
        assert _echoed(connection, b"a") < 0.6


def test_a_throttle_lets_so_many_bytes_through(proxy: Proxy):
    proxy.throttle(50_000)
    with _connect(proxy) as connection:
        assert _echoed(connection, bytes(100_000)) > 1.5


def test_a_cut_closes_what_is_open_and_takes_nothing_new(proxy: Proxy):
    with _connect(proxy) as connection:
        _echoed(connection, b"a")
        proxy.cut()
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        _connect(proxy)
    proxy.mend()
    with _connect(proxy) as connection:
        _echoed(connection, b"a")


def test_half_open_takes_connections_and_passes_nothing(proxy: Proxy):
    with _connect(proxy) as connection:
        _echoed(connection, b"a")
        proxy.hang()
        connection.settimeout(1)
        connection.sendall(b"a")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        with _connect(proxy) as another:
            another.sendall(b"a")


def test_it_leads_to_another_port(proxy: Proxy, echo: int):
    proxy.forward(1)
    with _connect(proxy) as connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    proxy.forward(echo)
    with _connect(proxy) as connection:
        _echoed(connection, b"a")
