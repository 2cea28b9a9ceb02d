"""The commands of serving: worker, broker, topics, replay, capture, score."""

import json
import signal
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from stream import settings as configuration
from stream.cli import capacity, explain, topics
from stream.cli.options import (
    Config,
    Json,
    MappingOption,
    OptionalFormat,
    Servers,
    chosen,
    counted,
    pairs,
    report,
    tell_missing,
    terminal,
)
from stream.core.errors import BrokerError, SettingError

app = typer.Typer(no_args_is_help=True)
console = terminal()

Bundle = Annotated[Path | None, typer.Option("--bundle", help="The model's folder.")]
Group = Annotated[str | None, typer.Option("--group", help="The consumer group.")]


@app.command()
def worker(
    bundle: Bundle = None,
    bootstrap_servers: Servers = None,
    group: Group = None,
    name: Annotated[str | None, typer.Option(help="This worker, unique in its group.")] = None,
    recommend: Annotated[bool | None, typer.Option("--recommend/--intent-only", help="With items, or without.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Of metrics and probes; 0: a free one.")] = None,
    config: Config = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="Any other setting: name=value.")] = None,
) -> None:
    """Score live events until SIGTERM: exactly once, one state a user.

    Every setting can stand in --config, or as FORECART_NAME in the environment (docs/settings.md).

    Example: forecart worker --bundle bundles/taobao --bootstrap-servers kafka:9092 --group shop
    """
    from stream.app import run

    given: dict[str, object] = {"bundle": bundle, "bootstrap_servers": bootstrap_servers, "group": group, "name": name}
    given |= {"recommend": recommend, "metrics_port": metrics_port}
    run(
        configuration.load(
            config, **{**pairs(setting, "chunk_events=1024"), **{k: v for k, v in given.items() if v is not None}}
        )
    )


def _interruption() -> threading.Event:
    """Return what SIGTERM and Ctrl-C set from now on."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@app.command()
def broker(
    data_dir: Annotated[Path | None, typer.Option(help="Where its data lie; without it they go when it stops.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: a free one.")] = 9092,
) -> None:
    """Run a single-node Apache Kafka here, for development, until Ctrl-C or SIGTERM. Its address is printed.

    Example: forecart broker --data-dir ~/kafka
    """
    from stream.kafka.embedded_broker import Broker

    stop = _interruption()
    with Broker(data_dir, port, say=console.print) as running:
        print(running.address, flush=True)
        console.print(f"Kafka answers on {running.address}, its data are in {running.data}; Ctrl-C stops it")
        while not stop.wait(1.0):
            if not running.alive():
                raise BrokerError("Kafka stopped by itself", f"see {running.log()}")


topics_app = typer.Typer(
    no_args_is_help=True, help="Show, create and grow the topics that Forecart needs.\n\nExample: forecart topics plan"
)
app.add_typer(topics_app, name="topics")
Partitions = Annotated[int | None, typer.Option(min=1, help="Of a new input; else the input's own.")]
Replication = Annotated[int | None, typer.Option(min=1, help="Copies; else 3, or one a broker if there are fewer.")]


@topics_app.command("plan")
def topics_plan(
    bootstrap_servers: Servers = None,
    group: Group = None,
    partitions: Partitions = None,
    replication: Replication = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show what is missing and what is wrong; change nothing. Exits with 1 where `apply` has work or would refuse.

    Example: forecart topics plan --bootstrap-servers kafka:9092 --group shop
    """
    from stream.kafka.topics.admin import plan

    found = plan(configuration.load(config, bootstrap_servers=bootstrap_servers, group=group), partitions, replication)
    _show(found, as_json, "missing")
    if found.missing or found.wrong:
        raise typer.Exit(1)


