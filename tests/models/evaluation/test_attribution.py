"""Attributions: they add up, they are of the network's own score, and a planted cause comes first by either method."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.log import Log, gather
from models.evaluation import attribution
from models.evaluation.attribution import attribute, explain
from models.evaluation.torch_step import describe, torch_step
from models.network.lstm import Network
from models.training.checkpoint import Checkpoint
from models.training.epochs import train
from stream.core import score
from stream.core.errors import DataError, FaultError
from stream.core.events import Event
from stream.core.features import NUMERIC, Events
from stream.core.ring import fields, without_each
from stream.core.session import record
from tests.fakes import DAY, MINUTE, NOON
from tests.models.conftest import small_run

FIELDS = list(fields(NUMERIC))


def _random(network: Network, seed: int, length: int) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(seed)
    tables = {"item": network.item_vectors, "category": network.category_vectors, "type": network.type_vectors}
    history = {name: torch.from_numpy(random.integers(0, len(t.weight), length)) for name, t in tables.items()}
    numbers = random.uniform(-1, 1.5, (length, len(NUMERIC))).astype(np.float32)
    return history | {"numeric": torch.from_numpy(numbers)}


def _plain(network: Network, history: dict[str, torch.Tensor]) -> list[float]:
    with torch.inference_mode():
        found = network.eval()(**{name: value[None] for name, value in history.items()}, **network.state(1))
        return torch.sigmoid(found.intent[0, -1]).tolist()


def _neutral(history: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(value) for name, value in history.items()}


def _holds(network: Network, history: dict[str, torch.Tensor]) -> None:
    for horizon, (value, neutral) in enumerate(
        zip(_plain(network, history), _plain(network, _neutral(history)), strict=True)
    ):
        found = attribute(network, history, horizon)
        assert found.score == pytest.approx(value, abs=1e-5)
        assert found.baseline == pytest.approx(neutral, abs=1e-5)
        assert abs(found.parts.sum() - (value - neutral)) <= 0.01 * abs(value - neutral) + 1e-3
        assert found.parts.shape == (len(history["item"]), len(FIELDS))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 20))
def test_the_parts_of_a_trained_networks_score_add_up(checkpoint, seed: int, length: int):
    _holds(checkpoint.network, _random(checkpoint.network, seed, length))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31 - 1), length=st.integers(1, 12), size=st.sampled_from([0.5, 1.0, 3.0]))
def test_the_parts_of_any_networks_score_add_up(seed: int, length: int, size: float):
    torch.manual_seed(seed)
    network = Network(items=4, categories=4, types=3, horizons=("1h", "24h"), dimension=6, dropout=0.5, scale=14.0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(size)
    _holds(network, _random(network, seed, length))


def test_what_is_neutral_adds_nothing(checkpoint):
    history = _random(checkpoint.network, 0, 6)
    history["item"][:], history["type"][:], history["numeric"][:, 3:5] = 0, 0, 0
    parts = attribute(checkpoint.network, history, 0).parts
    silent = [FIELDS.index(name) for name in ("item", "type", "hour")]
    assert not parts[:, silent].any()
    assert parts[:, FIELDS.index("category")].any()


def test_too_few_points_are_not_enough(checkpoint, monkeypatch: pytest.MonkeyPatch):
    """Leave no room for an error: the points are doubled to the end, and the sum is refused."""
    monkeypatch.setattr(attribution, "ABSOLUTE", 1e-12)
    monkeypatch.setattr(attribution, "RELATIVE", 0.0)
    monkeypatch.setattr(attribution, "_STEPS_MOST", 64)
    with pytest.raises(FaultError, match="do not add up after 64 points"):
        attribute(checkpoint.network, _random(checkpoint.network, 1, 5), 0)


def _planted(seed: int, shoppers: int) -> list[Event]:
    """Let shoppers view four or five of twelve items, a minute apart; those who met item 7 buy, and nobody else."""
    random, rows = np.random.default_rng(seed), []
    for user in range(shoppers):
        items = random.choice(12, random.integers(4, 6), replace=False)
        begin = NOON + user * 7 * DAY  # always the same hour of the same weekday
        rows += [
            Event(f"{user}-{n}", f"u{user}", "view", f"i{item}", begin + n * MINUTE) for n, item in enumerate(items)
        ]
        if 7 in items[:-1]:
            bought = begin + 20 * MINUTE
            rows.append(Event(f"{user}-t", f"u{user}", "transaction", f"i{random.integers(12)}", bought))
    return rows


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Train on shoppers of whom only those buy who met one item."""
    log = gather(_planted(0, 600), timed=True)
    folder = tmp_path_factory.mktemp("planted")
    dials = {"epochs": 30, "batch_events": 128, "lr": 0.01, "intent_weight": 10.0, "intent_reach": 1.0}
    dials |= dict.fromkeys(("dropout", "intent_dropout", "unknown_rate", "judged"), 0.0)
    return train(*small_run(log, **dials), folder)


