"""The command that takes members out of the group."""

import json
import logging
from typing import Annotated

import typer

from stream import settings as configuration
from stream.cli.options import Config, Json, Servers

app = typer.Typer(no_args_is_help=True)


@app.command()
def leave(
    name: Annotated[list[str], typer.Option("--name", help="A worker's name, such as its pod's; may be repeated.")],
    bootstrap_servers: Servers = None,
    group: Annotated[str | None, typer.Option("--group", help="The consumer group.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take workers that will not come back out of the group: the others have their partitions at once.

    Without it they wait for the session timeout. Not for a restart: who comes back in time keeps its partitions. A
    worker that still runs is thrown out, recovers and joins again. Exits with 1 where a name was no member.

    Example: forecart leave --name forecart-3 --name forecart-2 --bootstrap-servers kafka:9092 --group shop
    """
    from stream.kafka.client.admin import reach
    from stream.kafka.group.leave import leave as leave_group

    settings = configuration.load(config, bootstrap_servers=bootstrap_servers, group=group)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say is in the error
    reach(settings)
    found = leave_group(settings, name)
    if as_json:
        print(json.dumps({"group": settings.group, "members": found}))
    else:
        for who, was in found.items():
            print(f"{who} {'has left' if was else 'was no member of'} group {settings.group}")
    if not all(found.values()):
        raise typer.Exit(1)
