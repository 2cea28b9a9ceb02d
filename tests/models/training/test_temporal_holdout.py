"""A log cut in two in time: nothing of the later part reaches the earlier one."""

import numpy as np

from models.training.temporal_holdout import rehearse
from tests.models.conftest import small_run


def test_the_earlier_part_ends_where_the_later_begins(log):
    sequences, run = small_run(log)
    since = np.quantile(sequences.time, 0.8)
    _, first, later = rehearse(sequences, run, 0.2)
    assert len(first.item) == (sequences.time < since).sum()
    assert first.time.max() < since
    assert (later.time[later.target > 0] >= since).all()
    # Everything that comes next in the later part is asked for, but for items that the earlier one does not have.
    known = np.isin(sequences.target, sequences.item[sequences.time < since]) & (sequences.target > 0)
    assert (later.target > 0).sum() == (known & (sequences.time >= since)).sum()


def test_nothing_that_comes_later_is_asked_for_or_labelled_earlier(log):
    sequences, run = small_run(log)
    _, first, _ = rehearse(sequences, run, 0.2)
    last = first.start + first.length - 1
    assert not first.target[last].any()
    since = np.quantile(sequences.time, 0.8)
    assert (first.time[first.known[:, 0]] < since - 3_600_000).all()


def test_an_item_of_the_later_part_alone_is_unknown(log):
    sequences, run = small_run(log)
    new = int(sequences.item[np.argmax(sequences.time)])
    sequences.item[(sequences.item == new) & (sequences.time < np.quantile(sequences.time, 0.8))] = 0
    narrow, first, later = rehearse(sequences, run, 0.2)
    assert run.items[new - 1] not in narrow.items
    assert len(narrow.items) == len(narrow.category_of)
    assert max(first.item.max(), later.item.max(), later.target.max()) <= len(narrow.items)
    names = np.array(["", *narrow.items])
    expected = np.array(["", *run.items])[
        sequences.item[np.sort(sequences.time < np.quantile(sequences.time, 0.8))[::-1]]
    ]
    assert len(expected) == len(names[first.item])


def test_the_log_itself_is_left_as_it_was(log):
    sequences, run = small_run(log)
    before = {name: getattr(sequences, name).copy() for name in ("item", "target", "known", "start", "length")}
    rehearse(sequences, run, 0.2)
    assert all(np.array_equal(value, getattr(sequences, name)) for name, value in before.items())


def test_a_session_that_reaches_into_the_later_part_has_no_label(log):
    sequences, run = small_run(log)
    since = np.quantile(sequences.time, 0.8)
    _, first, _ = rehearse(sequences, run, 0.2)
    session = run.meaning.horizons.index("session")
    crossing = 0
    for start, length in zip(first.start, first.length, strict=True):
        rows = np.arange(start, start + length)
        pauses = np.r_[np.diff(first.time[rows]), since - first.time[rows[-1]]]
        ended = np.flatnonzero(pauses > run.meaning.gap)
        still = rows[ended[-1] + 1 if len(ended) else 0 :]
        crossing += len(still)
        assert not first.known[still, session].any()
    assert crossing
    assert first.known[:, session].any()
