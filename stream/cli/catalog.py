"""The command that publishes the shop's catalog."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from stream import settings as configuration
from stream.cli.options import Config, Json, Servers, terminal
from stream.core.errors import DataError, SettingError
from stream.files import source
from stream.formats.plain import raw_lines
from stream.recommend.shop_catalog import BadItem, decode

_EXAMPLE = (
    'write lines such as {"item_id": "item-7", "availability": true, "category": "c-9", "price": 24.9, "pins": 1}'
)
app = typer.Typer(no_args_is_help=True)
catalog = typer.Typer(
    no_args_is_help=True,
    help="Publish what the shop says of its items.\n\nExample: forecart catalog load items.jsonl --topic catalog",
)
app.add_typer(catalog, name="catalog")


@catalog.callback()
def _group() -> None:
    """Hold one command as a group."""


@catalog.command("load")
def load(
    file: Annotated[
        Path, typer.Argument(help="Lines of JSON: item_id, availability, category, price, pins; - reads stdin.")
    ],
    topic: Annotated[str | None, typer.Option(help="Where to; else the setting catalog_topic.")] = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check a file of items and publish it to the catalog's topic; a line with an item_id alone takes the item back.

    Nothing is published where a line is wrong.

    Example: forecart catalog load items.jsonl --topic catalog
    """
    from stream.kafka.catalog import publish

    settings = configuration.load(config, bootstrap_servers=bootstrap_servers, catalog_topic=topic)
    if not settings.catalog_topic:
        raise SettingError("no catalog topic is named", "give --topic, or FORECART_CATALOG_TOPIC")
    console = terminal()
    with console.status(f"reading {file}"):
        records = list(_records(file, settings))
    with console.status(f"publishing {len(records):,} items"):
        published = publish(settings, records)
    print(json.dumps({"published": published}) if as_json else f"{published:,} items published")


def _records(file: Path, settings: configuration.Settings) -> Iterator[tuple[str, bytes | None]]:
    with source(file) as opened:
        for number, line in enumerate(raw_lines(opened), 1):
            if line.strip():
                yield _record(number, line, settings)


def _record(number: int, line: bytes, settings: configuration.Settings) -> tuple[str, bytes | None]:
    try:
        given: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"line {number} is no item: {error}", _EXAMPLE) from error
    name = given.pop("item_id", None)
    if not name or not isinstance(name, str):
        raise DataError(f"line {number} is no item: it has no item_id, which is a string", _EXAMPLE)
    if not given:
        return name, None
    value = msgspec.json.encode(given)
    found = decode(name.encode(), value, settings.max_id_characters, settings.printable_ids)
    if isinstance(found, BadItem):
        detail = found.detail and f" ({found.detail})"
        raise DataError(f"line {number} is no item: {found.reason}{detail}", _EXAMPLE)
    return name, value
