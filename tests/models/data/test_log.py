"""Logs as arrays: sorted, split, labelled from what comes after."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.log import LEVELS, cutoff, gather, labels, load, price_levels, sessions_of, vocabulary
from models.training.checkpoint import Run
from models.training.config import TrainConfig
from stream.core.errors import DataError
from stream.core.events import Event
from stream.core.manifest import TaskSpec
from stream.formats.registry import BadRow
from tests.fakes import HOUR, MINUTE, NOON

MEANING = TaskSpec(horizons=("1h", "session"))


def _log(rows, timed=True):
    """Make a log from (user, minute, type, item)."""
    return gather(
        (Event(f"e{n}", u, kind, item, NOON + m * MINUTE) for n, (u, m, kind, item) in enumerate(rows)), timed
    )


def test_events_are_sorted_by_shopper_and_time_and_ties_keep_their_order():
    log = _log([("b", 5, "view", "1"), ("a", 9, "view", "2"), ("b", 2, "view", "3"), ("b", 5, "view", "4")])
    assert [log.users[u] for u in log.user] == ["b", "b", "b", "a"]
    assert [log.items[i] for i in log.item] == ["3", "1", "4", "2"]
    assert log.starts.tolist() == [True, False, False, True]


def test_bad_rows_are_counted():
    log = gather([BadRow(1, "empty", ""), Event("e", "u", "view", "i", NOON)], timed=True)
    assert dict(log.bad.count) == {"empty": 1}
    assert len(log) == 1


def test_a_log_without_events_is_an_error():
    with pytest.raises(DataError, match="no events"):
        gather([], timed=True)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "none", "events")


def test_the_tail_is_the_latest_part():
    log = _log([("u", m, "view", "i") for m in range(100)])
    assert (log.time >= cutoff(log, 0.05)).sum() == 5
    sessions = _log([(f"s{n}", n, "view", "i") for n in range(40) for _ in range(1 + n % 3)], timed=False)
    assert len(np.unique(sessions.user[sessions.time >= cutoff(sessions, 0.05)])) == 2
    with pytest.raises(DataError, match="no part"):
        cutoff(log, 1.0)


def test_the_vocabulary_takes_the_last_category_of_an_item():
    rows = [
        Event("1", "u", "view", "i", NOON, "old"),
        Event("2", "u", "view", "i", NOON + 1, "new"),
        Event("3", "u", "view", "j", NOON + 2),
    ]
    vocab = vocabulary(gather(rows, timed=True))
    assert vocab.items == ["i", "j"]
    assert [vocab.categories[c - 1] if c else None for c in vocab.category_of[1:]] == ["new", None]


rows = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.integers(0, 200), st.sampled_from(["view", "transaction"]), st.sampled_from("12")
    ),
    min_size=1,
    max_size=25,
)


@given(rows)
def test_labels_agree_with_a_search(rows):
    log = _log(rows)
    end = int(log.time.max())
    label, known = labels(log, MEANING, end)
    session = sessions_of(log, MEANING.gap)
    for i in range(len(log)):
        later = [j for j in range(i + 1, len(log)) if log.user[j] == log.user[i] and log.type[j] == 2]
        within = any(log.time[j] - log.time[i] <= HOUR for j in later)
        assert label[i, 0] == within
        assert known[i, 0] == (log.time[i] + HOUR <= end)
        same = any(session[j] == session[i] for j in later)
        last = max(j for j in range(len(log)) if session[j] == session[i])
        assert label[i, 1] == same
        bought = any(log.type[j] == 2 and session[j] == session[i] for j in range(i + 1))
        assert known[i, 1] == (log.time[last] + MEANING.gap < end and not bought)


def test_whether_a_label_is_known_does_not_tell_what_it_is():
    """Hold the trap: purchases near the end of the log count no more than what is not bought."""
    log = _log([("u", m, kind, "1") for m, kind in [(0, "view"), (50, "view"), (55, "transaction"), (60, "view")]])
    label, known = labels(log, MEANING, NOON + 70 * MINUTE)
    assert label[:, 0].tolist() == [True, True, False, False]
    assert known[:, 0].tolist() == [True, False, False, False]


def test_a_log_without_purchases_has_no_positives():
    log = _log([("u", 0, "view", "1"), ("u", 300, "view", "1")])
    label, known = labels(log, MEANING, int(log.time.max()))
    assert not label.any()
    assert known[:, 0].tolist() == [True, False]


def test_price_levels_are_of_the_items_that_are_there_with_as_many_each():
    rows = [Event(f"e{n}", "u", "view", f"i{n}", NOON + n, price=float(n) if n % 2 else None) for n in range(64)]
    rows.append(Event("again", "u", "view", "i1", NOON + 99, price=1e9))
    log = gather(rows, timed=True)
    levels, edges = price_levels(log.known_prices[np.unique(log.item)])
    assert levels[0::2] == [0] * 32  # no price
    assert np.bincount(levels[1::2])[1:].tolist() == [2] * LEVELS
    assert levels[1] == 1  # by its first price
    few = log.where(log.item < 4)
    assert edges == sorted(edges) and len(edges) == LEVELS - 1
    assert len(price_levels(few.known_prices[np.unique(few.item)])[0]) == len(vocabulary(few).items) == 4
    assert price_levels(log.known_prices[np.unique(log.item[log.item % 2 == 0])]) == ([], [])


def test_two_logs_of_the_same_types_train_models_of_one_order():
    """Session records hold a type's place: a new model must mean the same by it."""
    for kinds in (["fav", "view", "zip"], ["zip", "transaction", "fav"]):
        log = _log([("u", n, kind, "1") for n, kind in enumerate(kinds)])
        assert Run.over(log, TrainConfig(), MEANING).meaning.types == ("view", "addtocart", "transaction", "fav", "zip")


