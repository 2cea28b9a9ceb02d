"""What strangers' events can do to the lists of others: items that are made up, and ids made to be taken for others."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stream.bundle import onnx
from stream.core import hashing
from stream.core.events import Event
from stream.core.hashing import fingerprints
from stream.mappings import topic_decoder
from stream.recommend.cold_ranking import ByCategory
from stream.recommend.list_filters import USERS
from stream.scoring import configured
from stream.scoring.offline import Line
from stream.scoring.scorer import ChunkResult, Partition
from stream.settings import Settings
from stream.state.sessions import SessionStore
from tests.fakes import NOON
from tests.stream.bundle.test_onnx import DEMO

_DEMO = onnx.load(DEMO)
assert isinstance(_DEMO.weigh, ByCategory)
BUNDLE = replace(_DEMO, weigh=replace(_DEMO.weigh, bias=0.0))  # what may be listed leads lists
KNOWN = BUNDLE.vocabulary.items
STRANGERS = [f"stranger{n}" for n in range(200)]
EVIL = "<script>alert(1)</script>"


class Place:
    """A partition, its shoppers and what they are shown."""

    def __init__(self, *named: str, pins: int = 0, **given: Any) -> None:
        """Make what a worker of these settings makes, with what the catalog says of items."""
        settings = Settings(**given)
        catalog = configured.catalog(settings, BUNDLE)
        for name in named:
            said = {"availability": True, "category": BUNDLE.vocabulary.categories[0], "pins": pins}
            assert catalog.apply(name.encode(), msgspec.json.encode(said)) == ""
        self.scorer = configured.scorer(settings, BUNDLE, "events", catalog.rules if named else None)
        self.part, self.offset = Partition(0, SessionStore(self.scorer.layout)), 0

    def see(self, events: Iterable[tuple[str, str]]) -> list[list[str]]:
        """Score events of (user, item), a second apart; return their lists."""
        lines = []
        for user, item in events:
            self.offset += 1
            time = NOON + 1000 * self.offset
            event = Event(f"e{self.offset}", user, "view", item, time, BUNDLE.vocabulary.categories[0])
            value = msgspec.json.encode(event)
            lines.append(Line(self.offset, time, user.encode(), value))
        scores = []
        for at in range(0, len(lines), 4096):
            work = self.scorer.process(self.part, lines[at : at + 4096], NOON + 10**9)
            assert not work.dead
            scores += work.scores
        return [[r["item_id"] for r in json.loads(m.value)["recommendations"]] for m in scores]

    def listed(self, item: str, users: list[str]) -> int:
        """Count in how many lists an item is, each made for an event of one of the users."""
        return sum(item in found for found in self.see((user, KNOWN[n % 20]) for n, user in enumerate(users)))


def _unmix(x: int) -> int:
    """Turn `hashing._mix` around."""
    for shift, multiplier in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        found = x
        for _ in range(2):
            found = x ^ (found >> shift)
        x = found * pow(multiplier, -1, 2**64) % 2**64
    return x


def double(name: str) -> str:
    """Make a readable id with the fingerprint of `name`: its last eight letters follow from the eight before them."""
    wanted = np.uint64(_unmix((int(fingerprints([name])[0]) - int(hashing._SEED)) % 2**64))
    heads = np.random.default_rng(0).integers(ord("a"), ord("z"), (100_000, 8), np.uint8)
    begun = hashing._mix(np.array([16], "u8") + hashing._SEED)
    tails = wanted ^ (hashing._mix(begun ^ heads.view("<u8")[:, 0]) + hashing._SEED)
    letters = tails.view(np.uint8).reshape(-1, 8)
    row = int(((letters > 32) & (letters < 127)).all(1).argmax())
    made = (heads[row].tobytes() + tails[row].tobytes()).decode()
    assert made.isprintable() and fingerprints([made]) == fingerprints([name])
    return made


@pytest.mark.parametrize("users", [1, 1000])
@pytest.mark.parametrize("there", [False, True])
def test_a_thousand_events_of_an_item_that_was_made_up_put_it_into_nobody_else_s_list(users: int, there: bool):
    place = Place()
    place.see((user, KNOWN[0]) for user in STRANGERS)
    invented = [f"invented{n % users}" for n in range(1000)]
    if there:  # by other items, but not before it
        place.see([("invented0", EVIL), *((user, KNOWN[1]) for user in invented[1:])])
    place.see((user, EVIL) for user in invented)
    assert place.listed(EVIL, STRANGERS) == 0


def test_an_item_is_listed_once_so_many_met_it_who_were_there_before_it():
    place = Place()
    place.see((user, KNOWN[0]) for user in STRANGERS)
    found = []
    for user in STRANGERS[:6]:
        place.see([(user, "new")] * 3)
        found.append(place.listed("new", STRANGERS[100:]) > 0)
    assert found.index(True) in (USERS - 1, USERS)  # two of them may share their bit
    assert all(found[USERS:])


def test_who_met_an_item_is_shown_it_at_once():
    assert [("new" in found) for found in Place().see([("a", KNOWN[0]), ("a", "new"), ("a", "new")])] == [
        *(False, True, True)
    ]


def test_so_many_are_those_of_the_setting():
    place = Place(unseen_users=0)
    place.see([("a", KNOWN[0]), ("a", "new")])
    assert place.listed("new", STRANGERS) > 0
    place = Place(unseen_users=10)
    place.see((user, KNOWN[0]) for user in STRANGERS)
    for user in STRANGERS[:8]:
        place.see([(user, "new")] * 3)
    assert place.listed("new", STRANGERS[100:]) == 0
    place.see((user, "new") for user in STRANGERS[:40])
    assert place.listed("new", STRANGERS[100:]) > 0


def test_a_catalog_that_is_not_all_lets_others_be_listed_too():
    place = Place("new", catalog_topic="items", catalog_only=False)
    place.see((user, KNOWN[0]) for user in STRANGERS)
    place.see((user, "other") for user in STRANGERS[:20])
    assert place.listed("other", STRANGERS[100:]) > 0


def test_with_a_catalog_only_what_it_names_is_listed_and_at_once():
    place = Place("new", catalog_topic="items")
    place.see((user, KNOWN[0]) for user in STRANGERS)
    place.see((user, EVIL) for user in STRANGERS[:50])
    place.see([("a", "new")])
    assert place.listed(EVIL, STRANGERS) == 0
    assert place.listed("new", STRANGERS[100:]) > 0


def test_invented_items_do_not_push_a_real_new_one_out():
    place = Place()
    place.see((user, KNOWN[0]) for user in STRANGERS)
    place.see((user, "new") for user in STRANGERS[:5])
    place.see((f"invented{n}", f"item of mine {n}") for n in range(5120))
    place.see((f"invented{n}", f"item of mine {n}") for n in range(5120))
    assert "new" in place.part.newcomers.names
    assert place.listed("new", STRANGERS[100:]) > 0


def test_an_item_that_is_made_to_be_taken_for_a_pin_is_scored_and_listed_under_no_name_but_its_own():
    place = Place("pinned", pins=1)
    twin = double("pinned")
    place.see((user, KNOWN[0]) for user in STRANGERS)
    found = place.see([("a", twin), ("a", "pinned"), *((user, twin) for user in STRANGERS[:5])])
    assert [row.count("pinned") for row in found] == [1] * 7
    assert place.listed("pinned", STRANGERS) == 200


def test_the_double_of_a_new_item_takes_neither_its_place_nor_its_name():
    place = Place()
    twin = double("new")
    place.see((user, KNOWN[0]) for user in STRANGERS)
    place.see([("mallory", twin)])
    place.see((user, "new") for user in STRANGERS[:5])
    assert place.listed(twin, STRANGERS) == 0
    assert place.listed("new", STRANGERS[100:]) > 0


@pytest.mark.parametrize("names", [("new", double("new")), (double("new"), "new")])
def test_who_met_one_of_two_items_that_share_an_index_is_not_shown_the_other(names: tuple[str, str]):
    place, (first, second) = Place(), names
    place.see([("bob", first)] * 3)
    assert not any(first in found for found in place.see([("mallory", second)] * 3))
    assert not any(second in found for found in place.see([("bob", first)] * 3))


def test_where_the_catalog_names_an_item_its_double_is_not_named():
    place = Place("new", catalog_topic="items")
    twin = double("new")
    place.see((user, KNOWN[0]) for user in STRANGERS)
    place.see((user, twin) for user in STRANGERS[:20])
    assert place.listed(twin, STRANGERS) == place.listed("new", STRANGERS) == 0


def test_the_double_of_an_item_of_the_model_is_not_taken_for_it():
    place = Place()
    twin = double(KNOWN[7])
    place.see((user, KNOWN[0]) for user in STRANGERS)
    assert twin in place.see([("a", twin)])[0]
    ring = place.part.store.get("a")["recent_item"]  # what explanations and other models read
    assert BUNDLE.vocabulary.item_of(ring)[0] == BUNDLE.vocabulary.place([twin])[0] > len(KNOWN)
    assert place.listed(twin, STRANGERS) == 0


ODD = {
    "escape": ("item_id", "a\x1b[2J", "U+001B"),
    "line": ("user_id", "a\nb", "U+000A"),
    "delete": ("item_id", "a\x7f", "U+007F"),
    "right to left": ("event_id", "a\u202eb", "U+202E"),
    "long": ("item_id", "a" * 41, "41 characters"),
}


def _scored(settings: Settings, **ids: str) -> ChunkResult:
    names = {"event_id": "e", "user_id": "u", "type": "view", "item_id": "i"} | ids
    value = msgspec.json.encode(names | {"timestamp": NOON})
    scorer = configured.scorer(settings, BUNDLE, "events")
    return scorer.process(Partition(0, SessionStore(scorer.layout)), [Line(0, NOON, b"u", value)], NOON)


@pytest.mark.parametrize("kind", ODD)
def test_an_id_that_may_not_be_published_is_a_dead_letter_that_says_why(kind: str):
    field, value, why = ODD[kind]
    work = _scored(Settings(max_id_characters=40), **{field: value})
    assert (work.rejected, len(work.scores)) == ({"bad_id": 1}, 0)
    cause = dict(work.dead[0].headers)["forecart-cause"].decode()
    assert field in cause and why in cause
    assert _scored(Settings(), **{field: value}).rejected == ({} if kind == "long" else {"bad_id": 1})
    assert len(_scored(Settings(printable_ids=False), **{field: value}).scores) == 1


@pytest.mark.parametrize("name", ["Müller & Söhne", "商品-1", 'with "quotes" and \\', "a" * 40, "<b>"])
def test_an_id_of_any_script_is_published(name: str):
    assert len(_scored(Settings(max_id_characters=40), item_id=name).scores) == 1


def test_a_bad_id_of_a_shop_s_own_shape_is_a_dead_letter_too(tmp_path: Path):
    columns = "{user: who, item: sku, time: at, type: kind}"
    (tmp_path / "shop.yaml").write_text(f"format: json\ncolumns: {columns}\ntime: {{unit: ms}}\n")
    decoder = topic_decoder(tmp_path / "shop.yaml")
    scorer = configured.scorer(Settings(), BUNDLE, "events", decoder=decoder)
    value = msgspec.json.encode({"who": "u", "sku": "a\x1b[2J", "at": NOON, "kind": "view"})
    work = scorer.process(Partition(0, SessionStore(scorer.layout)), [Line(0, NOON, b"u", value)], NOON)
    assert work.rejected == {"bad_id": 1}
    assert b"U+001B" in dict(work.dead[0].headers)["forecart-cause"]
