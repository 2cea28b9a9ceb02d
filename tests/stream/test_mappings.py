"""Logs and topics by a mapping."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.core.errors import DataError, SettingError
from stream.core.events import Event
from stream.formats.registry import BadRow, BadRows, strict
from stream.kafka.group.rollout import Member, intruded_on
from stream.mappings import decoder_of, load, read_log, served, topic_decoder

SHOP = """
format: csv
columns: {user: user, item: product_id, time: timestamp, type: event, category: category, price: price}
time: {format: iso, zone: Europe/Berlin}
types: {view: page_view, cart: add_to_cart, purchase: purchase}
"""
HEAD = "user,timestamp,event,product_id,price,category\n"
LOG = "8f3f68c5"  # of the file's name
NOON = 1_772_625_600_000


def read(folder: Path, mapping: str, log: str | bytes) -> tuple[list[Event], BadRows, Any]:
    (folder / "shop.yaml").write_text(mapping)
    (folder / "log").write_bytes(log.encode() if isinstance(log, str) else log)
    form, bad, events = load(folder / "shop.yaml"), BadRows(), list[Event]()
    for row in read_log(folder / "log", form):
        if isinstance(row, BadRow):
            bad.add(row)
        else:
            events.append(row)
    return events, bad, form


def test_a_table_is_read_by_its_columns(tmp_path: Path):
    log = HEAD + 'u1,2026-03-04T13:00:00,page_view,p1,9.99,c\nu1,2026-03-04 12:01:00Z,purchase,p1,"1,299.00",\n'
    events, bad, form = read(tmp_path, SHOP, log)
    assert events == [
        Event(f"csv-{LOG}-2", "u1", "view", "p1", NOON, "c", 9.99),
        Event(f"csv-{LOG}-3", "u1", "transaction", "p1", NOON + 60_000, None, 1299.0),
    ]
    assert not bad and form.met == {"page_view": 1, "purchase": 1}


def test_events_of_two_files_have_ids_of_their_own(tmp_path: Path):
    (tmp_path / "shop.yaml").write_text(SHOP)
    form, ids = load(tmp_path / "shop.yaml"), list[str]()
    for day in ("monday.csv", "tuesday.csv", "monday.csv"):
        (tmp_path / day).write_text(HEAD + "u1,2026-03-04T13:00:00,page_view,p1,9.99,c\n")
        ids += [row.event_id for row in read_log(tmp_path / day, form) if isinstance(row, Event)]
    assert ids[0] != ids[1] and ids[0] == ids[2]


def test_tabs_quotes_and_encodings_are_read_as_of_other_tables(tmp_path: Path):
    log = HEAD + 'ü,2026-03-04T13:00:00,page_view,"p1",,c\n'
    for raw in (log.replace(",", "\t").encode("utf-16"), log.replace(",", ";").encode("cp1252")):
        events, _, _ = read(tmp_path, SHOP.replace("csv", "tsv"), raw)
        assert events == [Event(f"tsv-{LOG}-2", "ü", "view", "p1", NOON, "c")]


def test_json_lines_are_read_by_their_paths(tmp_path: Path):
    mapping = "format: json\ncolumns: {user: customer.id, item: sku, time: at, type: kind}\ntime: {unit: s}\n"
    lines = [{"customer": {"id": 7}, "sku": "a", "at": NOON // 1000, "kind": "view"}, {"sku": "a"}]
    events, bad, _ = read(tmp_path, mapping, "\n".join(map(json.dumps, lines)))
    assert events == [Event(f"json-{LOG}-1", "7", "view", "a", NOON)]
    assert bad.count == {"missing_field": 1}


def test_what_cannot_be_read_is_told(tmp_path: Path):
    rows = [
        "u1,,page_view,p1,,",
        "u1,noon,page_view,p1,,",
        "u1,2026-03-04,page_view,p1,cheap,",
        "u1,2026-03-04,view,p1,,",
    ]
    events, bad, _ = read(tmp_path, SHOP, HEAD + "\n".join(rows))
    assert len(events) == 1 and events[0].price is None
    assert bad.count == {"missing_field": 1, "wrong_type": 1, "unknown_type": 1} and bad.values == {"price": 1}
    assert "no timestamp" in bad.first["missing_field"].hint and "noon" in bad.first["wrong_type"].hint


def test_a_column_that_is_not_there_is_told_with_the_nearest(tmp_path: Path):
    with pytest.raises(DataError, match=re.escape("product_id (is it product?)")) as caught:
        read(tmp_path, SHOP, HEAD.replace("product_id", "product"))
    assert caught.value.remedy.startswith("shop.yaml means: a table with user (user), product_id (item)")


def test_a_path_that_is_not_there_is_told_with_the_nearest(tmp_path: Path):
    mapping = "format: json\ncolumns: {user: customer.uid, item: sku, time: at, type: kind}\ntime: {unit: s}\n"
    line = {"customer": {"id": 7}, "sku": "a", "at": NOON // 1000, "kind": "view"}
    with pytest.raises(DataError, match=re.escape("no customer.uid: is it customer.id?")):
        read(tmp_path, mapping, (json.dumps(line) + "\n") * 200)


def test_a_type_that_is_not_there_is_told_with_those_that_were_met(tmp_path: Path):
    log = HEAD + "u1,2026-03-04,page_view,p1,,\n" * 3 + "u1,2026-03-04,purchased,p1,,\n"
    _, _, form = read(tmp_path, SHOP, log)
    (said,) = form.missing()
    assert "'purchase' (is it 'purchased'?)" in said and "'add_to_cart'" in said
    assert said.endswith("the log has page_view 3, purchased 1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format: [", "is no mapping"),
        ("format: csv", "columns"),
        (SHOP.replace("Europe/Berlin", "Europe/Atlantis"), "Atlantis"),
        (SHOP.replace("user: user", "usr: user"), "`usr`.*: is it user"),
        (SHOP + "tyme: {}", "`tyme`.*: is it .*time"),
        (SHOP.replace("purchase: purchase", "purchase: purchase, view: look"), "view is given twice"),
        (SHOP + "format: tsv", "format is given twice, in lines 2 and 6"),
        (SHOP.replace("view: page_view", "views: page_view"), "'views': write view"),
        (SHOP.replace("purchase: purchase", "purchase: page_view"), "two meanings"),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, said: str):
    (tmp_path / "shop.yaml").write_text(text)
    with pytest.raises(SettingError, match=said):
        load(tmp_path / "shop.yaml")
    with pytest.raises(SettingError, match="cannot be read"):
        load(tmp_path / "none.yaml")


def test_two_mappings_of_one_bundle_are_told_apart(tmp_path: Path):
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    first = Member("w0", "", served("aa", path))
    path.write_text("# the same\n" + SHOP)
    assert served("aa", path) == first.model and served("aa", None) == "aa"
    path.write_text(SHOP.replace("purchase: purchase", "purchase: order"))
    other = Member("w1", "", served("aa", path))
    assert Member.of("w0", first.client_id) == first and intruded_on(other, [first]) == [first]


def test_a_topic_needs_a_mapping_of_json(tmp_path: Path):
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    with pytest.raises(SettingError, match="describes csv"):
        topic_decoder(path)
    path.write_text(SHOP.replace("csv", "json"))
    assert topic_decoder(path) and topic_decoder(None) is None and decoder_of("events") is None


def test_what_a_mapping_describes_is_what_is_read(tmp_path: Path):
    """A mapping whose names are ours reads what the format `events` does."""
    names = ("event_id", "user_id", "item_id", "type", "timestamp", "category_id", "price", "quantity", "session_id")
    keys = ("event_id", "user", "item", "type", "time", "category", "price", "quantity", "session")
    mapping = "format: json\ntime: {unit: ms}\ncolumns:\n" + "".join(
        f"  {k}: {n}\n" for k, n in zip(keys, names, strict=True)
    )
    event = Event("e", "u", "view", "i", NOON, "c", 1.5, 2.0, "s")
    events, _, _ = read(tmp_path, mapping, msgspec.json.encode(event))
    assert events == [event]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_strict_format_leaves_out_ids_that_are_not_published(tmp_path: Path, kind: str):
    columns = "columns: {user: u, item: i, time: t, type: k}\ntime: {unit: ms}\n"
    (tmp_path / "shop.yaml").write_text(f"format: {kind}\n{columns}")
    (tmp_path / "log").write_text(f"u,i,t,k\na,p\x1b[2J,{NOON},view\nb,p,{NOON},view\n")
    form = load(tmp_path / "shop.yaml")
    values = {"u": ["a", "b"], "i": ["p\x1b[2J", "p"], "t": [NOON, NOON], "k": ["view", "view"]}
    table = list(zip(*(values[path[0]] for path in form.mapping.paths.values()), strict=True))
    for held, found in ((form, ["p\x1b[2J", "p"]), (strict(form), ["p"])):
        rows = list(read_log(tmp_path / "log", held) if kind == "csv" else held.events(table))
        assert [row.item_id for row in rows if isinstance(row, Event)] == found
        assert all((row.line, row.reason) == (1 + (kind == "csv"), "bad_id") for row in rows if isinstance(row, BadRow))
