"""`forecart demo`: a broker, a worker, live users and what they are about to do, in one terminal."""

import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stream.cli.options import terminal
from stream.core.errors import BrokerError, StuckError
from stream.core.printable import printable
from stream.demo.figures import Figures, read_figures
from stream.kafka.client.admin import consumer, subscribe_all
from stream.kafka.embedded_broker import Broker, end_guarded, free_port, start_guarded
from stream.kafka.topics.admin import apply, remove
from stream.settings import Settings, child_environment

BUNDLE = Path(__file__).parent / "bundle"
_FORECART = (sys.executable, "-m", "forecart")
_PARTITIONS = 4
_SHOPPERS, _DAYS = 10_000, 14
_FIRST_SCORE_SECONDS = 60.0
_SHOWN = 12
_WINDOW = 10  # seconds that the shown latency looks back

app = typer.Typer()
console = terminal()


@app.callback()
def _group() -> None:
    """Show Forecart."""


@dataclass(slots=True)
class View:
    """What the terminal shows."""

    latest: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    scores: int = 0
    first: float = 0.0  # monotonic seconds of the first score
    figures: Figures = field(default_factory=Figures)
    past: deque[Figures] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def add(self, score: dict[str, Any]) -> None:
        """Take up a score."""
        self.first = self.first or time.monotonic()
        self.scores += 1
        self.latest.appendleft(score)

    def line(self) -> str:
        """Describe the state in one line."""
        f = self.figures
        rate = self.scores / max(time.monotonic() - self.first, 1.0) if self.first else 0.0
        return (
            f"{self.scores:,} scores, {rate:,.0f}/s, {f.shoppers:,} shoppers, lag {f.lag:,}, "
            f"event to score p50 {f.median * 1000:.0f} ms, p99 {f.p99 * 1000:.0f} ms"
        )

    def render(self) -> Group:
        """Draw the state."""
        table = Table("shopper", "buys within 1 h", "", "session", "may look at next", expand=True)
        for score in list(self.latest):
            p = next(iter(score["intent"].values()))
            bar = Text("█" * round(p * 20), style="green" if p < 0.2 else "yellow" if p < 0.4 else "red")
            length = f"{score['session']['length']} events"
            table.add_row(printable(score["user_id"]), f"{p:.1%}", bar, length, _listed(score))
        return Group(Text(self.line(), style="bold"), table, Text("Ctrl-C stops everything", style="dim"))


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option(min=1, help="Stop so long after the first score.")] = None,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 150.0,
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="A running Kafka, where the demo gets topics of its own; else one is started.")
    ] = None,
) -> None:
    """Run everything on this machine and watch it: nothing to install, nothing left behind.

    The settings of the environment are ignored, so that it meets no other cluster than the one given.

    Example: forecart demo --seconds 30
    """
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background jobs begin with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forecart-demo-")))
        settings = _elsewhere(bootstrap_servers) if bootstrap_servers else _here(stack)
        apply(settings, _PARTITIONS)
        if bootstrap_servers:
            stack.callback(_clear, settings)
        console.print("starting a worker")
        env = child_environment(settings)
        stack.enter_context(_process(["worker"], folder / "worker.log", env))
        reader = consumer(settings, **{"group.id": f"{settings.group}-view"})
        stack.callback(reader.close)
        subscribe_all(reader, settings.scores_topic)
        view = View()
        with suppress(KeyboardInterrupt):
            _watch(
                view, reader, _traffic(folder, rate, env, settings.metrics_port), settings.metrics_port, seconds, folder
            )
        console.print(f"stopping: {view.line()}")


def _here(stack: ExitStack) -> Settings:
    """Start a broker and describe a worker of it."""
    try:
        broker = stack.enter_context(Broker(say=console.print))
    except BrokerError as error:
        remedy = f"{error.remedy}, or give --bootstrap-servers of a running Kafka"
        raise BrokerError(error.message, remedy) from error
    return Settings(
        bootstrap_servers=broker.address, group="demo", name="demo", bundle=BUNDLE, metrics_port=free_port()
    )


