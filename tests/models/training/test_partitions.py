"""Training from partitions: at one partition the plain log's training, at several the same within the noise."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.data import log as histories
from models.data.cooccurrence import NEAR, beside, count
from models.data.log import LEVELS
from models.data.prepared import Prepared, prepare
from models.data.sequences import Sequences
from models.data.synthetic import simulate
from models.training.config import TrainConfig
from models.training.epochs import train
from models.training.partitions import Partitions, cutoff, vocabulary
from stream.core.events import Event
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
    plain, (vocab, items, events) = histories.vocabulary(seen), vocabulary(found, since)
    assert events == len(seen)
    assert items.tolist() == np.unique(seen.item).tolist()
    assert (vocab.items, vocab.categories) == (plain.items, plain.categories)
    assert np.array_equal(vocab.category_of, plain.category_of)


def test_a_price_that_the_tail_tells_first_is_no_level(tmp_path: Path):
    rows = [("x", 0, None), ("y", 1, 3.0), ("x", 8, 5.0), ("y", 9, None)]
    events = [Event(f"e{m}", "u", "view", item, NOON + m, price=price) for item, m, price in rows]
    (tmp_path / "shop.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, events)))
    _, run = partitions(tmp_path / "shop.jsonl", tmp_path / "out", 10**6, tail=0.5)
    assert dict(zip(run.items, run.price_level, strict=True)) == {"x": 0, "y": LEVELS}


def test_one_partition_trains_to_the_same_weights(data: Path, tmp_path: Path):
    source, run = partitions(data, tmp_path / "one", 10**6, prices=True)
    found = train(source, run, tmp_path / "run").network.state_dict()
    log = histories.load(data, "events")
    end = int(log.time.max())
    sequences = Sequences(log, run.vocabulary, run.meaning, end, CONFIG.longest)
    plain = train(sequences, msgspec.structs.replace(run, epochs=[]), tmp_path / "plain").network.state_dict()
    assert all(torch.equal(plain[name], found[name]) for name in plain)


def test_an_epoch_has_every_event_once_and_can_be_taken_up(data: Path, tmp_path: Path):
    source, _ = partitions(data, tmp_path, 300)
    batches = list(source.batches(512, np.random.default_rng(3)))
    assert sum(batch.events for batch in batches) == source.events
    assert len(batches) == source.count(512)
    for skip in (1, 4, len(batches) - 1):
        rest = source.batches(512, np.random.default_rng(3), skip)
        assert [b.item.tolist() for b in rest] == [b.item.tolist() for b in batches[skip:]]


def test_the_tables_of_pairs_are_nearly_the_plain_logs(data: Path, tmp_path: Path):
    """While nothing is dropped only the recency differs, which few events a partition make coarse."""
    source, run = partitions(data, tmp_path / "some", 300)
    one, _ = partitions(data, tmp_path / "one", 10**6)
    some, whole = count(source, len(run.items)), count(one, len(run.items))
    assert some.parts > 3
    assert np.array_equal(some.seen[0], whole.seen[0])
    pairs, plain = sum(some.folds[1:], some.folds[0]), sum(whole.folds[1:], whole.folds[0])
    assert np.array_equal(pairs.indices, plain.indices)
    assert pairs.data == pytest.approx(plain.data, rel=0.15)
    assert np.array_equal(some.popularity()[:, 0], whole.popularity()[:, 0])
    assert np.corrcoef(some.popularity()[1:, 1], whole.popularity()[1:, 1])[0, 1] > 0.8


def test_what_is_said_of_a_partition_comes_from_other_folds_of_all(data: Path, tmp_path: Path):
    """An event's next item is said of as in the log in memory, but for what the folds have by chance."""
    source, run = partitions(data, tmp_path / "some", 300)
    one, _ = partitions(data, tmp_path / "one", 10**6)
    apart = list(count(source, len(run.items)).apart())
    some = np.concatenate([beside(part, apart) for part in source.parts()])
    (whole,) = one.parts()
    plain = beside(whole, count(one, len(run.items)).apart())
    assert some.shape == plain.shape
    assert some.mean(0) == pytest.approx(plain.mean(0), rel=0.1)


def test_a_full_fold_keeps_each_items_heaviest_pairs(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, run = partitions(data, tmp_path, 300)
    whole = count(source, len(run.items)).tables()[NEAR.name]
    monkeypatch.setattr("models.data.cooccurrence.ROOM", 400)
    monkeypatch.setattr("models.data.cooccurrence.KEPT", 20)
    tally = count(source, len(run.items))
    assert max(np.diff(fold.indptr).max() for fold in tally.folds) == 20
    # The heaviest of all are hardly touched.
    assert (tally.tables()[NEAR.name].neighbours[:, 0] == whole.neighbours[:, 0]).mean() > 0.9


def test_a_sample_is_of_whole_shoppers_and_bounded(data: Path, tmp_path: Path):
    source, _ = partitions(data, tmp_path, 300)
    whole = sum(part.events for part in source.parts())
    assert source.sampled(whole, 0).events == whole
    some = source.sampled(whole // 2, 0)
    assert 0.25 * whole < some.events < 0.75 * whole
    assert (np.sort(some.start) == np.r_[0, np.cumsum(some.length[np.argsort(some.start)])[:-1]]).all()


def test_several_partitions_train_as_well(data: Path, tmp_path: Path):
    def loss(each: int, seed: int) -> float:
        source, run = partitions(data, tmp_path / f"{each}-{seed}", each, seed=seed)
        return train(source, run, tmp_path / f"run-{each}-{seed}").run.epochs[-1]["mixture_loss"]

    alone = [loss(10**6, seed) for seed in range(3)]
    assert loss(400, 0) == pytest.approx(np.mean(alone), rel=0.05)
