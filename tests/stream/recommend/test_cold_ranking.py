"""Newcomers join the lists at their first event, in order, whatever the chunks; the table stays bounded."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.features import Events
from stream.core.hashing import keyed
from stream.core.manifest import ColdStart, Vocabulary
from stream.core.scoring import Scores
from stream.recommend.cold_items import Table
from stream.recommend.cold_ranking import ByCategory, join, own_newcomers
from stream.recommend.list_filters import Others, Rules
from tests.fakes import HOUR, NOON, events

VOCAB = Vocabulary(["a", "b", "c"], ["x", "y"], [1, 1, 2])
NOVELTY = ColdStart(bias=-1.0, half_life=float(HOUR), limit=40)
VECTORS = np.float32([[0, 0], [1, 0], [0, 1]])
BY = ByCategory(VECTORS, NOVELTY.bias)
PRICED = ByCategory(VECTORS, NOVELTY.bias, np.float32([[0, 0], [0.5, 0], [-0.5, 0.5]]), (10.0,))
Row = tuple[str, str, int] | tuple[str, str, int, float]


def _batch(rows: list[Row]) -> Events:
    """Make events of (item, category, minutes after noon), and a price where one is given."""
    index = VOCAB.place([item for item, *_ in rows])
    batch = events(
        [(n, f"e{n}", NOON + row[2] * 60_000, i) for n, (row, i) in enumerate(zip(rows, index, strict=True))]
    )
    batch.category = np.array([VOCAB.category_index.get(row[1], 0) for row in rows], np.int64)
    batch.price = np.array([row[3] if len(row) > 3 else np.nan for row in rows])
    batch.category_print = VOCAB.category_print[batch.category]
    return batch


def _scores(batch: Events, query: np.ndarray, k: int = 3) -> Scores:
    """Rank the catalog with the query alone: nine tenths of the probability, and one for the last item itself."""
    n = len(batch)
    scores = Scores.empty(n, 1)
    p = np.exp(query @ VECTORS[[1, 1, 2]].T)
    p = 0.9 * p / p.sum(1, keepdims=True)
    known = batch.item <= 3
    p[known, batch.item[known] - 1] += 0.1
    order = np.argsort(-p, axis=1, kind="stable")[:, :k]
    scores.items, scores.item_scores = order + 1, np.take_along_axis(p, order, 1).astype(np.float32)
    own = np.where(np.arange(2) == 0, 0.1, 0.0) * np.ones((n, 1))
    recent = np.stack([batch.item, np.zeros(n, np.int64)], 1)
    scores.answers = {
        "query": query.astype(np.float32),
        "others": np.full(n, 0.9, np.float32),
        "own": own.astype(np.float32),
        "recent": recent,
    }
    return scores


def joined(
    table: Table,
    rows: list[Row],
    k: int = 99,
    chunk: int = 9999,
    by: ByCategory = BY,
    rules=None,
    novelty: ColdStart = NOVELTY,
) -> tuple[list, list]:
    """Return the lists, as (name, score), and the changed names."""
    lists, changed = [], []
    for at in range(0, len(rows), chunk):
        part = rows[at : at + chunk]
        batch = _batch(part)
        query = np.array([[row[1] == "x", row[1] == "y"] for row in part]) * 3.0
        scores = _scores(batch, query)
        wide = np.zeros((len(part), k), np.int64), np.full((len(part), k), -1, np.float32)
        wide[0][:, :3], wide[1][:, :3] = scores.items, scores.item_scores
        scores.items, scores.item_scores = wide
        changed += join(table, batch, scores, [row[0] for row in part], novelty, 3, by, rules)
        for items, values in zip(scores.items.tolist(), scores.item_scores.tolist(), strict=True):
            there = [(i, v) for i, v in zip(items, values, strict=True) if v > 0]
            lists.append([(VOCAB.items[i - 1] if i <= 3 else scores.newcomers[i], v) for i, v in there])
    return lists, changed


ROWS = [("a", "x", 0), ("n1", "x", 1), ("b", "x", 2), ("n2", "y", 3), ("n1", "x", 4), ("a", "y", 5), ("n3", "x", 90)]


def test_an_item_joins_at_its_first_event_and_not_before():
    lists, changed = joined(Table(), ROWS)
    there = [{name for name, _ in row} & {"n1", "n2", "n3"} for row in lists]
    assert there == [set(), {"n1"}, {"n1"}, {"n1", "n2"}, {"n1", "n2"}, {"n1", "n2"}, {"n1", "n2", "n3"}]
    assert changed == ["n1", "n2", "n3"]


def test_the_probabilities_of_all_items_sum_to_one():
    for row in joined(Table(), ROWS)[0]:
        assert sum(p for _, p in row) == pytest.approx(1, abs=1e-5)


def test_the_shares_by_hand():
    """One known item of the category, seen twice: count, vector and bias decide what it gets."""
    table = Table()
    joined(table, [("n1", "x", 0)])
    row = dict(joined(table, [("a", "x", 60)])[0][0])
    log_mass = 3 + math.log(0.5)  # the query's product with the category's vector, a count halved in an hour
    share = 0.9 / (1 + math.exp(-(NOVELTY.bias + log_mass)))
    assert row["n1"] == pytest.approx(share, rel=1e-4)
    known = 0.9 * math.exp(3) / (2 * math.exp(3) + 1)
    assert row["b"] == pytest.approx((1 - share) * known, rel=1e-4)
    assert row["a"] == pytest.approx((1 - share) * (known + 0.1), rel=1e-4)


def test_the_category_s_newcomers_come_first_and_the_more_and_newer_counted_before_the_others():
    rows = [
        ("old", "x", 0),
        ("often", "x", 50),
        ("often", "x", 51),
        ("once", "x", 51),
        ("other", "y", 52),
        ("a", "x", 53),
    ]
    names = [name for name, _ in joined(Table(), rows)[0][-1] if name not in "abc"]
    assert names == ["often", "once", "old", "other"]


def test_a_newcomer_has_what_is_its_own():
    """The event's own item gets the share of the recent items beside that of the ranking."""
    lists, _ = joined(Table(), [("n1", "x", 0), ("n2", "x", 0)])
    row = dict(lists[1])
    assert row["n2"] - row["n1"] == pytest.approx(0.1 * (1 - (row["n1"] + row["n2"] - 0.1) / 0.9), abs=0.01)
    assert row["n2"] > row["n1"]


