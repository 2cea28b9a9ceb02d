"""docs/topics.md is what the code says, and nothing in it lacks a meaning."""

import json
import re
import sys

import msgspec
import pytest

from docs.readers import page
from stream.core.events import Event, Score, decode
from stream.recommend.shop_catalog import Item
from stream.recommend.shop_catalog import decode as decode_item

CHANGES = [
    ("| `quantity` | number or null |", "| `quantity` | number |", "event"),
    ("| `late` | boolean |", "| `belated` | boolean |", "score"),
    ("| `not_utf8` |", "| `no_utf8` |", "reasons"),
    ("| `forecart-reason` |", "| `forecart-why` |", "headers"),
    ('"length": 3', '"length": 4', "score example"),
    ('"isolation.level": "read_committed"', '"isolation.level": "read_uncommitted"', "python"),
    ('"isolation.level", "read_committed"', '"isolation.level", "read_uncommitted"', "java"),
    ("| `recent_time` | uint32[8] | 200 |", "| `recent_time` | uint32[8] | 208 |", "record"),
]


class Longer(Event, frozen=True, gc=False):
    """An event with a field that nobody has explained."""

    colour: str = ""


@pytest.fixture(scope="module")
def made():
    """Make the parts of the page once."""
    return page.blocks()


def _value(name: str) -> bytes:
    """Return the value of an example as it stands in the page."""
    block = re.search(rf"<!-- begin {name} example -->(.*?)```\n<!-- end", page.PAGE.read_text(), re.DOTALL)
    return block[1].split("\nvalue\n")[1].strip().encode()


def test_the_page_is_up_to_date(made):
    """Fail where docs/topics.md is not what docs/readers/page.py would write: run it."""
    assert page.renewed(page.PAGE.read_text(), made)[1] == []


@pytest.mark.parametrize(("old", "new", "part"), CHANGES, ids=[part for *_, part in CHANGES])
def test_a_change_by_hand_is_found_and_undone(made, old, new, part, tmp_path, monkeypatch, capsys):
    """Change one part: --check exits with 1 and names it, a run restores the page."""
    copy, right = tmp_path / "topics.md", page.renewed(page.PAGE.read_text(), made)[0]
    assert right.count(old) == 1
    copy.write_text(right.replace(old, new))
    monkeypatch.setattr(page, "PAGE", copy)
    monkeypatch.setattr(page, "blocks", lambda: made)
    monkeypatch.setattr(sys, "argv", ["page.py", "--check"])
    assert page.main() == 1
    assert capsys.readouterr().out == f"topics.md: {part} out of date\n"
    monkeypatch.setattr(sys, "argv", ["page.py"])
    assert page.main() == 0
    assert copy.read_text() == right


def test_a_field_without_a_meaning_is_refused(monkeypatch):
    """Add a field to the event."""
    monkeypatch.setitem(page.MEANINGS, "Longer", page.MEANINGS["Event"])
    with pytest.raises(LookupError, match=r"says nothing of colour"):
        page.fields(Longer, "Required", page.required)


def test_a_meaning_without_its_field_is_refused(monkeypatch):
    """Keep the meaning of a field that went."""
    monkeypatch.setitem(page.MEANINGS, "Score", page.MEANINGS["Score"] | {"mood": ["", "How the shopper feels."]})
    with pytest.raises(LookupError, match=r"still has mood"):
        page.fields(Score, "Present", page.present)


@pytest.mark.parametrize("table", ["reasons", "headers", "record", "topics", "fields"])
def test_a_name_without_a_meaning_is_refused(table, monkeypatch):
    """Take away the meaning of a reason, a header, a field of the session record, a topic."""
    meanings = dict(page.MEANINGS[table])
    name = next(iter(meanings))
    del meanings[name]
    monkeypatch.setitem(page.MEANINGS, table, meanings)
    with pytest.raises(LookupError, match=rf"says nothing of {name}"):
        page.blocks()


def test_a_part_without_its_place_and_a_place_without_its_part_are_refused():
    """Lose a marker, and invent one."""
    with pytest.raises(LookupError, match="no part score"):
        page.renewed("", {"score": ""})
    with pytest.raises(LookupError, match="nothing makes: mood"):
        page.renewed("<!-- begin mood -->\n<!-- end mood -->", {})


def test_the_examples_are_whole_records():
    """Read them as the worker and a strict reader would."""
    event = decode(_value("event"), 2**53, 1024)
    assert isinstance(event, Event)
    assert set(json.loads(_value("event"))) == set(Event.__struct_fields__)
    score = msgspec.json.decode(_value("score"), type=Score)
    assert set(json.loads(_value("score"))) == set(Score.__struct_fields__) - {"late"}
    assert (score.event_id, score.user_id, score.event_time) == (event.event_id, event.user_id, event.timestamp)
    assert decode(_value("letter"), 2**53, 1024).reason == "wrong_type"


def test_the_example_of_an_item_is_one():
    line = re.search(r"^    (\{\"item_id.*)$", page.PAGE.read_text(), re.MULTILINE)[1]
    item = json.loads(line)
    assert isinstance(decode_item(item.pop("item_id").encode(), json.dumps(item).encode()), tuple)
    assert set(item) == set(Item.__struct_fields__)


def test_only_decimals_may_differ_a_little():
    """Compare as --check does with the example of a score, which another processor may round otherwise."""
    assert page.near("a 0.3278242 1", "a 0.3278243 1")
    assert not page.near("a 0.3278242 1", "a 0.3298242 1")
    assert not page.near("a 0.3278242 1", "a 0.3278242 2")
    assert not page.near("a 0.3278242 1", "b 0.3278242 1")
