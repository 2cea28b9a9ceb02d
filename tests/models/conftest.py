"""A small world: some shoppers, and a model trained on them."""

from pathlib import Path

import msgspec
import pytest

from models import enough as rule
from models.data.log import Log, cutoff, gather
from models.data.sequences import Sequences
from models.data.synthetic import simulate
from models.evaluation.comparison import model, rivals
from models.evaluation.prequential import evaluate
from models.report.build import Report
from models.report.build import gather as gather_report
from models.training.checkpoint import Checkpoint, Run
from models.training.config import TrainConfig
from models.training.epochs import train
from stream.core.manifest import ColdStart, TaskSpec
from tests.fakes import NOON

MEANING = TaskSpec(horizons=("1h", "session"))


@pytest.fixture(scope="session")
def log() -> Log:
    """Let 300 shoppers shop for three days."""
    return gather(simulate(300, 3, 0, NOON, items=60, categories=6).events(), timed=True)


@pytest.fixture(scope="session")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Train a tiny model of a shop with prices, but for the first item."""
    events = simulate(150, 2, 0, NOON, items=40, categories=4).events()
    prices = {"item-0": None}
    rows = [
        msgspec.structs.replace(event, price=prices.setdefault(event.item_id, 1.0 + len(prices))) for event in events
    ]
    return train(*small_run(gather(rows, timed=True), epochs=2, prices=True), tmp_path_factory.mktemp("priced"))


def small_run(log: Log, **config: object) -> tuple[Sequences, Run]:
    """Prepare a run of a tiny model."""
    settings = TrainConfig(**{"dimension": 16, "epochs": 2, "batch_events": 512, "longest": 64, **config})
    run = Run.over(log, settings, MEANING)
    return Sequences(log, run.vocabulary, run.meaning, int(log.time.max()), settings.longest), run


@pytest.fixture(scope="session")
def checkpoint(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Train a tiny model."""
    return train(*small_run(log, epochs=8), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def run_folder(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")

    def conclude(point: Checkpoint) -> None:
        point.run.novelty = ColdStart(bias=-2.0)

    train(*small_run(log, epochs=8), folder, conclude=conclude)
    return folder


@pytest.fixture
def few_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give figures of a handful of examples, which can be counted by hand."""
    monkeypatch.setattr(rule, "FEWEST", 1)
    monkeypatch.setattr(rule, "SHOPPERS", 1)


@pytest.fixture(scope="session")
def report(log: Log, checkpoint: Checkpoint) -> Report:
    """Measure the tiny model and popularity on the last fifth of the small world."""
    run, end, since = checkpoint.run, int(log.time.max()), cutoff(log, 0.2)
    sequences = Sequences(log, run.vocabulary, MEANING, end, 64)
    contenders = {"tiny": model(checkpoint), "popularity": rivals(run, sequences)["popularity"]}
    examples = {name: evaluate(log, sequences, *each, since, end) for name, each in contenders.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rule, "FEWEST", 1)
        return gather_report(examples, {"tiny": run}, log, since, rounds=40)
