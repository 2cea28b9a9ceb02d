"""The Faust application around the engine: `forecart worker`, or `faust -A stream.app worker`."""

import asyncio
import gc
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any, cast

import faust

from stream.configured import catalog, scorer
from stream.core.errors import FaultError, ForecartError, SettingError, StuckError
from stream.core.pace import COMMIT_SHARE, Pace
from stream.engine import Engine
from stream.health import Health
from stream.kafka.catalog import CatalogReader
from stream.kafka.client import faust_options, reach
from stream.kafka.commit import FAILPOINTS, Committer
from stream.kafka.identity import name as worker_name
from stream.kafka.membership import Ownership
from stream.kafka.recovery import Recovery
from stream.kafka.topics import check
from stream.kafka.transport import BatchConsumer, BatchTransport
from stream.rehydrate import Rehydrator
from stream.runtime import Bundle
from stream.runtime import load as load_bundle
from stream.settings import Settings
from stream.settings import load as load_settings
from stream.telemetry import Telemetry

log = logging.getLogger(__name__)
_DROP = "drop-fetch"
_GC_EVERY = 50_000
_SWITCH_SECONDS = 0.0005  # a thread back from the graph waits so long for the interpreter, and not for 5 ms


class App(faust.App):
    """A Faust app on the batched transport."""

    ownership: Ownership
    engine: Engine
    reader: CatalogReader
    health: Health
    listen: Callable[[], None]

    async def on_first_start(self) -> None:
        """Listen first: metrics and probes answer while the rest starts. Then fence a predecessor."""
        try:
            self.listen()
            await asyncio.to_thread(self.reader.start, lambda error: _end(self, error))
            await asyncio.to_thread(self.engine.committer.start)
        except ForecartError as error:
            _end(self, error)
        await super().on_first_start()

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)


