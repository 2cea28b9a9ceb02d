"""Calibration: fitted to what was kept, stored in the run, in the manifest, and in every score."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from export.bundle import write
from models.data.log import gather
from models.data.synthetic import simulate
from models.evaluation.attribution import attribute
from models.evaluation.comparison import model, rivals
from models.evaluation.metrics import ece, log_loss
from models.evaluation.prequential import evaluate
from models.training import calibration as module
from models.training.calibration import calibrate, line, probabilities
from models.training.checkpoint import load
from models.training.epochs import train
from stream.bundle.onnx import load as load_bundle
from stream.core.calibration import calibrated
from tests import fakes
from tests.fakes import NOON
from tests.models.conftest import MEANING, small_run


def _skewed(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw logits that are too sure and too high: the truth is at half of them less one."""
    random = np.random.default_rng(seed)
    x = random.normal(0, 3, n)
    return x, random.random(n) < 1 / (1 + np.exp(1 - x / 2))


def test_a_skewed_toy_is_set_right():
    scale, shift = line(*_skewed(20_000, 0))
    assert (scale, shift) == (pytest.approx(0.5, abs=0.03), pytest.approx(-1.0, abs=0.06))
    x, y = _skewed(20_000, 1)
    before, after = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(-scale * x - shift))
    assert ece(y, before) > 0.1
    assert ece(y, after) < 0.015
    assert log_loss(y, after) < log_loss(y, before)


def test_the_line_is_that_of_an_independent_implementation(monkeypatch: pytest.MonkeyPatch):
    x, y = _skewed(5000, 3)
    linear = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], y)
    monkeypatch.setattr(module, "_PRIOR", 0.0)
    assert line(x, y) == pytest.approx((linear.coef_[0, 0], linear.intercept_[0]), abs=1e-4)


def test_few_labels_change_little():
    x, y = _skewed(200_000, 4)
    few, many = (np.array(line(x[:n], y[:n])) - [1.0, 0.0] for n in (50, 200_000))
    assert np.abs(few).max() < 0.3
    assert many == pytest.approx([-0.5, -1.0], abs=0.03)


def test_parted_labels_give_a_finite_line():
    x = np.r_[np.full(50, -16.0), np.full(50, 16.0)]
    assert np.isfinite(line(x, x > 0)).all()
    assert np.isfinite(line(x * 0, x > 0)).all()


@given(st.lists(st.tuples(*[st.floats(-30, 30)] * 2), min_size=1), st.floats(0.1, 4), st.floats(-2, 2))
def test_gradients_see_the_same_probabilities_as_serving(rows, scale: float, shift: float):
    logit = torch.tensor(rows, dtype=torch.float32)
    pairs = {"1h": (scale, shift), "24h": (1.0, 0.2)}
    facts = msgspec.structs.replace(fakes.manifest(horizons=("1h", "24h")), calibration=pairs)
    served = calibrated({"intent": torch.sigmoid(logit).numpy()}, facts)["intent"]
    # What float32 keeps of a probability near 1 is coarse: so is what serving can make of it.
    close = np.abs(logit.numpy()) < 6
    found = probabilities(pairs, ("1h", "24h"))(logit).numpy()
    assert np.abs(found - served)[close.all(1)].max(initial=0) < 1e-4
    assert (found[:, 1] >= found[:, 0]).all()


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory):
    """Train on many short histories, then make the network too sure; return its run's parts."""
    log = gather(simulate(1500, 3, 5, NOON, items=60, categories=6).events(), timed=True)
    sequences, run = small_run(log, epochs=3, judged=0.4)
    folder = tmp_path_factory.mktemp("skewed")
    done = train(sequences, run, folder)
    return log, sequences, done, folder


def test_training_keeps_what_helps(skewed):
    _, sequences, done, _ = skewed
    network = done.network
    last = network.purchase.layers[-1]
    with torch.no_grad():
        last.bias += 2.0
    found = calibrate(network, sequences, MEANING.horizons, 0)
    with torch.no_grad():
        last.bias -= 2.0
    assert found.keys() == set(MEANING.horizons)
    assert found["1h"][1] == pytest.approx(-2.0, abs=1.0)
    assert calibrate(network, sequences.part(np.zeros(len(sequences.start), bool)), MEANING.horizons, 0) == {}


def test_what_does_not_help_is_not_kept():
    """Labels that are exactly as probable as said, and too few of them to learn more."""

    class Said:
        popularity = torch.zeros(1)

        def state(self, _n):
            return {}

        def __call__(self, item, *_):
            return type("Out", (), {"intent": torch.full((*item.shape, 1), 0.0)})

    class Kept:
        label = np.zeros((0, 1), bool)

        def batches(self, *_):
            from models.data.sequences import Batch

            random = torch.Generator().manual_seed(1)
            label = torch.rand(100, 1, 1, generator=random) < 0.5
            zero = torch.zeros(100, 1, dtype=torch.long)
            yield Batch(zero, zero, zero, zero, zero, label, torch.ones_like(label), zero, 100)

    found = [calibrate(Said(), Kept(), ("1h",), seed) for seed in range(12)]  # type: ignore[arg-type]
    assert {} in found


def test_scores_of_the_exported_bundle_are_the_runs_calibrated_ones(skewed, tmp_path: Path):
    log, sequences, done, _ = skewed
    done.run.calibration = {"1h": (0.7, -0.4), "session": (1.3, 0.2)}
    since, end = int(log.time.max()) - 12 * fakes.HOUR, int(log.time.max())
    own = evaluate(log, sequences, *model(done, "float32"), since, end)
    written = write(done, tmp_path / "bundle", "float32")
    assert written.calibration == done.run.calibration
    bundle = load_bundle(tmp_path / "bundle")
    served = evaluate(log, sequences, bundle.manifest, bundle.intent_step, bundle.intent_step, None, since, end)
    # Exponentials of pauses differ in their last digit, and states carry that along.
    assert np.abs(served.intent - own.intent).max() < 1e-4
    done.run.calibration = {}
    plain = evaluate(log, sequences, *model(done, "float32"), since, end)
    logit = np.log(plain.intent / (1 - plain.intent))
    expected = 1 / (1 + np.exp(-(logit * [0.7, 1.3] + [-0.4, 0.2])))
    assert np.abs(own.intent - expected).max() < 1e-5
    done.run.calibration = {"1h": (0.7, -0.4)}
    for name, rival in rivals(done.run, sequences).items():
        assert not rival.manifest.calibration, name


def test_the_calibration_is_in_the_run_on_disk(skewed):
    _, _, _, folder = skewed
    found = load(folder).run.calibration
    assert found.keys() <= set(MEANING.horizons)


def test_attributions_of_a_calibrated_score_add_up(skewed):
    done = skewed[2]
    history = {name: value[0] for name, value in done.histories.items()}
    said = probabilities({"1h": (1.8, 0.9), "session": (0.6, 0.1)}, MEANING.horizons)
    for horizon in range(2):
        found = attribute(done.network, history, horizon, said)
        with torch.inference_mode():
            out = done.network(**{n: v[None] for n, v in history.items()}, **done.network.state(1)).intent[0, -1]
        assert found.score == pytest.approx(float(said(out)[horizon]), abs=1e-5)
        assert abs(found.score - float(torch.sigmoid(out)[horizon])) > 1e-3
        whole = found.score - found.baseline
        assert abs(found.parts.sum() - whole) <= 0.01 * abs(whole) + 1e-3
