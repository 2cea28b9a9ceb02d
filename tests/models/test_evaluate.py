"""The evaluation: by hand, and each instance alone."""

import msgspec
import numpy as np
import pytest

from models.baselines import UNDECAYED, category_popularity, last_item, popularity, weigh_by_count
from models.batches import Sequences
from models.evaluate import evaluate, summary
from models.histories import cutoff, gather, vocabulary
from models.steps import manifest, torch_step
from stream.core.events import Event
from tests import fakes
from tests.fakes import MINUTE, NOON
from tests.models.conftest import MEANING

ROWS = [("a", 0, "1"), ("a", 1, "2"), ("b", 2, "1"), ("b", 3, "3"), ("a", 4, "3"), ("b", 5, "new"), ("a", 6, "1")]


@pytest.fixture
def small():
    log = gather((Event(f"e{m}", u, "view", i, NOON + m * MINUTE) for u, m, i in ROWS), timed=True)
    vocab = vocabulary(log.where(log.time < NOON + 5 * MINUTE))
    return log, Sequences(log, vocab, fakes.manifest().meaning, int(log.time.max()), 10)


def _echo(inputs, hidden):
    """Recommend the last item, then item 1."""
    outputs, state = fakes.step(inputs, hidden)
    n = len(inputs["item"])
    listed = np.stack([inputs["item"], np.ones(n, np.int64)], 1)
    return {**outputs, "items": listed, "item_scores": np.tile(np.float32([2, 1]), (n, 1))}, state


@pytest.mark.parametrize(
    ("minute", "targets", "ranks"),
    [
        (0, "all", {("a", 0): 0, ("a", 1): 0, ("a", 4): 2, ("b", 2): 0, ("b", 3): 0}),
        (0, "last", {("a", 4): 2, ("b", 3): 0}),
        (3, "all", {("a", 4): 2, ("b", 3): 0}),
    ],
)
def test_ranks_by_hand(small, minute, targets, ranks):
    log, sequences = small
    found = evaluate(
        log, sequences, fakes.manifest(), fakes.step, _echo, NOON + minute * MINUTE, int(log.time.max()), targets
    )
    assert len(found.rank) == len(ranks)
    assert sorted(found.rank.tolist()) == sorted(ranks.values())
    assert found.known_item.sum() == len(ranks) - 1  # "new" is in no vocabulary


def test_an_unseen_item_is_a_miss_before_it_joins_and_can_be_found_after(small):
    """Shopper a sees "new" after shopper b did; b's own target "new" comes before anyone has seen it."""
    rows = [("a", 0, "1"), ("b", 1, "2"), ("b", 5, "new"), ("a", 6, "1"), ("a", 7, "new"), ("a", 8, "new")]
    log = gather(
        (Event(f"e{m}", u, "view", i, NOON + m * MINUTE, "y" if i == "2" else "x") for u, m, i in rows), timed=True
    )
    vocab = vocabulary(log.where(log.time < NOON + 5 * MINUTE))
    sequences = Sequences(log, vocab, fakes.manifest().meaning, int(log.time.max()), 10)
    facts = msgspec.structs.replace(fakes.manifest(), items=len(vocab.items))
    step = category_popularity(sequences, len(vocab.items), 2)
    newcomers = (UNDECAYED, weigh_by_count)
    found = evaluate(log, sequences, facts, fakes.step, step, NOON, int(log.time.max()), newcomers=newcomers)
    # a: 1, 1, new, new; b: 2, new. The targets of a: 1 and, twice, new; of b: new.
    assert found.known_item.tolist() == [True, False, False, False]
    assert found.joined.tolist() == [False, True, True, False]
    assert found.rank[3] == 0
    assert (found.rank[1:3] > 0).all()
    assert summary(found, 2)["hr@2_cold"] == 1
    assert summary(found, 2)["targets_cold"] == 2
    without = evaluate(log, sequences, facts, fakes.step, step, NOON, int(log.time.max()))
    assert without.rank.tolist()[1:] == [0, 0, 0]


def test_the_past_builds_the_state_and_is_not_measured(small):
    log, sequences = small
    states = []

    def spy(inputs, hidden):
        states.extend(hidden["h"][:, 0].tolist())
        return _echo(inputs, hidden)

    found = evaluate(log, sequences, fakes.manifest(), fakes.step, spy, NOON + 5 * MINUTE, int(log.time.max()))
    assert found.events == 2
    assert all(state != 0 for state in states)


def test_no_instance_sees_another(log, checkpoint):
    """Scored in chunks or one event at a time: the ranks stay."""
    run, vocab = checkpoint.run, checkpoint.run.vocabulary
    facts = manifest(MEANING, len(vocab.items), len(vocab.categories), 16, "float32", model="1")
    part = log.where(log.user < 40)
    sequences = Sequences(part, vocab, MEANING, int(part.time.max()), 64)
    step = torch_step(checkpoint, recommend=True)

    def one_by_one(inputs, hidden):
        rows = [
            step({k: v[i : i + 1] for k, v in inputs.items()}, {k: v[i : i + 1] for k, v in hidden.items()})
            for i in range(len(inputs["item"]))
        ]
        join = [{k: np.concatenate([row[side][k] for row in rows]) for k in rows[0][side]} for side in (0, 1)]
        return join[0], join[1]

    end, since = int(part.time.max()), int(part.time.min())
    together, alone = (evaluate(part, sequences, facts, s, s, since, end) for s in (step, one_by_one))
    assert (together.rank != alone.rank).mean() < 0.002
    assert together.probability == pytest.approx(alone.probability, abs=1e-5)
    assert run.meaning == MEANING


def test_the_model_beats_the_baselines_on_what_it_was_trained_on(log, checkpoint):
    vocab = checkpoint.run.vocabulary
    facts = manifest(MEANING, len(vocab.items), len(vocab.categories), 16, "float32", model="1")
    end = int(log.time.max())
    sequences = Sequences(log, vocab, MEANING, end, 64)
    since = cutoff(log, 0.3)
    steps = [torch_step(checkpoint, True), popularity(sequences, len(vocab.items), 20)]
    lstm, popular = (summary(evaluate(log, sequences, facts, s, s, since, end), 20) for s in steps)
    assert lstm["hr@20"] > popular["hr@20"]
    assert lstm["log_loss"] < 1
    assert lstm["users"] > 20
    assert 0 < lstm["positives"] < lstm["labelled"] <= lstm["events"]


def test_baselines_by_hand(small):
    _, sequences = small
    inputs = {"item": np.array([1, 3, 0])}
    same, _ = category_popularity(sequences, 3, 2)({"category": np.array([0])}, {})
    assert same["items"].tolist() == [[1, 3]]
    popular, _ = popularity(sequences, 3, 2)(inputs, {})
    assert popular["items"].tolist() == [[1, 3]] * 3
    followed, _ = last_item(sequences, 3, 3)(inputs, {})
    assert followed["items"][0].tolist()[:2] in ([2, 3], [3, 2])
    assert followed["items"][1].tolist() == [1, 3, 2]
    assert followed["items"][2].tolist() == [1, 3, 2]
    assert (np.diff(followed["item_scores"], axis=1) <= 0).all()


def test_without_labels_there_is_no_figure(small):
    log, sequences = small
    found = summary(evaluate(log, sequences, fakes.manifest(), _echo, _echo, NOON, NOON), 2)
    assert found["pr_auc"] is None
    assert found["hr@2"] is not None