@topics_app.command("apply")
def topics_apply(
    bootstrap_servers: Servers = None,
    group: Group = None,
    partitions: Partitions = None,
    replication: Replication = None,
    acls: Annotated[
        str | None, typer.Option(help="Whom to allow what a worker needs, and no more: User:NAME.", metavar="PRINCIPAL")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Create what is missing; refuse, with the fix, where a topic stands wrongly. With --acls grant a worker's rights.

    Example: forecart topics apply --partitions 12
    """
    from stream.kafka.topics.admin import apply

    settings = configuration.load(config, bootstrap_servers=bootstrap_servers, group=group)
    found = apply(settings, partitions, replication, acls)
    _show(found, as_json, "created")


def _show(found, as_json: bool, verb: str) -> None:  # type: ignore[no-untyped-def]
    rows = [(topic, verb) for topic in found.missing] + [(topic, "present") for topic in found.present]
    if as_json:
        listed = [{"name": t.name, "role": t.role, "partitions": t.partitions, "state": state} for t, state in rows]
        granted = [str(right) for right in found.granted]
        print(json.dumps({"topics": listed, "wrong": found.wrong, "advice": found.advice, "granted": granted}))
        return
    table = Table("topic", "role", "partitions", "copies", "settings", "state")
    for column in table.columns:
        column.overflow = "fold"
    for topic, state in rows:
        settings = "\n".join(f"{name}={value}" for name, value in topic.config.items())
        table.add_row(topic.name, topic.role, str(topic.partitions), str(topic.replication), settings, state)
    terminal(stderr=False).print(table)
    for fault in found.wrong:
        console.print(f"wrong: {fault}", style="red")
    for advice in found.advice:
        console.print(f"better: {advice}", style="yellow")
    for right in found.granted:
        console.print(f"granted: {right}, {right.why}")


@app.command()
def replay(
    data: Annotated[Path, typer.Option("--data", help="The log, gzipped or not; - reads stdin.")],
    form: OptionalFormat = "",
    mapping: MappingOption = None,
    topic: Annotated[str | None, typer.Option(help="Where to; else the input topic of the settings.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events a second.")] = None,
    speed: Annotated[float | None, typer.Option(min=0.001, help="Times the log's own pace.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Publish a log to a topic, keyed by user and partitioned as Java does; without pace as fast as it goes.

    Example: forecart replay --format taobao --data events.csv.gz --rate 500
    """
    from stream.kafka.replay import replay as publish

    settings = configuration.load(config, bootstrap_servers=bootstrap_servers)
    if rate and speed:
        raise SettingError("--rate and --speed contradict each other", "give one of them")
    source = chosen(form, mapping)
    stopped, target = _interruption().is_set, topic or settings.events_topic
    with counted("events published", console) as heard:
        published, bad = publish(settings, source, data, target, rate, speed, limit, stopped, heard)
    report(bad, console)
    tell_missing(source, console)
    line = {"published": published, "left_out": dict(bad.count)}
    print(json.dumps(line) if as_json else f"{published:,} events published, {sum(bad.count.values()):,} rows left out")


@app.command()
def capture(
    topic: Annotated[str, typer.Option(help="Which topic.")],
    out: Annotated[Path, typer.Option(help="The file to write; .gz compresses; - writes to stdout.")],
    envelope: Annotated[
        bool, typer.Option(help="Write partition, offset, timestamp, key, headers and value; else the values alone.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    follow: Annotated[bool, typer.Option(help="Go on at the end, until Ctrl-C.")] = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
) -> None:
    """Write a topic's committed records to a file of JSON lines, from its beginning to its end of now.

    Captured events can be replayed and scored as --format events.

    Example: forecart capture --topic scores --out scores.jsonl.gz
    """
    from stream.kafka.replay import capture as write

    settings = configuration.load(config, bootstrap_servers=bootstrap_servers)
    with counted("records written", console) if str(out) != "-" else nullcontext(lambda _: None) as heard:
        written, skipped = write(settings, topic, out, envelope, limit, follow, heard)
    note = f", {skipped:,} left out that are no line of text (--envelope writes them)" if skipped else ""
    console.print(f"{written:,} records written{note}")


@app.command()
def settings(
    config: Config = None,
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option(help="The reference: names, defaults and meanings.")] = False,
) -> None:
    """Show every setting with its value of now, by file and environment.

    Example: FORECART_GROUP=shop forecart settings
    """
    fields = configuration.Settings.model_fields
    if markdown:
        print("| setting | environment | default | meaning |\n| --- | --- | --- | --- |")
        for name, field in fields.items():
            default = "" if field.default in (None, "") else f"`{field.default}`"
            print(f"| `{name}` | `{configuration.PREFIX}{name.upper()}` | {default} | {field.description} |")
        return
    found = configuration.load(config).model_dump(mode="json")
    if as_json:
        print(json.dumps(found))
        return
    table = Table("setting", "value", "meaning")
    for name, field in fields.items():
        table.add_row(name, str(found[name]), field.description)
    terminal(stderr=False).print(table)


@app.command()
def score(
    bundle: Annotated[Path, typer.Option("--bundle", help="The model's folder.")],
    form: OptionalFormat = "",
    mapping: MappingOption = None,
    data: Annotated[Path, typer.Option("--data", help="The log; else stdin.")] = Path("-"),
    dead_letters: Annotated[Path | None, typer.Option(help="Where to write what could not be scored.")] = None,
    recommend: Annotated[bool | None, typer.Option("--recommend/--intent-only", help="With items, or without.")] = None,
) -> None:
    """Score a log without Kafka, by the worker's own code and settings: scores to stdout as JSON lines.

    The shop's catalog, which is a topic, is not read: every item of the bundle is there.

    Example: forecart score --bundle bundles/taobao --format taobao < events.csv > scores.jsonl
    """
    from stream.scoring.offline import score_log

    settings = configuration.load(recommend=recommend)
    source = chosen(form, mapping or (None if form else settings.mapping), "events")
    counts, bad = score_log(settings, bundle, source, data, dead_letters)
    sys.stdout.flush()
    report(bad, console)
    tell_missing(source, console)
    console.print(", ".join(f"{n:,} {name}" for name, n in counts.items()) or "no events")


topics_app.command("grow")(topics.grow)
app.command()(explain.explain)
app.command()(capacity.capacity)
