"""The command that plans."""

import dataclasses
import json
from typing import Annotated

import typer
from rich.table import Table

from stream.capacity.model import Choices, Plan, plan
from stream.cli.options import Json, terminal

_MIB, _GIB = 2**20, 2**30


def capacity(
    events_per_second: Annotated[float, typer.Option(min=0.001, help="At the peak.")],
    users: Annotated[float, typer.Option(min=1, help="Whose states are kept: all within the ttl.")],
    recommend: Annotated[bool, typer.Option("--recommend/--intent-only", help="With items, or without.")] = False,
    replication: Annotated[int, typer.Option(min=1, help="Copies of each topic.")] = Choices().replication,
    worker_gib: Annotated[float, typer.Option(min=0.5, help="Memory of one worker.")] = Choices().worker_bytes / _GIB,
    recovery_seconds: Annotated[float, typer.Option(min=1, help="A restart may take.")] = Choices().recovery_limit,
    as_json: Json = False,
) -> None:
    """Say how many workers, cores, bytes, partitions and brokers a load needs, and what runs out first.

    The constants are measured (docs/capacity.md), on one machine: measure yours with benchmarks/capacity.py.

    Example: forecart capacity --events-per-second 100000 --users 50000000
    """
    from stream.capacity.constants import COSTS

    choices = Choices(
        recommend=recommend,
        replication=replication,
        worker_bytes=worker_gib * _GIB,
        recovery_limit=recovery_seconds,
    )
    found = plan(events_per_second, users, COSTS, choices)
    if as_json:
        print(json.dumps(dataclasses.asdict(found)))
        return
    table = Table("what", "how much", title=f"{events_per_second:,.0f} events/s of {users:,.0f} users")
    for what, amount in _lines(found):
        table.add_row(what, amount)
    terminal(stderr=False).print(table)


def _lines(found: Plan) -> list[tuple[str, str]]:
    asked = ", ".join(f"{name} {number:,}" for name, number in found.by.items())
    return [
        ("workers", f"{found.workers:,} ({asked})"),
        ("partitions", f"{found.partitions:,}"),
        ("cores of the workers", f"{found.cores:,.1f}"),
        ("memory of a worker", f"{found.worker_bytes / _MIB:,.0f} MiB"),
        ("state, in the changelog", f"{found.state_bytes / _GIB:,.1f} GiB, compacted, one copy"),
        ("changelog records an event", f"{found.changes:.2f}"),
        ("written by the brokers", f"{found.write_bytes / 1e6:,.1f} MB/s, copies included"),
        ("read from the brokers", f"{found.read_bytes / 1e6:,.1f} MB/s, copies included"),
        ("brokers, and their cores", f"{found.brokers:,}, {found.broker_cores:,.1f}"),
        ("a worker started again", f"{found.recovery:,.1f} s"),
        ("a worker lost", f"{found.failover:,.1f} s"),
        ("runs out first", found.first),
        ("then", found.remedy),
    ]