def test_a_price_is_known_from_its_event_on():
    """The earliest is the item's, wherever it stands in the file; what comes after a cut gives no level before it."""
    rows = [Event("c", "u", "view", "x", NOON + 9, price=3.0), Event("a", "u", "view", "x", NOON)]
    rows += [Event("b", "v", "view", "x", NOON + 5, price=2.0), Event("d", "v", "view", "y", NOON + 1, price=7.0)]
    log = gather(rows, timed=True)
    x, y = log.items.index("x"), log.items.index("y")
    item, time = np.array([x, x, x, y]), NOON + np.array([0, 5, 9, 0])
    assert log.price_at(item, time) == pytest.approx([np.nan, 2, 2, np.nan], nan_ok=True)
    seen = Run.over(log.where(log.time < NOON + 5), TrainConfig(), MEANING)
    assert [(name, level > 0) for name, level in zip(seen.items, seen.price_level, strict=True)] == [
        ("x", False),
        ("y", True),
    ]


def test_the_synthetic_shop_has_no_prices(log):
    assert price_levels(log.known_prices) == ([], [])


def test_a_price_that_is_no_number_is_none():
    events = [Event(f"e{n}", "u", "view", "i", NOON + n, price=p) for n, p in enumerate([float("nan"), 9.99])]
    assert gather(events, timed=True).prices.tolist() == [9.99]


@pytest.mark.parametrize("form", ["events", "retailrocket", "sessions"])
def test_events_that_no_worker_scores_for_their_ids_are_left_out_and_told(tmp_path: Path, form: str):
    odd = "P\x1b[2J<script>"
    text = {
        "events": "\n".join(
            f'{{"event_id":"{n}","user_id":"u","type":"view","item_id":"{item}","timestamp":{NOON}}}'
            for n, item in enumerate(["a", odd.replace("\x1b", "\\u001b"), "b"])
        ),
        "retailrocket": f"timestamp,visitorid,event,itemid\n{NOON},1,view,a\n{NOON},1,view,{odd}\n{NOON},1,view,b\n",
        "sessions": f"a {odd} b\n",
    }[form]
    (tmp_path / "log").write_text(text)
    log = load(tmp_path / "log", form)
    assert (log.items, log.bad.count) == (["a", "b"], {"bad_id": 1})
    assert "item_id holds U+001B, which is not printable" in log.bad.lines()[0] and log.bad.lines()[0].isprintable()
