"""What a run learned of purchases: a horizon that the log knows nothing of is named."""

import msgspec
import numpy as np
import pytest

from export import bundle
from models.batches import Sequences
from models.checkpoint import Checkpoint
from models.learned import labelled, unlearned
from stream.core.errors import CheckpointError
from tests.models.conftest import MEANING, small_run


def test_labels_are_counted_by_horizon(log):
    _, run = small_run(log)
    first = log.where(np.arange(len(log)) < len(log) // 2)
    parts = [Sequences(part, run.vocabulary, MEANING, int(log.time.max()), 64) for part in (first, log)]
    found = labelled(parts, MEANING.horizons)
    each = [part.known[:, 0] for part in parts]
    assert found["1h"]["known"] == sum(int(known.sum()) for known in each)
    assert 0 < found["1h"]["positives"] < found["1h"]["known"]
    assert not unlearned({"labels": found})


def test_a_horizon_beyond_the_log_and_one_without_purchases_are_named(log):
    long = Sequences(log, small_run(log)[1].vocabulary, msgspec.structs.replace(MEANING, horizons=("30d",)), 0, 64)
    assert unlearned({"labels": labelled([long], ("30d",))}) == ["30d (no event is followed by so much log)"]
    assert unlearned({"labels": {"1h": {"known": 1200, "positives": 0}}}) == ["1h (no purchase among 1,200 labels)"]
    assert not unlearned({})


def test_what_was_not_learned_is_exported_only_if_asked(checkpoint, tmp_path):
    data = {"labels": {"1h": {"known": 9, "positives": 3}, "session": {"known": 0, "positives": 0}}}
    run = msgspec.structs.replace(checkpoint.run, data=data)
    with pytest.raises(CheckpointError, match="session"):
        bundle.write(Checkpoint(checkpoint.network, run, checkpoint.histories), tmp_path / "refused", "float16")
    assert not list(tmp_path.iterdir())
