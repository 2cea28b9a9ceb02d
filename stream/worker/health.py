"""Metrics and probes on a thread of their own: they answer while the worker's loop is busy."""

import errno
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from stream.core.errors import SettingError
from stream.worker.telemetry import Telemetry

log = logging.getLogger(__name__)
CONNECTIONS = 16  # at once; one more ends the oldest
SECONDS = 5.0  # that a connection may keep us waiting
_ALL, _NO_IPV6 = "::", (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
Probe = Callable[[], str]
"""Return why not, or an empty string."""


class _Server(ThreadingHTTPServer):
    """A thread a connection, but no more of them than `CONNECTIONS`: idle ones must not keep probes out."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)
        self._open: dict[socket.socket, None] = {}
        self._lock = threading.Lock()

    @classmethod
    def listen(cls, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> Self:
        """Listen on a name or an address; `::` is all of IPv6 and IPv4, or of IPv4 where the host has no IPv6."""
        try:
            return cls((host, port), handler)
        except OSError as error:
            if host != _ALL or error.errno not in _NO_IPV6:
                raise
            return cls(("0.0.0.0", port), handler)

    def server_bind(self) -> None:
        """Bind; an IPv6 socket for all addresses takes IPv4 too, whatever the host's default is."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    @property
    def url(self) -> str:
        """Return where it listens."""
        host, port = self.server_address[:2]
        return f"http://{_bracketed(str(host))}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) >= CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread ends, and closes it
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of what is a fault of ours; that the other side has gone is none."""
        if not isinstance(sys.exception(), OSError):
            log.warning("a request for metrics or probes failed", exc_info=True)


class Health:
    """Serve /metrics, /livez and /readyz; end the process that is not live for too long."""

    def __init__(self, telemetry: Telemetry, live: Probe, ready: Probe, refresh: Callable[[], None]) -> None:
        self._telemetry, self._probes, self._refresh = telemetry, {"/livez": live, "/readyz": ready}, refresh
        self._server: _Server | None = None

    def start(self, host: str, port: int) -> int:
        """Listen and return the port; raise SettingError where it is taken."""
        health = self

        class Handler(BaseHTTPRequestHandler):
            timeout = SECONDS

            def do_GET(self) -> None:
                self.wfile.write(self.head())

            def do_HEAD(self) -> None:
                self.head()

            def head(self) -> bytes:
                """Answer with all but the body; return that."""
                status, kind, body = health.answer(self.path, self.headers.get("Accept", ""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                return body

            def log_message(self, format: str, *args: object) -> None:
                """Keep scrapes out of the log."""

        try:
            self._server = _Server.listen(host.strip("[]"), port, Handler)
        except OSError as error:
            remedy = "give another --metrics-port, or 0"
            if error.errno != errno.EADDRINUSE:
                remedy += "; if it is the host, another FORECART_METRICS_HOST: :: is every address of this one"
            raise SettingError(
                f"metrics cannot listen on {_bracketed(host)}:{port}: {error.strerror}", remedy
            ) from error
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Return where it listens, once it does."""
        return self._server.url if self._server else ""

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Return (status, content type, body) for a request."""
        path = path.partition("?")[0]
        if path == "/metrics":
            self._refresh()
            return (200, *self._telemetry.render(accept))
        if probe := self._probes.get(path):
            why = probe()
            return 503 if why else 200, "text/plain; charset=utf-8", (why or "ok").encode() + b"\n"
        return 404, "text/plain; charset=utf-8", b"paths are /metrics, /livez and /readyz\n"

    def watch(self, limit: float, end: Callable[[str], None]) -> None:
        """Call `end` once the worker has not been live for `limit` seconds: not every host has a kubelet."""

        def look() -> None:
            since: float | None = None
            while True:
                time.sleep(min(limit / 4, 5.0))
                why = self._probes["/livez"]()
                now = time.monotonic()
                since = (since or now) if why else None
                if since and now - since > limit:
                    return end(why)

        threading.Thread(target=look, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()


def stay(telemetry: Telemetry, host: str, port: int, why: str, seconds: float) -> None:
    """Let a worker that cannot begin be scraped, live and unready, for so long or until SIGTERM or Ctrl-C."""
    health, ended = (
        Health(telemetry, lambda: "", lambda: why, telemetry.progress.set_to_current_time),
        threading.Event(),
    )
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        health.start(host, port)
        log.info("metrics and probes on %s, for %.0f s", health.url, seconds)
        ended.wait(seconds)
    except SettingError as error:
        log.warning("%s", error.message)
    finally:
        health.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
