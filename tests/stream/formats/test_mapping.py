"""Mappings: what they may say."""

import msgspec
import pytest

from stream.formats.mapping import Mapping, Types, counted, nearest

COLUMNS = {"user": "u", "item": "i", "time": "t", "type": "e"}
TYPES = {"view": ["page_view", "view"], "cart": "add_to_cart", "purchase": "buy", "favourite": "wish"}


def mapping(**given: object) -> Mapping:
    return msgspec.convert({"format": "json", "columns": COLUMNS, "types": TYPES, **given}, Mapping)


def test_types_have_the_names_of_a_model():
    types = Types(mapping())
    names = ["page_view", "view", "add_to_cart", "buy", "wish", "search"]
    assert [types.of(name) for name in names] == ["view", "view", "addtocart", "transaction", "favourite", "search"]


def test_a_name_that_has_another_meaning_is_no_type_itself():
    types = Types(mapping())
    assert types.of("transaction") is None
    model = ("view", "addtocart", "transaction", "favourite", "search")
    table = {"page_view": 0, "view": 0, "add_to_cart": 1, "buy": 2, "wish": 3, "search": 4}
    assert types.table(model) == table


def test_a_model_of_before_a_type_knows_nothing_of_it():
    assert Types(mapping()).table(("view", "transaction")) == {"page_view": 0, "view": 0, "buy": 1}


@pytest.mark.parametrize(
    "given",
    [
        {"format": "xml"},
        {"columns": {**COLUMNS, "prize": "p"}},
        {"columns": {name: COLUMNS[name] for name in ("user", "item", "type")}},
        {"columns": {name: COLUMNS[name] for name in ("user", "item", "time")}},
        {"types": "purchase"},
        {"types": {"view": "a", "cart": "a"}},
        {"time": {"unit": "h"}},
        {"time": {"unit": "s", "format": "iso"}},
        {"time": {"format": "dd.mm.yyyy"}},
        {"columns": {**COLUMNS, "item": "u.id"}},
        {"more": 1},
    ],
)
def test_what_is_no_mapping_is_refused(given: dict[str, object]):
    with pytest.raises(msgspec.ValidationError):
        mapping(**given)


def test_names_that_are_not_there_are_told_with_the_nearest():
    assert Types(mapping()).lost(["page_view", "buy"]) == {
        "addtocart": ["add_to_cart"],
        "favourite": ["wish"],
        "view": ["view"],
    }
    assert nearest("purchases", ["purchase", "page_view"]) == ["purchase"]
    assert nearest("zzz", ["purchase"]) == []
    assert counted({"a": 1, "b": 2_000}, most=1) == "b 2,000 and 1 more"
