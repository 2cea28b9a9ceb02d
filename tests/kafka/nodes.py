"""Brokers of the tests' own: they can be killed, moved, put behind a proxy, and be of another version."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from stream.core.errors import SettingError
from stream.kafka import embedded_broker as embedded
from stream.kafka.embedded_broker import Broker
from tests.kafka.shop import wait_for

OLDEST = "3.7.2"  # the oldest that the docs promise
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forecart"


class Node(Broker):
    """A broker whose data stay when it stops, so that it can be started again, also on another `port`.

    `more` are further server properties. With `behind`, the port of a proxy, a second listener on
    `inner` advertises that port: who comes through the proxy stays behind it, who comes by `address` does not.
    """

    def __init__(
        self,
        data: Path,
        port: int = 0,
        heap: str = "256m",
        more: Mapping[str, str] = {},
        behind: int = 0,
    ) -> None:
        super().__init__(data, port, heap=heap)
        self.more, self.behind = more, behind
        self.inner = embedded.free_port()

    def properties(self) -> dict[str, str]:
        """Return the embedded broker's, the proxy's listener, and `more`."""
        found = super().properties()
        if self.behind:
            found["listeners"] += f",CLIENTS://127.0.0.1:{self.inner}"
            found["advertised.listeners"] += f",CLIENTS://127.0.0.1:{self.behind}"
            names = ("PLAINTEXT", "CONTROLLER", "CLIENTS")
            found["listener.security.protocol.map"] = ",".join(f"{name}:PLAINTEXT" for name in names)
        return {**found, **self.more}

    def kill(self) -> None:
        """End it by kill -9, as a power cut would; its guard is in its process group."""
        assert self._process
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        self._process = None
        wait_for(self._gone, 30, "the killed broker's port is free")

    def _gone(self) -> bool:
        try:
            embedded.refuse_taken(self.port)
        except SettingError:
            return False
        return True

    def end(self, hard: bool) -> None:
        """Stop it, cleanly or by kill -9."""
        self.kill() if hard else self.stop()


class OldNode(Node):
    """A broker of the oldest version that the docs promise."""

    version = OLDEST

    def jars(self) -> list[Path]:
        """Return that version's jars, held to their own lock."""
        lines = Path(__file__).with_name("oldest.lock").read_text().splitlines()
        pinned = {name: digest for digest, name in (line.split() for line in lines)}
        return embedded.jars(_CACHE / f"kafka-{OLDEST}", self._say, OLDEST, pinned)