def _met(count: int) -> Log:
    """Return new shoppers without their purchases, all of whom met item 7 before their last view."""
    rows = [event for event in _planted(1, count) if event.type == "view"]
    users = [row.user_id for row in rows]
    last = {row.user_id: row for row in rows}
    met = {row.user_id for row in rows if row.item_id == "i7" and row is not last[row.user_id]}
    assert len(met) < len(set(users))
    return gather((row for row in rows if row.user_id in met), timed=True)


def test_a_planted_cause_comes_first_by_integrated_gradients(planted: Checkpoint):
    found = explain(planted, _met(60), (), everyone=True, newest=8)
    assert len(found) > 15
    for one in found:
        assert one.explained["1h"] > 0.5
        cause = max(one.events, key=lambda share: share.contribution["1h"])
        assert cause.item_id == "i7"
        # No pause is 0, the neutral value: what lies between is common to all shoppers.
        assert max(cause.fields.keys() - {"log_gap", "pace"}, key=lambda name: cause.fields[name]["1h"]) == "item"


def test_a_planted_cause_comes_first_by_leaving_events_out(planted: Checkpoint):
    run, log = planted.run, _met(60)
    facts = describe(planted, "float16", model="1")
    vocab, step = run.vocabulary, torch_step(planted, recommend=False)
    item = np.array([vocab.item_index[name] for name in log.items])[log.item]
    n = len(log)
    events = Events(
        slot=log.user,
        time=log.time,
        arrived=log.time,
        type=log.type,
        item=item,
        category=np.zeros(n, np.int64),
        event_print=np.arange(1, n + 1, dtype=np.uint64),
        item_print=vocab.item_print[item],
        category_print=np.zeros(n, np.uint64),
        price=np.full(n, np.nan),
    )
    _, heads = score(events, np.zeros(len(log.users), record(facts)), step, facts)
    intent = without_each(heads, step, facts, vocab, 8)["intent"][..., 0]
    first = np.nanargmax(intent[:, :1] - intent[:, 1:], 1)
    named = vocab.item_of(heads["recent_item"][np.arange(len(heads)), first])
    assert [vocab.items[i - 1] for i in named] == ["i7"] * len(heads)


def test_the_newest_events_are_explained_and_the_others_counted(checkpoint, log: Log):
    user = int(np.bincount(log.user).argmax())
    name = log.users[user]
    (whole,) = explain(checkpoint, log, (name,), everyone=False, newest=10_000)
    (last,) = explain(checkpoint, log, (name,), everyone=False, newest=3)
    assert whole.explained["1h"] == pytest.approx(whole.intent["1h"], abs=1e-5)
    assert last.intent == whole.intent
    assert len(last.events) == 3 < len(whole.events)
    rows = np.flatnonzero(log.user == user)[-3:]
    assert [share.event_time for share in last.events] == log.time[rows][::-1].tolist()
    for share in last.events:
        assert share.contribution["1h"] == pytest.approx(sum(f["1h"] for f in share.fields.values()), abs=1e-5)
    for field in FIELDS:
        total = sum(share.fields[field]["1h"] for share in last.events)
        assert last.fields[field]["1h"] == pytest.approx(total, abs=1e-5)


def test_whose_score_is_explained(checkpoint, log: Log):
    (last,) = explain(checkpoint, log, (), everyone=False, newest=2)
    assert last.user_id == log.users[log.user[log.time.argmax()]]
    both = explain(checkpoint, log, (log.users[5], log.users[2]), everyone=False, newest=2)
    assert [one.user_id for one in both] == [log.users[5], log.users[2]]
    with pytest.raises(DataError, match="no event of the shopper 'nobody'"):
        explain(checkpoint, log, (log.users[5], "nobody"), everyone=False, newest=2)


def test_what_an_item_adds_has_its_price_in_it(priced: Checkpoint):
    """Integrate over a network whose prices matter, up to scores that the network itself gives."""
    network = priced.network
    with torch.no_grad():
        network.price_vectors.weight[1:].normal_()
    history = {name: value[0] for name, value in priced.histories.items()}
    found = attribute(network, history, 0)
    given = {name: value[None] for name, value in history.items()}
    with torch.inference_mode():
        expected = torch.sigmoid(network(**given, **network.state(1)).intent[0, -1, 0])
    assert found.score == pytest.approx(float(expected), abs=1e-5)
    assert found.error <= 1
