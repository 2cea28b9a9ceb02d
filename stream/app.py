"""The Faust application around the engine: `forecart worker`, or `faust -A stream.app worker`."""

import stream.worker.environment  # noqa: F401  # what it does must come before all other imports

# isort: split
import asyncio
import gc
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeVar, cast

import faust
from faust.app.base import BootStrategy

from stream.bundle.onnx import Bundle
from stream.bundle.onnx import load as load_bundle
from stream.core.errors import BundleError, FaultError, ForecartError, SettingError, StuckError, UnreachableError
from stream.core.linger import COMMIT_SHARE, Linger
from stream.kafka.catalog import CatalogReader
from stream.kafka.client.admin import admin
from stream.kafka.client.connection import aiokafka_options, faust_options
from stream.kafka.client.reachability import Reachability
from stream.kafka.client.rights import diagnose
from stream.kafka.exactly_once.changelog import Recovery
from stream.kafka.exactly_once.producing import Producing
from stream.kafka.exactly_once.transaction import Committer
from stream.kafka.fetch import inflate
from stream.kafka.fetch.transport import BatchConsumer, BatchTransport
from stream.kafka.group.leave import leave
from stream.kafka.group.membership import Ownership
from stream.kafka.group.rollout import Member
from stream.kafka.group.watch import GroupWatch
from stream.kafka.group.worker_name import name as worker_name
from stream.kafka.topics.admin import check
from stream.kafka.topics.watch import TopicWatch
from stream.logs import Sparing, hush, is_no_step, keep_out, set_levels
from stream.mappings import served, topic_decoder
from stream.scoring.configured import catalog, limits, scorer
from stream.scoring.rehydrate import Rehydrator
from stream.settings import Settings
from stream.settings import load as load_settings
from stream.worker.engine import Engine
from stream.worker.failpoints import drop_some, stop_at
from stream.worker.health import Health, stay
from stream.worker.kubernetes import Replica
from stream.worker.telemetry import Telemetry

log = logging.getLogger(__name__)
T = TypeVar("T")
_GC_EVERY = 50_000
_EXIT_SECONDS = 10.0  # for clients to close and Faust's services to end, once nothing of ours is open
_EXPLAIN_SECONDS, _ABORT_SECONDS = 15.0, 5.0  # on the way out after a failure, beyond the calls' own deadlines
_REFUSED_SECONDS = 60.0  # that metrics tell of a bundle that is refused, so that it is scraped
_LEAVE_SECONDS = 5.0  # on the way out: well within the grace period
_SWITCH_SECONDS = 0.0005  # a thread back from the graph waits so long for the interpreter, and not for 5 ms


class _Boot(BootStrategy):
    enable_web = False  # Faust's command line turns it on, and it tells anyone of tables and hosts
    enable_kafka_producer = False  # the transaction's is ours


class App(faust.App):
    """A Faust app on the batched transport."""

    BootStrategy = _Boot

    ownership: Ownership
    engine: Engine
    reader: CatalogReader
    watch: TopicWatch
    group: GroupWatch
    kafka: Reachability
    health: Health
    listen: Callable[[], None]
    check: Callable[[], object]
    end_membership: Callable[[], None]
    renew: Callable[[], object]
    explain: Callable[[ForecartError], ForecartError]
    ending: threading.Lock
    max_batch_bytes: int

    async def on_first_start(self) -> None:
        """Listen first: metrics and probes answer while Kafka is waited for and the rest starts."""
        try:
            self.listen()
            self.kafka.start(self._meet_outage, self.renew)
            await self._once_kafka_answers(self.check)
            await self._once_kafka_answers(self.group.admit)
            self.group.start()
            self.watch.start()
            await self._once_kafka_answers(lambda: self.reader.start(lambda error: _end(self, error)))
        except ForecartError as error:
            _end(self, error)
        await super().on_first_start()

    async def _once_kafka_answers(self, call: Callable[[], object]) -> None:
        """Make a call of the start, again for as long as Kafka does not answer it."""
        sparing = Sparing(log)
        while True:
            await self.kafka.wait()
            began = time.monotonic()
            try:
                await asyncio.to_thread(call)
                return
            except (UnreachableError, StuckError) as error:
                if isinstance(error, StuckError) and self.kafka.steady_since(began):
                    raise
                sparing.warning("the start waits: %s", error.message)
                await asyncio.sleep(1)

    def _meet_outage(self) -> None:
        self.loop.call_soon_threadsafe(self.engine.meet_outage)

    async def _producer_flush(self, logger: Any) -> None:
        """Flush nothing: Faust's producer is not started."""

    async def on_stop(self) -> None:
        """Let go of the streams first: Faust waits for them before it tells us that it stops."""
        self.engine.close()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        """Leave the group if this pod does not come back, now that nothing here is a member any more."""
        await super().on_shutdown()
        await asyncio.to_thread(self.end_membership)

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)


