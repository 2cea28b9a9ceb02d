"""The evaluation: by hand, and each instance alone."""

import numpy as np
import pytest

from models.baselines import category_popularity
from models.data.log import cutoff, gather, vocabulary
from models.data.sequences import Sequences
from models.evaluation.comparison import model
from models.evaluation.prequential import evaluate, events_of, summary
from models.evaluation.torch_step import describe, torch_step
from models.training.checkpoint import Checkpoint
from stream.core.events import Event
from tests import fakes
from tests.fakes import HOUR, MINUTE, NOON
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
        log, sequences, fakes.manifest(), fakes.step, _echo, None, NOON + minute * MINUTE, int(log.time.max()), targets
    )
    minutes = ((log.time[found.rank_row] - NOON) // MINUTE).tolist()
    assert {(ROWS[m][0], m): rank for m, rank in zip(minutes, found.rank.tolist(), strict=True)} == ranks
    assert found.known_item.sum() == len(ranks) - 1  # "new" is in no vocabulary


@pytest.mark.usefixtures("few_suffice")
def test_an_unseen_item_is_a_miss_before_it_joins_and_can_be_found_after(small):
    """Shopper a sees "new" after shopper b did; b's own target "new" comes before anyone has seen it."""
    rows = [("a", 0, "1"), ("b", 1, "2"), ("b", 5, "new"), ("a", 6, "1"), ("a", 7, "new"), ("a", 8, "new")]
    log = gather(
        (Event(f"e{m}", u, "view", i, NOON + m * MINUTE, "y" if i == "2" else "x") for u, m, i in rows), timed=True
    )
    vocab = vocabulary(log.where(log.time < NOON + 5 * MINUTE))
    sequences = Sequences(log, vocab, fakes.manifest().meaning, int(log.time.max()), 10)
    facts, end = category_popularity.manifest(fakes.manifest().meaning, len(vocab.items), 2), int(log.time.max())
    step = category_popularity.step(sequences, len(vocab.items), 2)
    found = evaluate(log, sequences, facts, step, step, category_popularity.weigh, NOON, end, users=0)
    # a: 1, 1, new, new; b: 2, new. The targets of a: 1 and, twice, new; of b: new.
    assert found.known_item.tolist() == [True, False, False, False]
    assert found.joined.tolist() == [False, True, True, False]
    assert found.rank[3] == 0
    assert (found.rank[1:3] > 0).all()
    told = summary(found, 2, ("1h", "24h"))
    assert (told["hr@2_joined"], told["targets_joined"]) == (1, 2)
    without = evaluate(log, sequences, facts, step, step, None, NOON, end)
    assert without.rank.tolist()[1:] == [0, 0, 0]


def test_an_unseen_item_joins_before_the_measured_part_too_whoever_saw_it():
    """Shopper c, who does not come back, saw "new" after training and before what is measured."""
    rows = [("a", 0, "1"), ("b", 1, "2"), ("c", 4, "new"), ("a", 6, "1"), ("a", 7, "new")]
    log = gather(
        (Event(f"e{m}", u, "view", i, NOON + m * MINUTE, "y" if i == "2" else "x") for u, m, i in rows), timed=True
    )
    vocab, end = vocabulary(log.where(log.time < NOON + 3 * MINUTE)), int(log.time.max())
    sequences = Sequences(log, vocab, fakes.manifest().meaning, end, 10)
    facts, step = (
        category_popularity.manifest(fakes.manifest().meaning, 2, 2),
        category_popularity.step(sequences, 2, 2),
    )
    for weigh, found in ((category_popularity.weigh, True), (None, False)):
        examples = evaluate(log, sequences, facts, step, step, weigh, NOON + 5 * MINUTE, end, users=0)
        assert examples.joined.tolist() == [True]
        assert (examples.rank > 0).tolist() == [found]


def test_no_price_comes_before_its_event():
    rows = [("a", 0, None), ("b", 1, 5.0), ("a", 2, None)]
    log = gather((Event(f"e{m}", u, "view", "x", NOON + m * MINUTE, price=p) for u, m, p in rows), timed=True)
    sequences = Sequences(log, vocabulary(log), fakes.manifest().meaning, int(log.time.max()), 10)
    at = np.argsort(log.time)
    assert events_of(log, sequences, at, log.user[at]).price == pytest.approx([np.nan, 5, 5], nan_ok=True)


def test_the_past_builds_the_state_and_is_not_measured(small):
    log, sequences = small
    states = []

    def spy(inputs, hidden):
        states.extend(hidden["h"][:, 0].tolist())
        return _echo(inputs, hidden)

    found = evaluate(log, sequences, fakes.manifest(), fakes.step, spy, None, NOON + 5 * MINUTE, int(log.time.max()))
    assert found.events == 2
    assert all(state != 0 for state in states)


def test_no_instance_sees_another(log, checkpoint):
    """Scored in chunks or one event at a time: the ranks stay."""
    run, vocab = checkpoint.run, checkpoint.run.vocabulary
    facts = describe(checkpoint, "float32", model="1")
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
    together, alone = (evaluate(part, sequences, facts, s, s, None, since, end) for s in (step, one_by_one))
    assert (together.rank != alone.rank).mean() < 0.002
    assert together.probability == pytest.approx(alone.probability, abs=1e-5)
    assert run.meaning == MEANING


@pytest.mark.usefixtures("few_suffice")
def test_the_model_beats_the_baselines_on_what_it_was_trained_on(log, checkpoint):
    vocab = checkpoint.run.vocabulary
    baseline = Checkpoint(checkpoint.run.baseline(), checkpoint.run, {})
    end = int(log.time.max())
    sequences = Sequences(log, vocab, MEANING, end, 64)
    since = cutoff(log, 0.3)
    baseline.network.learn(sequences, followed=False)
    lstm, popular = (
        summary(evaluate(log, sequences, *model(point), since, end), 20, MEANING.horizons)
        for point in (checkpoint, baseline)
    )
    assert lstm["hr@20"] > popular["hr@20"]
    assert lstm["log_loss"] < 1
    assert lstm["users"] > 20
    assert 0 < lstm["positives"] < lstm["labelled"] <= lstm["events"]


def test_a_tie_at_the_end_of_the_list_is_a_miss(small):
    log, sequences = small

    def tied(inputs, hidden):
        outputs, state = fakes.step(inputs, hidden)
        n = len(inputs["item"])
        return {
            **outputs,
            "items": np.tile([3, 2, 1], (n, 1)),
            "item_scores": np.tile(np.float32([2, 1, 1]), (n, 1)),
        }, state

    facts = fakes.manifest(k=2)
    found = evaluate(log, sequences, facts, fakes.step, tied, None, NOON, int(log.time.max()))
    asked = sequences.target[found.rank_row].tolist()
    ranks = {item: rank for item, rank in zip(asked, found.rank.tolist(), strict=True) if item <= 3}
    assert ranks == {1: 0, 2: 0, 3: 1}


def test_prefixes_can_be_asked_from_a_length_on(small):
    log, sequences = small
    lengths = {1: [0, 0, 0, 0, 2], 2: [0, 0, 2], 3: [2], 4: []}
    for shortest, ranks in lengths.items():
        found = evaluate(
            log, sequences, fakes.manifest(), fakes.step, _echo, None, NOON, int(log.time.max()), "all", shortest
        )
        assert sorted(found.rank.tolist()) == ranks


@pytest.mark.usefixtures("few_suffice")
def test_known_targets_are_reported_beside_all(small):
    log, sequences = small
    found = summary(evaluate(log, sequences, fakes.manifest(), _echo, _echo, None, NOON, NOON + HOUR), 2, ("1h", "24h"))
    assert found["hr@2"] == pytest.approx(1 / 5)
    assert found["hr@2_known"] == pytest.approx(1 / 4)


def test_the_states_of_shoppers_who_are_not_measured_are_not_built(small):
    log, sequences = small
    seen = []

    def spy(inputs, hidden):
        seen.extend(inputs["item"].tolist())
        return fakes.step(inputs, hidden)

    found = evaluate(log, sequences, fakes.manifest(), spy, _echo, None, NOON + 6 * MINUTE, int(log.time.max()))
    assert found.events == 1
    assert len(seen) == 3  # the earlier events of "a"


@pytest.mark.usefixtures("few_suffice")
def test_without_labels_there_is_no_figure(small):
    log, sequences = small
    found = summary(evaluate(log, sequences, fakes.manifest(), _echo, _echo, None, NOON, NOON), 2, ("1h", "24h"))
    assert found["pr_auc"] is None
    assert found["hr@2"] is not None


def test_what_gets_no_number_is_counted_apart(small):
    """A step that fails on item 3 leaves two of seven events without a score."""
    log, sequences = small

    def failing(inputs, hidden):
        outputs, state = _echo(inputs, hidden)
        outputs["intent"] = np.where((inputs["item"] == 3)[:, None], np.nan, outputs["intent"])
        return outputs, state

    end = int(log.time.max())
    found = evaluate(log, sequences, fakes.manifest(), fakes.step, failing, None, NOON, end)
    assert (found.events, found.unscored) == (len(ROWS) - 2, 2)
    assert summary(found, 2, ("1h", "24h"))["unscored"] == 2