def test_the_shopper_s_own_newcomers_get_what_a_line_makes_of_their_share():
    """A tenth becomes the share whose logit is on the line; everything else gives it up in proportion."""
    rows: list[Row] = [("a", "x", 0), ("n1", "x", 1)]
    plain = dict(joined(Table(), rows)[0][1])
    line = (0.5, 1.0)
    given = 1 / (1 + math.exp(-(0.5 * math.log(0.1 / 0.9) + 1.0)))
    lined = dict(joined(Table(), rows, novelty=msgspec.structs.replace(NOVELTY, own=line))[0][1])
    assert lined["a"] / plain["a"] == pytest.approx((1 - given) / 0.9, rel=1e-4)
    share = 1 - sum(plain[name] for name in "abc") / 0.9  # what all newcomers have of what is not the event's own
    assert lined["n1"] == pytest.approx(share + given * (1 - share), rel=1e-4)
    assert sum(lined.values()) == pytest.approx(1, abs=1e-5)


def test_the_best_k_are_kept():
    whole, _ = joined(Table(), ROWS)
    short, _ = joined(Table(), ROWS, k=3)
    for row, best in zip(whole, short, strict=True):
        assert [p for _, p in best] == pytest.approx([p for _, p in row][:3], abs=1e-6)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", *(f"n{i}" for i in range(70))]),
            st.sampled_from(["x", "y", ""]),
            st.integers(0, 9),
            st.sampled_from([math.nan, 5.0, 15.0]),
        ),
        min_size=1,
        max_size=120,
    ),
    st.integers(1, 50),
)
def test_chunks_leave_no_trace(rows, chunk):
    """The table and the lists after any chunks are those after one, and the table is bounded."""
    whole, parts = Table(), Table()
    lists, _ = joined(whole, rows, by=PRICED)
    cut, _ = joined(parts, rows, chunk=chunk, by=PRICED)
    assert len(whole) <= NOVELTY.limit * 1.125
    assert whole.names == parts.names
    assert whole.count[: len(whole)].tolist() == parts.count[: len(parts)].tolist()
    assert whole.category[: len(whole)].tolist() == parts.category[: len(parts)].tolist()
    for one, other in zip(lists, cut, strict=True):
        assert dict(one) == pytest.approx(dict(other), rel=1e-4, abs=1e-6)


