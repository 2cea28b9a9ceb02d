"""Training from partitions: at one partition the plain log's training, at several the same within the noise."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models import histories
from models.batches import Sequences
from models.config import TrainConfig
from models.covisits import survey
from models.partitions import Partitions, cutoff, vocabulary
from models.prepared import Prepared, prepare
from models.shoppers import simulate
from models.train import train
from tests.fakes import NOON
from tests.models.conftest import MEANING

CONFIG = TrainConfig(dimension=16, epochs=2, batch_events=512, longest=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shop.jsonl"
    events = simulate(300, 3, 0, NOON, items=60, categories=6).events()
    path.write_bytes(b"\n".join(msgspec.json.encode(event) for event in events))
    return path


def opened(data: Path, out: Path, each: int) -> Prepared:
    prepare(data, "events", out, each)
    return Prepared.open(out)


def partitions(data: Path, out: Path, each: int, tail: float = 0.0, **config: object) -> tuple[Partitions, object]:
    config = msgspec.structs.replace(CONFIG, **config)
    return Partitions.over(opened(data, out, each), config, MEANING, tail)[:2]


@pytest.mark.parametrize("tail", [0.05, 0.5])
@pytest.mark.parametrize("each", [300, 10**6])
def test_the_cutoff_and_the_vocabulary_are_the_plain_logs(data: Path, tmp_path: Path, each: int, tail: float):
    log, found = histories.load(data, "events"), opened(data, tmp_path, each)
    since = histories.cutoff(log, tail)
    assert cutoff(found, tail) == since
    seen = log.where(log.time < since)
    plain, (vocab, events) = histories.vocabulary(seen), vocabulary(found, since)
    assert events == len(seen)
    assert (vocab.items, vocab.categories) == (plain.items, plain.categories)
    assert np.array_equal(vocab.category_of, plain.category_of)


def test_one_partition_trains_to_the_same_weights(data: Path, tmp_path: Path):
    source, run = partitions(data, tmp_path / "one", 10**6)
    found = train(source, run, tmp_path / "run").network.state_dict()
    log = histories.load(data, "events")
    end = int(log.time.max())
    sequences = Sequences(log, run.vocabulary, run.meaning, end, CONFIG.longest)
    plain = train(sequences, msgspec.structs.replace(run, epochs=[]), tmp_path / "plain").network.state_dict()
    assert all(torch.equal(plain[name], found[name]) for name in plain)


def test_an_epoch_has_every_event_once_and_can_be_taken_up(data: Path, tmp_path: Path):
    source, run = partitions(data, tmp_path, 300)
    survey(source, len(run.items))
    batches = list(source.batches(512, np.random.default_rng(3)))
    assert sum(batch.events for batch in batches) == source.events
    assert len(batches) == source.count(512)
    for skip in (1, 4, len(batches) - 1):
        rest = source.batches(512, np.random.default_rng(3), skip)
        assert [b.item.tolist() for b in rest] == [b.item.tolist() for b in batches[skip:]]


def test_the_table_of_pairs_is_nearly_the_plain_logs(data: Path, tmp_path: Path):
    """While nothing is dropped only the recency differs, which few events a partition make coarse."""
    source, run = partitions(data, tmp_path / "some", 300)
    one, _ = partitions(data, tmp_path / "one", 10**6)
    some, whole = survey(source, len(run.items)), survey(one, len(run.items))
    assert np.array_equal(some.seen, whole.seen)
    assert np.array_equal(some.asked, whole.asked)
    assert np.array_equal(some.total.key, whole.total.key)
    assert some.total.value == pytest.approx(whole.total.value, rel=0.15)


def test_an_item_keeps_its_heaviest_pairs_between_parts(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, run = partitions(data, tmp_path, 300)
    whole = survey(source, len(run.items)).table()
    monkeypatch.setattr("models.covisits.KEEP", 20)
    tally = survey(source, len(run.items))
    _, pairs = np.unique(tally.total.key // len(tally.seen), return_counts=True)
    assert pairs.max() == 20
    # The heaviest of all are hardly touched.
    assert (tally.table().neighbours[:, 0] == whole.neighbours[:, 0]).mean() > 0.9


def test_several_partitions_train_as_well(data: Path, tmp_path: Path):
    def loss(each: int, seed: int) -> float:
        source, run = partitions(data, tmp_path / f"{each}-{seed}", each, seed=seed)
        return train(source, run, tmp_path / f"run-{each}-{seed}").run.epochs[-1]["mixture_loss"]

    alone = [loss(10**6, seed) for seed in range(3)]
    assert loss(400, 0) == pytest.approx(np.mean(alone), rel=0.05)
