"""The losses, against what they are by hand."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from models.covisits import NEAR, OWN, RECENT, WINDOW
from models.heads import Attention, Mixture, Purchase


def test_the_mixture_is_a_distribution_that_its_loss_agrees_with():
    """Rank by hand: the loss of a target is minus the log of what `rank` gives it."""
    torch.manual_seed(0)
    items, n = 30, 40
    head = Mixture(items, 4)
    head.neighbours[1:, :3] = torch.stack([torch.randperm(items)[:3] + 1 for _ in range(items)]).int()
    head.weights[1:, :3] = torch.rand(items, 3) + 0.1
    head.mass.copy_(head.weights.sum(1))
    recent = torch.randint(1, items + 1, (n, RECENT))
    gate = head(torch.randn(n, 4), torch.randn(n, 4), recent, head.support(recent))
    logits = torch.randn(n, items)
    p = head.rank(logits, gate, recent)
    assert torch.allclose(p.sum(1), torch.ones(n), atol=1e-5)
    target = recent[:, 2]
    fading = NEAR ** torch.arange(WINDOW)
    hit = (head.weights[recent[:, :WINDOW]] * (head.neighbours[recent[:, :WINDOW]] == target[:, None, None])).sum(2)
    near = (hit * fading).sum(1) / head.support(recent)
    age = OWN ** torch.arange(RECENT)
    own = ((recent == target[:, None]) * age).sum(1) / age.sum()
    log_p = torch.log_softmax(logits, 1).gather(1, target[:, None] - 1)[:, 0]
    loss = head.loss(gate, log_p, torch.stack([near, own, near], 1))
    assert torch.allclose(loss, -p.gather(1, target[:, None] - 1).log().sum(), rtol=1e-4)


def test_no_items_yet_leave_the_ranking_alone():
    head = Mixture(5, 4)
    recent = torch.zeros(1, RECENT, dtype=torch.long)
    gate = head(torch.zeros(1, 4), torch.zeros(1, 4), recent, head.support(recent))
    logits = torch.randn(1, 5)
    assert torch.allclose(head.rank(logits, gate, recent), torch.softmax(logits, 1) * gate[:, :1].exp())


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