def test_the_first_price_decides_which_of_a_category_s_newcomers_comes_first():
    """With a query of the category's direction the price whose vector leans that way is ahead, whatever comes later."""
    rows = [("dear", "x", 0, 20.0), ("cheap", "x", 0, 5.0), ("dear", "x", 0, 5.0), ("cheap", "x", 0), ("a", "x", 0)]
    there = dict(joined(Table(), rows, by=PRICED)[0][-1])
    vectors = [VECTORS[1] + PRICED.prices[level] for level in (2, 1)]
    dear, cheap = (math.exp(3 * v[0] / math.hypot(*v)) for v in vectors)
    assert there["dear"] / there["cheap"] == pytest.approx(dear / cheap, rel=1e-4)
    without = dict(joined(Table(), rows)[0][-1])
    assert without["dear"] == pytest.approx(without["cheap"])


def test_a_newcomer_without_a_price_of_its_own_has_the_shops():
    rules = Rules(
        category=np.zeros(4, np.uint64), others=Others.of(keyed(["dear", "cheap"]), [0, 0], [False, False], [20.0, 5.0])
    )
    rows = [("dear", "x", 0), ("cheap", "x", 0), ("a", "x", 0)]
    said, _ = joined(Table(), rows, by=PRICED, rules=rules)
    priced = [(name, kind, at, {"dear": 20.0, "cheap": 5.0}.get(name, math.nan)) for name, kind, at in rows]
    theirs, _ = joined(Table(), priced, by=PRICED)
    assert dict(said[-1]) == pytest.approx(dict(theirs[-1]))
    assert dict(said[-1])["dear"] != pytest.approx(dict(said[-1])["cheap"])


def test_recent_items_whose_indices_are_a_newcomer_s_by_chance_are_not_it():
    table = Table()
    table.see("n1", 7, 0, 0, math.nan, NOON, 1e9, item=11)
    own = np.float32([[0.1, 0.2, 0.3]])
    answers = {"recent": np.array([[7, 7, 2]]), "own": own, "met": np.array([[12, 11, 11]], np.uint64)}
    slots, given = own_newcomers(table, answers, 3)
    assert slots.tolist() == [[-1, 0, -1]]
    assert given.tolist() == np.float32([[0, 0.2, 0]]).tolist()


def test_under_the_index_of_a_pin_no_other_item_is_listed(monkeypatch):
    """The one that events have named joins the table; its score is not the pin's, and neither is its name."""
    monkeypatch.setattr("stream.core.manifest.INDICES", len(VOCAB.items) + 1)
    batch = _batch([("stranger", "x", 0), ("a", "x", 1)])
    pin = VOCAB.place(["pinned"])
    assert pin.tolist() == batch.item[:1].tolist()
    scores = _scores(batch, np.float32([[3, 0], [3, 0]]))
    scores.items = np.concatenate([np.tile(pin, (2, 1)), scores.items], 1)
    scores.item_scores = np.pad(scores.item_scores, ((0, 0), (1, 0)))
    rules = Rules(category=np.zeros(4, np.uint64), pins=pin, names={int(pin[0]): "pinned"})
    scores.newcomers.update(rules.names)
    assert join(Table(), batch, scores, ["stranger", "a"], NOVELTY, 3, BY, rules) == ["stranger"]
    assert scores.newcomers == {**rules.names, int(pin[0]) + 2**32: "stranger"}
    assert scores.items[:, 0].tolist() == [pin[0]] * 2 and scores.item_scores[:, 0].tolist() == [0, 0]
    assert (scores.items == pin[0]).sum() == 2
