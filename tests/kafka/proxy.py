"""A proxy between clients and a broker that cuts, delays, throttles and goes half-open: toxiproxy, by its HTTP API."""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from stream.kafka.embedded_broker import end_guarded, free_port, start_guarded

TOOL = "toxiproxy-server"
_BOTH = ("upstream", "downstream")  # to the broker, and from it
_KB = 1000  # toxiproxy's bandwidth is in KB/s
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names


class Proxy:
    """Listen on `port` and forward to a port of this machine; a context manager."""

    def __init__(self, log: Path) -> None:
        if shutil.which(TOOL) is None:
            say = pytest.fail if os.environ.get("CI") else pytest.skip
            say(f"{TOOL} is not installed: see CONTRIBUTING.md")
        self.port, self._api, self._log = free_port(), free_port(), log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Return what --bootstrap-servers takes."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Start the server, without a way through as yet."""
        command = [shutil.which(TOOL) or TOOL, "-host", "127.0.0.1", "-port", str(self._api)]
        self._process = start_guarded(command, self._log)
        deadline = time.monotonic() + 30
        while True:
            try:
                self._ask("GET", "/version")
                return self
            except OSError:
                assert time.monotonic() < deadline, f"{TOOL} does not answer"
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        if self._process:
            end_guarded(self._process)

    def forward(self, port: int) -> None:
        """Lead to a port from now on; what is connected is cut."""
        self._ask("POST", "/populate", [self._way(f"127.0.0.1:{port}")])

    def cut(self) -> None:
        """Close all connections and take no more."""
        self._ask("POST", "/proxies/kafka", {"enabled": False})

    def mend(self) -> None:
        """Let everything through again, at once and in full."""
        self._ask("POST", "/reset")

    def delay(self, milliseconds: int) -> None:
        """Hold everything back for so long, each way."""
        self._poison("latency", latency=milliseconds)

    def throttle(self, bytes_per_second: int, ways: tuple[str, ...] = _BOTH) -> None:
        """Let so many bytes through a second, each way."""
        self._poison("bandwidth", ways, rate=max(1, bytes_per_second // _KB))

    def hang(self) -> None:
        """Go half-open: connections stand, new ones are taken, and nothing passes."""
        self._poison("timeout", timeout=0)

    def _poison(self, kind: str, ways: tuple[str, ...] = _BOTH, **attributes: int) -> None:
        for way in ways:
            self._ask("POST", "/proxies/kafka/toxics", {"type": kind, "stream": way, "attributes": attributes})

    def _way(self, upstream: str) -> dict[str, Any]:
        return {"name": "kafka", "listen": self.address, "upstream": upstream, "enabled": True}

    def _ask(self, method: str, path: str, body: Any = None) -> None:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._api}{path}", data, method=method)
        with _opener.open(request, timeout=30) as answer:
            answer.read()
