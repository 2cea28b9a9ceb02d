"""What a run learned of purchases: a horizon that the log knows nothing of is named."""

import msgspec
import numpy as np
import pytest

from export import bundle
from models.data.sequences import Sequences
from models.training.checkpoint import Checkpoint
from models.training.label_coverage import findings, taught, unlearned
from stream.bundle.onnx import load
from tests.models.conftest import MEANING, small_run


def test_labels_are_counted_by_horizon(log):
    _, run = small_run(log)
    first = log.where(np.arange(len(log)) < len(log) // 2)
    parts = [Sequences(part, run.vocabulary, MEANING, int(log.time.max()), 64) for part in (first, log)]
    found = taught(parts, run.meaning)["labels"]
    each = [part.known[:, 0] for part in parts]
    assert found["1h"]["known"] == sum(int(known.sum()) for known in each)
    assert 0 < found["1h"]["positives"] < found["1h"]["known"]
    assert not unlearned({"labels": found})


def test_a_horizon_beyond_the_log_and_one_without_purchases_are_named(log):
    long = Sequences(log, small_run(log)[1].vocabulary, msgspec.structs.replace(MEANING, horizons=("30d",)), 0, 64)
    found = taught([long], msgspec.structs.replace(MEANING, horizons=("30d",)))
    assert unlearned(found) == {"30d": "no event is followed by so much log"}
    assert unlearned({"labels": {"1h": {"known": 1200, "positives": 0}}}) == {"1h": "no purchase among 1,200 labels"}
    assert unlearned({"labels": {"1h": {"known": 5500, "positives": 3}}}) == {
        "1h": "3 purchases among 5,500 labels: too few"
    }
    assert unlearned({"labels": {"1h": {"known": 5500, "positives": 1}}})["1h"].startswith("1 purchase among")
    assert not unlearned({"labels": {"1h": {"known": 5500, "positives": 50}}})
    assert not unlearned({})


def test_types_are_counted_and_what_they_mean_is_said(log):
    run = small_run(log)[1]
    found = taught([Sequences(log, run.vocabulary, run.meaning, int(log.time.max()), 64)], run.meaning)
    assert sum(found["types"].values()) == len(log)
    assert findings(found, "transaction")[0].startswith("types in the part trained on: view ")
    assert len(findings(found | {"labels": {}}, "transaction")) == 1
    odd = {"types": {"view": 900, "transaction": 0, "purchase": 3, "search": 7}, "labels": {}}
    types, own, none, remedy = findings(odd, "transaction")
    assert types == "types in the part trained on: view 900, search 7, purchase 3" and "purchase, search" in own
    named = findings(odd, "transaction", {"purchase": "order or sale", "transaction": "sold"})[0]
    assert named == "types in the part trained on: view 900, search 7, order or sale (purchase) 3"
    assert none.endswith("is it 'purchase'?") and "forecart map --data FILE" in remedy


@pytest.mark.parametrize(("asked", "expected"), [(False, ("session",)), (True, msgspec.UNSET)])
def test_what_was_not_learned_is_published_only_if_asked(checkpoint, tmp_path, asked, expected):
    horizons = checkpoint.run.meaning.horizons
    data = {"labels": {name: {"known": 900, "positives": 300 * (name != "session")} for name in horizons}}
    run = msgspec.structs.replace(checkpoint.run, data=data)
    point = Checkpoint(checkpoint.network, run, checkpoint.histories)
    made = bundle.write(point, tmp_path / "bundle", "float16", any_intent=asked)
    assert made.unlearned == expected == load(tmp_path / "bundle").manifest.unlearned
