"""The command that grows the topics of a group."""

import json
from typing import Annotated

import typer
from rich.console import Console

from stream import settings as configuration
from stream.cli.options import Config, Json, Servers, terminal


def grow(
    partitions: Annotated[
        int | None, typer.Option(min=1, help="How many there are to be; else as many as the input has by now.")
    ] = None,
    bootstrap_servers: Servers = None,
    group: Annotated[str | None, typer.Option("--group", help="The consumer group.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would be done, or be refused; change nothing.")] = False,
    leave_unscored: Annotated[
        bool,
        typer.Option(
            help="Go on though records of before the input grew are unscored: their users begin anew where they lie."
        ),
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Grow input and changelog, and move each user's state to the partition that the user's events will be in.

    Stop the workers and pause the producers before; start both anew after, so that producers know the new count.
    Killed, it is run again and goes on. Input that others have grown is given its state likewise. With --dry-run it
    exits with 1 where it would refuse.

    Example: forecart topics grow --partitions 12 --bootstrap-servers kafka:9092 --group shop
    """
    from stream.kafka.growth.grow import grow as grow_topics

    console = terminal()
    settings = configuration.load(config, bootstrap_servers=bootstrap_servers, group=group)
    report = grow_topics(settings, partitions, dry_run=dry_run, leave_unscored=leave_unscored, say=console.print)
    if as_json:
        unscored = {str(n): records for n, records in report.unscored.items()}
        facts = {"before": report.before, "after": report.after, "resumed": report.resumed, "changed": report.changed}
        print(json.dumps({**facts, "users": dict(report.users), "unscored": unscored, "refused": report.refused}))
    else:
        _tell(report, console)
    if report.refused:
        raise typer.Exit(1)


def _tell(report, console: Console) -> None:  # type: ignore[no-untyped-def]
    if not report.changed and report.before == report.after and not report.resumed:
        return print(f"{report.after} partitions, as they are to be: nothing is to be moved")
    users, would = report.users, "" if report.changed else "would "
    print(f"from {report.before} to {report.after} partitions" + (", resumed" if report.resumed else ""))
    print(f"{users['moved']:,} users {would}move, {users['stayed']:,} stay")
    if users["foreign"]:
        print(
            f"{users['foreign']:,} users stay where they are, since their records have another key than the user's id:"
            " they begin anew if their records come to another partition"
        )
    if report.unscored:
        records = ", ".join(f"{n:,} in partition {number}" for number, n in report.unscored.items())
        print(f"not scored yet, and scored by the next workers: {records}")
    if report.changed:
        print("the tables of items that the model does not know stay with their partitions: new ones begin empty")
        print("start the producers anew, or wait for their metadata.max.age.ms, then the workers")
    if report.refused:
        console.print(f"refused now: {report.refused}", style="red")
