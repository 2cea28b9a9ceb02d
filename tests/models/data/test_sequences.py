"""Batches: every event once, and the very inputs that serving computes."""

import itertools

import numpy as np
import pytest
import torch

from models.data.log import gather, vocabulary
from models.data.sequences import Batch, Sequences
from stream.core import score
from stream.core.events import Event
from stream.core.features import NUMERIC, encode
from stream.core.manifest import TaskSpec
from stream.core.session import record
from tests import fakes
from tests.fakes import DAY, MINUTE, NOON
from tests.models.conftest import MEANING, small_run


@pytest.fixture
def sequences(log) -> Sequences:
    return Sequences(log, vocabulary(log), MEANING, int(log.time.max()), longest=20)


def test_an_epoch_has_every_event_once(sequences: Sequences, log):
    seen = []
    for batch in sequences.batches(400, np.random.default_rng(0)):
        assert batch.item.numel() <= 400 or len(batch.item) == 1
        assert batch.item.shape[1] <= 20
        real = batch.numeric.abs().sum(-1) > 0
        assert int(real.sum()) == batch.events
        seen.append(batch.item[real].numpy())
    assert np.array_equal(np.sort(np.concatenate(seen)), np.sort(sequences.item))
    assert sequences.count(400) == len(seen)


def test_skipping_gives_the_rest_of_the_same_epoch(sequences: Sequences):
    whole = list(sequences.batches(400, np.random.default_rng(3)))
    rest = list(sequences.batches(400, np.random.default_rng(3), skip=2))
    assert [b.item.tolist() for b in rest] == [b.item.tolist() for b in whole[2:]]


def test_targets_are_the_next_items_of_the_same_shopper(sequences: Sequences, log):
    for i in range(len(log) - 1):
        same = log.user[i] == log.user[i + 1]
        assert sequences.target[i] == (sequences.item[i + 1] if same else 0)
    assert sequences.target[-1] == 0


def test_training_and_serving_compute_the_same_inputs():
    """No skew: what the step is given event by event is what it was trained on."""
    dice = np.random.default_rng(0)
    moments = np.cumsum(dice.choice([MINUTE, 20 * MINUTE, 31 * MINUTE, 3 * DAY], 60))
    rows = [Event(f"e{n}", f"u{n % 3}", "view", f"i{n % 7}", int(NOON + m), f"c{n % 2}") for n, m in enumerate(moments)]
    meaning = TaskSpec(ttl=2 * DAY)
    log = gather(rows, timed=True)
    vocab = vocabulary(log)
    trained = Sequences(log, vocab, meaning, int(log.time.max()), longest=100)
    given: list[tuple[int, list[float]]] = []

    def spy(inputs, hidden):
        given.extend(zip(inputs["item"].tolist(), inputs["numeric"].tolist(), strict=True))
        return fakes.step(inputs, hidden)

    facts = fakes.manifest(ttl=2 * DAY)
    sessions = np.zeros(3, record(facts))
    time = np.array([r.timestamp for r in rows])
    for n, row in enumerate(rows):
        batch = encode([row], time[n : n + 1], np.array([n % 3]), {"view": 0}, vocab)
        _, sessions = score(batch, sessions, spy, facts)
    in_time = np.argsort(log.time, kind="stable")
    assert [item for item, _ in given] == trained.item[in_time].tolist()
    assert np.array_equal(np.array([numbers for _, numbers in given], "f4"), trained.numeric[in_time])


def test_a_sample_is_spread_over_the_log(sequences: Sequences):
    sample = sequences.sample(5, 12)
    assert sample["item"].shape == (5, 12)
    assert sample["numeric"].shape == (5, 12, len(NUMERIC))


def test_a_part_is_the_log_of_its_sequences(log):
    sequences, _ = small_run(log)
    kept = np.arange(len(sequences.start)) % 3 == 0
    part = sequences.part(kept)
    assert (part.length == sequences.length[kept]).all()
    for begin, at, n in zip(part.start, sequences.start[kept], part.length, strict=True):
        for name in ("item", "target", "numeric", "label", "time"):
            assert (getattr(part, name)[begin : begin + n] == getattr(sequences, name)[at : at + n]).all()
    assert len(part.item) == part.length.sum()


def test_a_random_order_keeps_every_event_and_no_time(sequences: Sequences):
    def ends() -> list[int]:
        return sequences.time[sequences.start + sequences.length - 1].tolist()

    before = ends()
    sequences.shuffle(1)
    assert before == sorted(before) != ends()
    assert sorted(ends()) == before
    assert sequences.length.sum() == len(sequences.item)


def test_in_random_order_others_meet_in_each_epoch_and_no_batch_changes_its_size(sequences: Sequences):
    def epoch(seed: int, skip: int = 0) -> list[Batch]:
        return list(sequences.batches(256, np.random.default_rng(seed), skip))

    def met(batches: list[Batch]) -> list[list[list[int]]]:
        return sorted(sorted(row[row > 0].tolist() for row in batch.item) for batch in batches)

    assert met(epoch(1)) == met(epoch(2))
    sequences.shuffle(1)
    one, two = epoch(1), epoch(2)
    assert met(one) != met(two)
    assert sorted(itertools.chain(*met(one))) == sorted(itertools.chain(*met(two)))
    assert sorted(batch.item.shape for batch in one) == sorted(batch.item.shape for batch in two)
    assert torch.equal(epoch(1, skip=2)[0].numeric, one[2].numeric)
