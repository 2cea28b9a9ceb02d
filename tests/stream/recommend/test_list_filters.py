"""Rules over lists: no recall is lost, against a walk down the whole order of the catalog."""

import numpy as np
import pytest

from stream.recommend.list_filters import PAGE, Others, Rules, lists

ITEMS, WIDTH, K = 2000, 4, 20


class Catalog:
    """An exact ranking by products that gives a page at a time, as a bundle's graph does."""

    def __init__(self, seed: int) -> None:
        self.dice = np.random.default_rng(seed)
        self.vectors = self.dice.normal(size=(ITEMS, WIDTH)).astype("f4")
        self.calls = 0

    def score(self, query):
        return np.pad(np.exp(query @ self.vectors.T), ((0, 0), (1, 0)))

    def __call__(self, query, gate, recent, allowed, k):
        self.calls += 1
        p = np.where(np.ones(ITEMS + 1, bool) if allowed is None else allowed, self.score(query), -1)
        p[:, 0] = -1
        best = np.argsort(-p, 1, kind="stable")[:, : min(k, PAGE)]
        scores = np.take_along_axis(p, best, 1)
        return scores.clip(0).astype("f4"), np.where(scores < 0, 0, best), np.zeros((len(query), 8), "f4")


def _walk(p, bought, rules, k):
    """Go down the order of all items with one rule after the other, in plain words."""
    listed, count = [], {}
    for item in [*rules.pins.tolist(), *np.argsort(-p, kind="stable").tolist()]:
        kind = int(rules.category[item])
        refused = item == 0 or (rules.allowed is not None and not rules.allowed[item])
        if item in listed or refused or (rules.exclude_bought and item in bought):
            continue
        if rules.cap and kind and count.get(kind, 0) >= rules.cap:
            continue
        listed.append(item)
        count[kind] = count.get(kind, 0) + 1
        if len(listed) == k:
            break
    return listed + [0] * (k - len(listed))


def _case(seed):
    catalog = Catalog(seed)
    dice, kinds = catalog.dice, int(catalog.dice.choice([1, 3, 40, 500]))
    category = dice.integers(0, kinds + 1, ITEMS + 1).astype(np.uint64)
    if seed % 3:  # alike items share a category: the best hundred are of few, and a cap leaves lists short
        alike = np.argmax(catalog.vectors @ dice.normal(size=(WIDTH, kinds)), 1) + 1
        category = np.r_[0, alike].astype(np.uint64)
    allowed = dice.random(ITEMS + 1) < dice.choice([0.004, 0.01, 0.5, 1.0])
    pins = dice.choice(np.flatnonzero(allowed[1:]) + 1, 2, replace=False) if seed % 2 else np.zeros(0, np.int64)
    return catalog, Rules(
        category=category,
        allowed=allowed,
        pins=pins,
        cap=int(dice.integers(0, 4)),
        exclude_bought=bool(dice.integers(2)),
    )


@pytest.mark.parametrize("seed", range(24))
def test_lists_are_what_a_walk_down_the_whole_order_takes(seed):
    catalog, rules = _case(seed)
    query = catalog.dice.normal(size=(6, WIDTH)).astype("f4")
    bought = np.argsort(-catalog.score(query), 1)[:, :8]
    scores, items, _ = lists(catalog, query, query, bought, bought, rules, K)
    for row in range(len(query)):
        p = catalog.score(query[row : row + 1])[0]
        p[0] = -1
        assert items[row].tolist() == _walk(p, bought[row].tolist(), rules, K)
    assert scores.shape == items.shape == (6, K)


def test_twenty_items_of_one_in_a_hundred_are_exact_in_one_look():
    catalog = Catalog(7)
    allowed = np.zeros(ITEMS + 1, bool)
    allowed[catalog.dice.choice(ITEMS, ITEMS // 100, replace=False) + 1] = True
    rules = Rules(category=np.zeros(ITEMS + 1, np.uint64), allowed=allowed)
    query = catalog.dice.normal(size=(5, WIDTH)).astype("f4")
    _, items, _ = lists(catalog, query, query, np.zeros((5, 8), np.int64), np.zeros((5, 8), np.int64), rules, K)
    assert all(sorted(row) == np.flatnonzero(allowed).tolist() for row in items.tolist())
    assert catalog.calls == 1


def test_newcomers_obey_the_catalog_and_keep_their_events_category():
    rules = Rules(
        category=np.zeros(3, np.uint64),
        others=Others.of([11, 10], [5, 0], [False, True], [np.nan, np.nan]),
        categories=np.array([5], np.uint64),
    )
    fit, category = rules.newcomers(np.array([10, 11, 12, 13]), np.array([5, 9, 5, 9], np.uint64))
    assert fit.tolist() == [False, True, True, False]
    assert category.tolist() == [5, 5, 5, 9]


def test_pins_are_in_front_with_their_own_scores_and_once():
    rules = Rules(category=np.zeros(10, np.uint64), pins=np.array([7, 2, 99]))
    scores, items = rules.ahead(np.float32([[0.5, 0.3, 0.1]]), np.array([[2, 4, 99]]))
    assert items.tolist() == [[7, 2, 99, 0, 4, 0]]
    assert scores[0, [0, 1, 2, 4]].tolist() == np.float32([0, 0.5, 0.1, 0.3]).tolist()


def test_rules_without_pins_pin_nothing():
    assert Rules(category=np.zeros(3, np.uint64)).pinned(np.array([[0, 1]])).tolist() == [[-1, -1]]
