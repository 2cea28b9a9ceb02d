"""Mappings proposed from a log's rows."""

from datetime import datetime
from typing import Any

import msgspec
import pytest

from stream.formats.instants import Instants
from stream.formats.mapping import Mapping
from stream.formats.proposal import flat, propose, written

NOON = 1_772_625_600_000


def rows(**columns: list[Any]) -> list[dict[str, object]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_a_shops_table_is_recognised():
    found = propose(
        rows(
            user=["u1", "u2", "u1", "u1"],
            timestamp=["2026-03-04T12:00:00Z", "2026-03-04T12:00:01Z", "2026-03-04T12:00:02+01:00", "2026-03-05 10:00"],
            event=["page_view", "add_to_cart", "purchase", "remove_from_cart"],
            product_id=["p1", "p2", "p1", "p1"],
            price=["9.99", "", "EUR 5", "9,99"],
            category=["c", "c", "", "d"],
        )
    )
    expected = {"user": "user", "item": "product_id", "time": "timestamp", "type": "event", "category": "category"}
    assert found.columns == expected | {"price": "price"} and found.time == {"format": "iso"}
    assert found.types == {"view": ["page_view"], "cart": ["add_to_cart"], "purchase": ["purchase"]}
    assert not found.doubts and found.met["remove_from_cart"] == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("customer.id product.sku occurred_at kind id", "customer.id product.sku occurred_at kind id"),
        ("visitorid itemid timestamp event transactionid", "visitorid itemid timestamp event"),
        ("CustomerID StockCode InvoiceDate action InvoiceNo", "CustomerID StockCode InvoiceDate action"),
        ("userId productId eventTime eventType eventId", "userId productId eventTime eventType eventId"),
        ("customer.uuid product.code at action.name uuid", "customer.uuid product.code at action.name uuid"),
        ("client_id article_id ts event_name message_id", "client_id article_id ts event_name message_id"),
    ],
)
def test_columns_are_known_by_many_names(names: str, expected: str):
    user, item, time, type_, other = names.split()
    found = propose(rows(**{user: [7, 8, 7], item: [1, 2, 2], time: [NOON] * 3, type_: ["view"] * 3, other: [1, 2, 3]}))
    wanted = dict(zip(("user", "item", "time", "type", "event_id"), expected.split(), strict=False))
    assert {what: found.columns.get(what) for what in wanted} == wanted
    assert found.time == {"unit": "ms"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([NOON // 1000, NOON / 1000], {"unit": "s"}),
        ([f"{NOON}000"] * 2, {"unit": "us"}),
        ([NOON * 1_000_000] * 2, {"unit": "ns"}),
        ([datetime(2026, 3, 4)] * 2, {"format": "iso"}),
        (["04.03.2026 12:00", "31.12.2026 12:00"], {"format": "%d.%m.%Y %H:%M"}),
        (["12/31/2026 08:26", "01/02/2026 08:26"], {"format": "%m/%d/%Y %H:%M"}),
    ],
)
def test_times_are_recognised(values: list[Any], expected: dict[str, str]):
    assert propose(rows(user=["a", "b"], item=["a", "b"], time=values)).time == expected


def test_what_is_not_certain_is_said():
    found = propose(rows(user=["a"] * 3, item=["a", "b", "c"], time=["03/04/2026"] * 3, event=["look", "look", "got"]))
    assert any("%m/%d/%Y or %d/%m/%Y" in doubt for doubt in found.doubts)
    assert any("look 2, got 1" in doubt for doubt in found.doubts)
    without = propose(rows(user=["a", "b"], item=["a", "b"], time=[NOON] * 2)).doubts
    assert len(without) == 1 and without[0].startswith("no column looks like the type")
    assert any("no column looks like the user" in doubt for doubt in propose(rows(x=["a"], item=["b"])).doubts)


def test_what_is_proposed_is_a_mapping():
    found = propose(rows(user=["a", "b"], item=["a", "b"], time=[NOON] * 2, event=["1", "yes"]))
    text = written("json", found, "shop.jsonl", 2)
    assert msgspec.yaml.decode(text, type=Mapping).columns.type == "event"
    found = propose(rows(**{'the "user"': ["a", "b"], "item no.": ["a", "b"], "at": [NOON] * 2}))
    mapping = msgspec.yaml.decode(written("csv", found, "shop.csv", 2), type=Mapping)
    assert (mapping.columns.user, mapping.columns.item, mapping.types) == ('the "user"', "item no.", "view")
    found = propose(rows(user=["a", "b"], item=["a", "b"], time=[NOON] * 2, event=["buy", "pay: now"]))
    found.types["purchase"] += ["pay: now"]
    assert msgspec.yaml.decode(written("csv", found, "x", 2), type=Mapping).types == {"purchase": ["buy", "pay: now"]}


def test_a_terminals_controls_are_escaped_in_what_is_proposed():
    evil = "\x1b]0;x\x07\u202e\n\u2028\U000e0001"
    found = propose(rows(**{"user" + evil: ["a", "b"]}, item=["a", "b"], time=[NOON] * 2, event=["view" + evil, "buy"]))
    found.doubts.append(evil)
    text = written("csv", found, "shop" + evil, 2)
    assert all(c.isprintable() for line in text.split("\n") for c in line)
    mapping = msgspec.yaml.decode(text, type=Mapping)
    assert mapping.columns.user == "user" + evil and mapping.types == {"view": "view" + evil, "purchase": "buy"}


@pytest.mark.parametrize(
    ("time", "form"), [("20191001", "%Y%m%d"), (20191001000234, "%Y%m%d%H%M%S"), ("201910010002", "%Y%m%d%H%M")]
)
def test_times_without_signs_are_recognised_and_read(time: Any, form: str):
    assert propose(rows(user=["a", "b"], item=["a", "b"], time=[time] * 2)).time == {"format": form}
    assert Instants(form).one(time) // 86_400_000 == 18_170


def test_nested_records_have_paths():
    assert flat({"a": {"b": {"c": 1}, "d": None}, "e": [1]}) == {"a.b.c": 1, "a.d": None, "e": [1]}
