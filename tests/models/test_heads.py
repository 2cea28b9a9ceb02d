"""The losses, against plain softmax and plain cross-entropy."""

import torch
from torch.nn import functional as F

from models.heads import NextItem, Purchase


def test_with_all_items_as_negatives_the_loss_is_the_softmax():
    torch.manual_seed(0)
    head, catalog = NextItem(8, 14.0), F.normalize(torch.randn(12, 8), dim=-1)
    query = head(torch.randn(5, 8), torch.randn(5, 8))
    target = torch.tensor([1, 4, 12, 7, 1])
    loss = head.loss(query, catalog[target - 1], catalog, torch.arange(1, 13), torch.zeros(13), target)
    assert torch.allclose(loss, F.cross_entropy(query @ catalog.T, target - 1, reduction="sum"), atol=1e-4)


def test_the_sampled_loss_is_close_to_the_softmax():
    """Log-q correction: popular items are drawn often, and yet the loss is not biased by it."""
    torch.manual_seed(0)
    head, items = NextItem(8, 4.0), 400
    catalog = F.normalize(torch.randn(items + 1, 8), dim=-1)
    query = head(torch.randn(64, 8), torch.randn(64, 8))
    target = torch.randint(1, items + 1, (64,))
    weight = torch.rand(items + 1) ** 3 + 0.01
    weight[0] = 0
    n = 2000
    log_q = torch.log(weight / weight.sum() * n)
    losses = []
    for _ in range(20):
        sampled = torch.multinomial(weight, n, replacement=True)
        losses.append(head.loss(query, catalog[target], catalog[sampled], sampled, log_q, target))
    exact = F.cross_entropy(query @ catalog[1:].T, target - 1, reduction="sum")
    # The positive enters with its own correction: the sampled estimate stays within a few per cent.
    assert abs(torch.stack(losses).mean() - exact) / exact < 0.2


def test_unknown_labels_do_not_count():
    head = Purchase(6, 2)
    logits, label = head(torch.randn(3, 4), torch.randn(3, 2)), torch.tensor([[1, 0], [0, 0], [1, 1]]).bool()
    known = torch.tensor([[True, False], [True, True], [False, False]])
    picked = logits[known]
    expected = F.binary_cross_entropy_with_logits(picked, torch.tensor([1.0, 0.0, 0.0]), reduction="sum")
    assert torch.allclose(head.loss(logits, label, known), expected)