def _elsewhere(servers: str) -> Settings:
    """Describe a worker whose topics are like no others of a cluster."""
    group = f"forecart-demo-{uuid.uuid4().hex[:8]}"
    return Settings(
        bootstrap_servers=servers,
        group=group,
        name="demo",
        bundle=BUNDLE,
        metrics_port=free_port(),
        events_topic=f"{group}-events",
        scores_topic=f"{group}-scores",
        dead_letters_topic=f"{group}-dead-letters",
    )


def _clear(settings: Settings) -> None:
    if left := remove(settings):
        console.print(f"could not be deleted: {', '.join(left)}", style="yellow")


def _watch(view: View, reader: Any, traffic: Iterator[None], port: int, seconds: float | None, folder: Path) -> None:
    began = shown = time.monotonic()
    screen = terminal(stderr=False)
    with ExitStack() as stack:
        live = None
        while True:
            next(traffic)  # nobody comes before the worker is ready: what waits for it is no measure of it
            for message in reader.consume(500, 0.25):
                if not message.error():
                    view.add(json.loads(message.value()))
            now = time.monotonic()
            if not view.first and now - began > _FIRST_SCORE_SECONDS:
                tail = (folder / "worker.log").read_text(errors="replace")[-800:]
                raise StuckError(f"no score within {_FIRST_SCORE_SECONDS:.0f} s; the worker says: …{tail}", "try again")
            if seconds and view.first and now - view.first > seconds:
                return
            if now - shown < 1.0 or not view.first:
                continue
            shown, view.figures = now, read_figures(_asked(port, "/metrics"), view.past[0] if view.past else None)
            view.past.append(view.figures)
            if not screen.is_terminal:
                print(f"{view.line()}\n  {said(view.latest[0])}", flush=True)
            elif live is None:
                live = stack.enter_context(Live(view.render(), console=screen, screen=True, auto_refresh=False))
            else:
                live.update(view.render(), refresh=True)


def said(score: dict[str, Any]) -> str:
    """Tell of a score in words."""
    horizon, p = next(iter(score["intent"].items()))
    return f"{printable(score['user_id'])} buys within {horizon}: {p:.1%}; may look at next: {_listed(score)}"


def _listed(score: dict[str, Any]) -> str:
    return ", ".join(printable(each["item_id"]) for each in score.get("recommendations", [])[:3])


def _asked(port: int, path: str) -> str:
    """Return what the worker says, nothing where it does not answer, or not yet with a yes."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def _traffic(folder: Path, rate: float, env: dict[str, str], port: int) -> Iterator[None]:
    """Keep a replay of synthetic users running: when one fortnight is over, the next begins."""
    log = folder / "shoppers.jsonl"
    for fortnight in range(20):
        begin = time.strftime("%Y-%m-%d", time.gmtime(1_767_225_600 + fortnight * _DAYS * 86_400))
        made = f"shoppers --shoppers {_SHOPPERS} --days {_DAYS} --seed {fortnight} --begin {begin}".split()
        with log.open("wb") as out:
            subprocess.run([*_FORECART, *made], stdout=out, env=env, check=True)
        while not fortnight and not _asked(port, "/readyz"):
            yield
        console.print(f"shoppers arrive: {_SHOPPERS:,} of them, {rate:,.0f} events/s")
        replay = ["replay", "--format", "events", "--data", str(log), "--rate", str(rate)]
        with _process(replay, folder / "replay.log", env) as running:
            while running.poll() is None:
                yield
    while True:
        yield


@contextmanager
def _process(command: list[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of Forecart's that ends with us."""
    running = start_guarded([*_FORECART, *command], log, env)
    try:
        yield running
    finally:
        end_guarded(running)