def __getattr__(attribute: str) -> Any:
    """Build the app for `faust -A stream.app`, from the environment; importing this module builds nothing."""
    if attribute != "app":
        raise AttributeError(attribute)
    try:
        built = build(load_settings())
    except ForecartError as error:
        print(f"forecart: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error
    globals()["app"] = built
    return built


def build(settings: Settings) -> App:
    """Check bundle, broker and topics, and wire the parts; raise ForecartError."""
    telemetry = Telemetry()
    bundle = _bundle(settings, telemetry)
    client = reach(settings)
    partitions = check(settings, client)
    name = worker_name(settings)
    recovery = Recovery(settings, client, Rehydrator(bundle))
    committer = Committer(settings, name, _failpoint(settings.failpoint))
    app = App(settings.group, **_conf(settings, name, partitions))
    app.ownership = Ownership(settings.group, settings.chunk_events, _dropper(settings.failpoint))
    reader = app.reader = CatalogReader(settings, catalog(settings, bundle), telemetry.hear_catalog)
    engine = app.engine = Engine(
        scorer=scorer(settings, bundle, settings.events_topic, reader.rules),
        committer=committer,
        recovery=recovery,
        ownership=app.ownership,
        telemetry=telemetry,
        pace=_pace(settings),
        seek=lambda positions: cast(BatchConsumer, app.consumer).seek_to(positions),
        fail=lambda error: _end(app, error),
    )

    def refresh() -> None:
        engine.refresh()
        telemetry.catalog_silent.set(reader.silence())

    app.health = Health(telemetry, lambda: engine.live(settings.stall_seconds), engine.ready, refresh)
    _wire(app, settings)
    log.info("%s scores %s with model %s", name, settings.events_topic, bundle.manifest.model)
    return app


def _pace(settings: Settings) -> Pace:
    allowed = settings.transaction_timeout_seconds * COMMIT_SHARE
    return Pace(settings.chunk_events, settings.round_chunks, settings.round_bytes, allowed)


def _bundle(settings: Settings, telemetry: Telemetry) -> Bundle:
    if settings.bundle is None:
        raise SettingError("no bundle is given", "give --bundle, or FORECART_BUNDLE")
    bundle = load_bundle(settings.bundle)
    telemetry.loads.labels("success").inc()
    telemetry.model.info({"version": bundle.manifest.model, "items": str(bundle.manifest.items)})
    telemetry.build.info({"version": version("forecart")})
    return bundle


def _conf(settings: Settings, name: str, partitions: int) -> dict[str, Any]:
    session = settings.session_timeout_seconds
    return faust_options(settings) | {
        "datadir": _scratch().name,
        "topic_partitions": partitions,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "processing_guarantee": "at_least_once",  # the transaction is ours
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": name,
        "broker_session_timeout": session,
        "broker_heartbeat_interval": session / 5,
        "broker_request_timeout": max(session * 2, 60.0),
        "broker_rebalance_timeout": 60.0,
        "broker_max_poll_records": settings.chunk_events * 4,
        "broker_commit_interval": 1.0,
        "stream_buffer_maxsize": 4,  # a message is a batch
        "stream_wait_empty": True,
        "web_enabled": False,
        "worker_redirect_stdouts": False,
        "key_serializer": "raw",
        "value_serializer": "raw",
    }


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Return the folder that Faust wants, though without tables nothing is kept there; it goes with the process."""
    return tempfile.TemporaryDirectory(prefix="forecart-")


def _wire(app: App, settings: Settings) -> None:
    engine = app.engine
    events = app.topic(settings.events_topic, key_serializer="raw", value_serializer="raw")

    @app.agent(events, name="score")
    async def score(stream: Any) -> None:
        async for batch in stream:
            await engine.take(batch)

    @app.task  # type: ignore[untyped-decorator]
    async def rounds() -> None:
        await engine.run()

    def listen() -> None:
        port = app.health.start(settings.metrics_host, settings.metrics_port)
        app.health.watch(settings.stall_seconds * 2, lambda why: _end(app, StuckError(why, "a restart is safe")))
        log.info("metrics and probes on http://%s:%d", settings.metrics_host, port)

    app.listen = listen

    @app.on_rebalance_complete.connect  # type: ignore[arg-type]
    async def recover(_app: Any, **_: Any) -> None:
        await engine.restorer.recover({tp.partition for tp in app.consumer.assignment()})

    @app.on_partitions_revoked.connect  # type: ignore[arg-type]
    async def settle(_app: Any, _revoked: Any, **_: Any) -> None:
        await engine.settle()

    @app.on_before_shutdown.connect  # type: ignore[arg-type]
    async def stop(_app: Any, **_: Any) -> None:
        await engine.stop()
        engine.restorer.recovery.close()
        app.reader.stop()
        app.health.stop()
        log.info("stopped: positions are committed")


def _end(app: App, error: BaseException) -> None:
    """End the process with one message; the next one goes on from the last commit."""
    if not isinstance(error, ForecartError):
        log.error("the worker failed", exc_info=error)
        error = FaultError(
            f"{type(error).__name__}: {error}", "a restart goes on from the last commit; please report it"
        )
    print(f"forecart: {error}", file=sys.stderr, flush=True)
    app.engine.committer.abort()
    _scratch().cleanup()
    os._exit(error.exit_code)


def _failpoint(spec: str) -> Callable[[str], None]:
    """Stop this process (SIGSTOP) at a point of its n-th round, `POINT@N`: only tests ask for it."""
    point, _, number = spec.partition("@")
    if point not in FAILPOINTS:
        if spec and point != _DROP:
            raise SettingError(f"there is no failpoint {point!r}", f"they are {', '.join(FAILPOINTS)}, {_DROP}")
        return lambda _at: None
    rounds = int(number or 1)

    def pause(at: str) -> None:
        nonlocal rounds
        if at != point:
            return
        rounds -= 1
        if rounds == 0:
            log.warning("failpoint %s: stopping", point)
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.01)

    return pause


def _dropper(spec: str) -> Callable[[], bool]:
    """Drop a share of the fetches, `drop-fetch@SHARE`: only tests ask for it."""
    point, _, share = spec.partition("@")
    if point != _DROP:
        return lambda: False
    chance, dice = float(share or 0.05), random.Random(0)
    return lambda: dice.random() < chance


def _is_no_step(record: logging.LogRecord) -> bool:
    """Leave out the steps that Faust's services log under our modules' names, unless they warn."""
    return record.levelno >= logging.WARNING or not str(record.msg).startswith("[^")


def run(settings: Settings) -> None:
    """Work until SIGTERM or Ctrl-C; exits the process."""
    logging.basicConfig(
        level={"warn": "WARNING"}.get(settings.log_level, settings.log_level.upper()),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger().handlers[0].addFilter(_is_no_step)
    for noisy in ("faust", "mode", "aiokafka"):
        logging.getLogger(noisy).setLevel(logging.ERROR if settings.log_level != "debug" else logging.DEBUG)
    app = build(settings)
    # Rounds allocate by the ten thousand and leave no cycles: the collector would walk all sessions' names in vain.
    gc.freeze()
    gc.set_threshold(_GC_EVERY, 50, 100)
    sys.setswitchinterval(_SWITCH_SECONDS)
    worker = faust.Worker(
        app,
        loglevel=None,
        override_logging=False,
        redirect_stdouts=False,
        console_port=0,
        blocking_timeout=0,
        quiet=True,
    )
    worker.spinner = None
    worker.execute_from_commandline()
