"""A search: it finds what is better, ends where it should, and loses nothing to an interruption."""

import json
import math

import pytest

from models.training.config import TrainConfig
from models.training.search import SPACE
from models.training.search import search as look
from stream.core.errors import SettingError

FIRST = {name: getattr(TrainConfig(), name) for name in SPACE}


def search(journal, train, first, trials, **rest):
    return look(journal, train, first, trials, rest.pop("identity", {"log": "a"}), **rest)


def _hill(dials, hear):
    """Be best at a dropout of 0.4."""
    value = 1 - abs(dials["dropout"] - 0.4)
    hear(1, value)
    return value


def test_the_first_trial_is_the_presets_own(tmp_path):
    tried = []
    search(tmp_path / "trials.jsonl", lambda dials, hear: tried.append(dials) or _hill(dials, hear), FIRST, 1)
    assert tried == [pytest.approx(FIRST)]


def test_it_finds_what_is_better_within_bounds(tmp_path):
    results = search(tmp_path / "trials.jsonl", _hill, FIRST, 30)
    assert len(results) == 30
    assert results[0].value == max(r.value for r in results) > 0.95
    for result in results:
        assert all(SPACE[name].low <= value <= SPACE[name].high for name, value in result.dials.items())
        assert TrainConfig(**result.dials)
        assert all(isinstance(result.dials[name], int) for name in ("dimension", "negatives"))


def test_one_that_is_behind_is_given_up(tmp_path):
    epochs = []

    def train(dials, hear):
        for epoch in (1, 2, 3):
            hear(epoch, _hill(dials, lambda *_: None))
            epochs.append(epoch)
        return _hill(dials, lambda *_: None)

    results = search(tmp_path / "trials.jsonl", train, FIRST, 20)
    assert any(r.pruned for r in results) and not results[0].pruned
    assert len(epochs) < 60


def test_an_interrupted_trial_is_run_again(tmp_path):
    journal, tried = tmp_path / "trials.jsonl", []

    def cut(dials, _hear):
        tried.append(dials)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        search(journal, cut, FIRST, 5)
    again = []
    results = search(journal, lambda dials, hear: again.append(dials) or _hill(dials, hear), FIRST, 5)
    assert again[0] == pytest.approx(tried[2])
    assert len(results) == 5 and len(again) == 3


def test_no_trial_begins_when_the_time_is_up(tmp_path):
    assert not search(tmp_path / "trials.jsonl", _hill, FIRST, 5, seconds=-math.inf)


def test_the_journal_is_text(tmp_path):
    search(tmp_path / "trials.jsonl", _hill, FIRST, 2)
    assert all(json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines())


def test_a_dial_that_is_fixed_is_not_searched(tmp_path):
    first = {name: value for name, value in FIRST.items() if name != "lr"}
    results = search(tmp_path / "trials.jsonl", _hill, first, 3)
    assert all(result.dials.keys() == first.keys() for result in results)


def test_a_journal_of_another_log_is_refused(tmp_path):
    search(tmp_path / "trials.jsonl", _hill, FIRST, 1)
    with pytest.raises(SettingError, match="another log"):
        search(tmp_path / "trials.jsonl", _hill, FIRST, 2, identity={"log": "b"})
