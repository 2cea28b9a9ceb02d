"""The losses, against what they are by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from models.data.cooccurrence import OWN, REACHES, RECENT, Table
from models.heads.next_item import Attention, Mixture, Purchase
from models.network.lstm import windows
from models.network.ranking import Pool


def test_the_mixture_is_a_distribution_that_its_loss_agrees_with():
    """Rank by hand: the loss of a target is minus the log of what `rank` gives it."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    items, n = 30, 40
    head, tables = Mixture(items, 4), {}
    for reach in REACHES:
        neighbours, weights = (np.zeros((items + 1, reach.width), kind) for kind in (np.int32, np.float32))
        neighbours[1:, :3] = [random.permutation(items)[:3] + 1 for _ in range(items)]
        weights[1:, :3] = random.random((items, 3)) + 0.1
        tables[reach.name] = Table(neighbours, weights)
    head.know(tables)
    recent = torch.randint(1, items + 1, (n, RECENT))
    gate = head(torch.randn(n, 4), torch.randn(n, 4), recent, head.support(recent))
    logits = torch.randn(n, items)
    given = {
        f"{name}_{part}": torch.from_numpy(getattr(tables[name], part))
        for name in tables
        for part in ("neighbours", "weights")
    }
    named, support = head.named(recent, items, given)
    allowed = torch.ones(items, dtype=torch.bool)
    p = Pool.of(None, torch.softmax(logits, -1), gate, allowed, named, support).mixed
    assert torch.allclose(support, head.support(recent), rtol=1e-5)
    assert torch.allclose(p.sum(1), torch.ones(n), atol=1e-5)
    target = recent[:, 2]
    said = [tables[reach.name].ask(reach, recent.numpy(), target.numpy()) for reach in REACHES]
    assert np.allclose(np.stack([support for _, support in said], 1), head.support(recent), atol=1e-5)
    age = OWN ** torch.arange(RECENT)
    own = ((recent == target[:, None]) * age).sum(1) / age.sum()
    beside = torch.stack([*(torch.from_numpy(share) for share, _ in said), own], 1)
    log_p = torch.log_softmax(logits, 1).gather(1, target[:, None] - 1)[:, 0]
    loss = head.loss(gate, log_p, beside)
    assert torch.allclose(loss, -p.gather(1, target[:, None] - 1).log().sum(), rtol=1e-4)


def test_no_items_yet_leave_the_ranking_alone():
    head = Mixture(5, 4)
    given = {name: buffer for name, buffer in head.named_buffers() if not name.endswith("mass")}
    named, _ = head.named(torch.zeros(1, RECENT, dtype=torch.long), 5, given)
    assert not any(share.any() for _, share in named)


def test_attention_along_sequences_is_the_same_as_event_by_event():
    torch.manual_seed(0)
    attention, embedding = Attention(16), torch.nn.Embedding(9, 16, padding_idx=0)
    torch.nn.init.normal_(attention.age)
    for steps in (1, 5, 30):
        before, item, state = torch.randint(9, (4, RECENT)), torch.randint(9, (4, steps)), torch.randn(4, steps, 16)
        rings = windows(before, item)
        expected = attention(state, embedding(rings), rings)
        found = attention.along(state, embedding(torch.cat([before.flip(1), item], 1)), rings)
        assert torch.allclose(found, expected, atol=1e-5)


def test_attention_sees_what_is_there_only():
    torch.manual_seed(0)
    attention, state = Attention(4), torch.randn(2, 4)
    recent = torch.tensor([[3, 0, 0, 0, 0, 0, 0, 0], [3, 5, 0, 0, 0, 0, 0, 0]])
    vectors = torch.randn(2, RECENT, 4)
    found = attention(state, vectors, recent)
    assert torch.allclose(found[0], vectors[0, 0], atol=1e-6)
    changed = vectors.clone()
    changed[:, 2:] = 9.0
    assert torch.allclose(attention(state, changed, recent), found, atol=1e-6)


def test_unknown_labels_do_not_count():
    head = Purchase(6, ("1h", "session"), 0.0)
    logits, label = head(torch.randn(3, 4), torch.randn(3, 2)), torch.tensor([[1, 0], [0, 0], [1, 1]]).bool()
    known = torch.tensor([[True, False], [True, True], [False, False]])
    picked = logits[known]
    expected = F.binary_cross_entropy_with_logits(picked, torch.tensor([1.0, 0.0, 0.0]), reduction="sum")
    assert torch.allclose(head.loss(logits, label, known), expected)


@given(st.permutations(["1h", "24h", "7d", "session"]), st.integers(0, 2**31))
def test_a_longer_span_is_never_less_probable(horizons: list[str], seed: int):
    torch.manual_seed(seed)
    head = Purchase(6, tuple(horizons), 0.0)
    logits = head(10 * torch.randn(20, 4), 10 * torch.randn(20, 2))
    spans = torch.stack([logits[:, horizons.index(name)] for name in ("1h", "24h", "7d")], 1)
    assert (spans.diff(dim=1) >= 0).all()


def test_a_purchase_counts_as_often_as_it_weighs():
    torch.manual_seed(1)
    logits, label = torch.randn(6, 2), torch.rand(6, 2) < 0.4
    known = torch.tensor([[True, False]] * 3 + [[True, True]] * 3)
    each = F.binary_cross_entropy_with_logits(logits, label.float(), reduction="none")
    places = [tuple(at) for at in known.nonzero().tolist()]
    by_hand = sum(float(each[at]) * (3 if label[at] else 1) for at in places)
    head = Purchase(4, ("1h", "24h"), 0.0)
    assert float(head.loss(logits, label, known, 3.0)) == pytest.approx(by_hand, rel=1e-6)