def __getattr__(attribute: str) -> Any:
    """Build the app for `faust -A stream.app`, from the environment; importing this module builds nothing."""
    if attribute != "app":
        raise AttributeError(attribute)
    try:
        hush()
        built = build(load_settings())
    except ForecartError as error:
        print(f"forecart: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error
    globals()["app"] = built
    return built


def build(settings: Settings) -> App:
    """Check the bundle and wire the parts, without asking Kafka anything; raise ForecartError."""
    inflate.require()
    name = worker_name(settings)
    telemetry = Telemetry(settings.group, name)
    bundle = _bundle(settings, telemetry)
    client, kafka = admin(settings), Reachability(settings)
    if settings.log_level != "debug":
        keep_out(kafka, of="aiokafka")
    replica = Replica(name) if settings.leave_on_scale_down else None
    pause = stop_at(settings.failpoint)
    me = Member(name, settings.release, served(bundle.manifest.model, settings.mapping))
    app = App(settings.group, **_conf(settings, me))
    app.max_batch_bytes = settings.max_batch_bytes
    app.kafka, app.check = kafka, lambda: check(settings, client)
    app.renew = lambda: app.loop.call_soon_threadsafe(_renew, app, settings)
    app.ending = threading.Lock()
    app.explain = lambda error: diagnose(settings, error, admin(settings)) if kafka.reachable else error
    app.ownership = Ownership(settings.group, settings.chunk_events, drop_some(settings.failpoint))
    reader = app.reader = CatalogReader(settings, catalog(settings, bundle), telemetry.hear_catalog)
    app.watch = TopicWatch(settings, lambda error: _end(app, error))
    app.group = GroupWatch(settings, me, lambda error: _end(app, error))
    engine = app.engine = Engine(
        scorer=scorer(settings, bundle, settings.events_topic, reader.rules, topic_decoder(settings.mapping)),
        producing=Producing(
            name, lambda: Committer(settings, name, pause, kafka.note, kafka.up_since), kafka.steady_since
        ),
        recovery=Recovery(
            settings, client, Rehydrator(bundle, telemetry.passed_over.inc, limits(settings)), kafka.steady_since
        ),
        ownership=app.ownership,
        telemetry=telemetry,
        pace=_pace(settings),
        seek=lambda positions: cast(BatchConsumer, app.consumer).seek_to(positions),
        fail=lambda error: _end(app, error),
        kafka=kafka,
    )

    def refresh() -> None:
        engine.refresh()
        telemetry.catalog_silent.set(reader.silence())

    app.health = Health(telemetry, lambda: engine.live(settings.stall_seconds), engine.ready, refresh)
    app.end_membership = lambda: _leave_if_scaled_down(settings, replica, name)
    _wire(app, settings)
    log.info("%s scores %s with model %s", name, settings.events_topic, bundle.manifest.model)
    return app


def _renew(app: App, settings: Settings) -> None:
    """Take up a renewed login: the consumer for its next connections, all other clients by being made anew."""
    try:
        credentials, options = faust_options(settings).get("broker_credentials"), aiokafka_options(settings)
    except SettingError as error:  # renewed once more meanwhile, which is seen soon
        return log.warning("the renewed login is not whole: %s", error)
    app.conf.broker_credentials = credentials
    cast(BatchConsumer, app.consumer).renew(options)
    app.engine.restorer.recovery.reopen()
    app.watch.reopen()
    app.reader.reopen()


def _pace(settings: Settings) -> Linger:
    allowed = settings.transaction_timeout_seconds * COMMIT_SHARE
    return Linger(settings.chunk_events, settings.round_chunks, settings.round_bytes, allowed)


def _bundle(settings: Settings, telemetry: Telemetry) -> Bundle:
    if settings.bundle is None:
        raise SettingError("no bundle is given", "give --bundle, or FORECART_BUNDLE")
    try:
        bundle = load_bundle(settings.bundle, settings.printable_ids)
    except BundleError as error:
        telemetry.loads.labels("failure").inc()
        log.error("the bundle is refused: %s", error)
        stay(telemetry, settings.metrics_host, settings.metrics_port, error.message, _REFUSED_SECONDS)
        raise
    telemetry.load(bundle.manifest)
    return bundle


def _conf(settings: Settings, me: Member) -> dict[str, Any]:
    session = settings.session_timeout_seconds
    return faust_options(settings) | {
        "env": {},  # else some 75 names without a prefix, BROKER_URL among them, win over what is given here
        "datadir": _scratch().name,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "processing_guarantee": "at_least_once",  # the transaction is ours
        "consumer_auto_offset_reset": "none",  # what is out of range is lost, or damage: nobody skips it
        "consumer_group_instance_id": me.name,
        "broker_client_id": me.client_id,  # what tells other workers whose this group is
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
        app.health.start(settings.metrics_host, settings.metrics_port)
        app.health.watch(settings.stall_seconds * 2, lambda why: _end(app, StuckError(why, "a restart is safe")))
        log.info("metrics and probes on %s", app.health.url)

    app.listen = listen

    @app.on_rebalance_complete.connect  # type: ignore[arg-type]
    async def recover(_app: Any, **_: Any) -> None:
        try:
            await asyncio.to_thread(app.watch.check)
        except ForecartError as error:
            _end(app, error)
        await engine.restorer.recover({tp.partition for tp in app.consumer.assignment()})

    @app.on_partitions_revoked.connect  # type: ignore[arg-type]
    async def settle(_app: Any, _revoked: Any, **_: Any) -> None:
        await engine.settle()

    @app.on_before_shutdown.connect  # type: ignore[arg-type]
    async def stop(_app: Any, **_: Any) -> None:
        await _stop(app)


async def _stop(app: App) -> None:
    """Finish what runs and close what is ours; once nothing is open, the process ends whatever does not return."""
    await app.engine.stop()
    _exit_within(_EXIT_SECONDS)
    app.engine.restorer.recovery.close()
    app.reader.stop()
    app.watch.stop()
    app.group.stop()
    app.health.stop()
    app.kafka.stop()
    log.info("stopped: positions are committed")


def _exit_within(seconds: float) -> None:
    """End the process even if clients or Faust's services do not: while Kafka is away they may wait for its answer."""

    def end() -> None:
        _scratch().cleanup()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _end(app: App, error: BaseException) -> None:
    """End the process with one message; the next one goes on from the last commit."""
    if not isinstance(error, ForecartError):
        log.error("the worker failed", exc_info=error)
        error = FaultError(
            f"{type(error).__name__}: {error}", "a restart goes on from the last commit; please report it"
        )
    with app.ending:  # one ends it, though others may meet the same
        error = _within(_EXPLAIN_SECONDS, partial(app.explain, error), error)
        print(f"forecart: {error}", file=sys.stderr, flush=True)
        _within(_ABORT_SECONDS, app.engine.producing.abort_now, None)
        _scratch().cleanup()
        os._exit(error.exit_code)


def _within(seconds: float, call: Callable[[], T], otherwise: T) -> T:
    """Return what a call comes to, or `otherwise`: a call of librdkafka's may never return."""
    found = [otherwise]

    def run() -> None:
        found[0] = call()

    thread = threading.Thread(target=run, name="the last calls", daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0]


def _leave_if_scaled_down(settings: Settings, replica: Replica | None, name: str) -> None:
    """Spare the others the session timeout where no worker of this name will come back."""
    if replica is None or not replica.scaled_down():
        return
    try:
        leave(settings, [name], _LEAVE_SECONDS)
        log.info("scaled down: %s has left group %s", name, settings.group)
    except ForecartError as error:
        log.warning("scaled down, but %s stays a member until its session times out: %s", name, error.message)


def run(settings: Settings) -> None:
    """Work until SIGTERM or Ctrl-C; exits the process."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger().handlers[0].addFilter(is_no_step)
    set_levels(settings.log_level)
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
