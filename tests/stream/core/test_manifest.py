"""Meanings, spans and vocabularies."""

import numpy as np
import pytest

from stream.core.hashing import fingerprints
from stream.core.manifest import TaskSpec, Vocabulary, milliseconds


@pytest.mark.parametrize(("span", "ms"), [("30m", 1_800_000), ("1h", 3_600_000), ("7d", 604_800_000), ("5s", 5_000)])
def test_spans(span: str, ms: int):
    assert milliseconds(span) == ms


@pytest.mark.parametrize("span", ["", "1", "h", "0h", "1.5h", "1 h", "-1h", "1w"])
def test_what_is_no_span_says_what_is(span: str):
    with pytest.raises(ValueError, match="30m or 24h"):
        milliseconds(span)


@pytest.mark.parametrize("wrong", [{"gap": 0}, {"ring": 5}, {"k": 0}, {"purchase": "gift"}, {"horizons": ("soon",)}])
def test_an_impossible_meaning_is_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError):
        TaskSpec(**wrong)


def test_a_vocabulary_finds_by_id_and_by_fingerprint():
    vocab = Vocabulary(["a", "b", "c"], ["x", "y"], [1, 2, 0])
    assert [vocab.item_index[i] for i in "abc"] == [1, 2, 3]
    assert vocab.category_of.tolist() == [0, 1, 2, 0]
    new = vocab.place(["?"])[0]
    assert 3 < new < 2**31
    assert vocab.item_of(fingerprints(["c", "?", "a"])).tolist() == [3, new, 1]
    assert vocab.place(["a", "?", "c"]).tolist() == [1, new, 3]
    assert vocab.item_of(np.zeros(1, np.uint64)).tolist() == [0]
    assert vocab.category_at(np.append(fingerprints(["y"]), np.uint64(0))).tolist() == [2, 0]


def test_an_empty_vocabulary_knows_nothing():
    vocab = Vocabulary([], [], [])
    assert vocab.item_of(fingerprints(["a"])).tolist() == vocab.place(["a"]).tolist() != [0]


def test_a_newcomer_has_an_index_and_no_name():
    vocab = Vocabulary(["a", "b"], ["x"], [1, 1])
    index = vocab.place(["b", "new", "a"])
    assert vocab.known(index).tolist() == [2, 0, 1]
    assert [vocab.name(i) for i in (*index.tolist(), 0)] == ["b", "", "a", ""]
