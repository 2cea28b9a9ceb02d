"""The fused softmax: the same loss and gradient as written out, and an estimate of the whole catalog's."""

import torch
from torch.nn import functional as F

from models.softmax import sampled_softmax


def _problem(n=300, items=40, dimension=8):
    torch.manual_seed(0)
    query = torch.randn(n, dimension, requires_grad=True)
    vectors = torch.randn(items, dimension, requires_grad=True)
    return query, vectors, torch.randint(0, items, (n,))


def test_over_all_items_it_is_the_cross_entropy_with_its_gradients():
    query, vectors, target = _problem()
    loss, log_p = sampled_softmax(query, vectors, target, torch.zeros(len(vectors)))
    (3 * loss).backward()
    mine = query.grad.clone(), vectors.grad.clone()
    query.grad = vectors.grad = None
    exact = F.cross_entropy(query @ vectors.T, target, reduction="sum")
    (3 * exact).backward()
    assert torch.allclose(loss, exact, rtol=1e-5)
    assert torch.allclose(-log_p.sum(), exact, rtol=1e-5)
    assert torch.allclose(mine[0], query.grad, atol=1e-4)
    assert torch.allclose(mine[1], vectors.grad, atol=1e-4)


def test_over_a_sample_it_estimates_the_probability_over_all_items():
    """The sum over the sample is right on average; a target that is rare counts once, not by its rarity."""
    query, vectors, target = _problem(n=64, items=2000)
    with torch.no_grad():
        exact = F.log_softmax(query @ vectors.T / 3, 1).gather(1, target[:, None])[:, 0]
        weight = torch.rand(len(vectors)) + 0.05
        expected = 400 * weight / weight.sum()
        found = []
        for one in range(len(query)):
            drawn = torch.unique(torch.cat([torch.multinomial(weight, 400, replacement=True), target[one, None]]))
            place = torch.searchsorted(drawn, target[one, None])
            log_q = torch.log(-torch.expm1(-expected[drawn]))
            found.append(sampled_softmax(query[one, None] / 3, vectors[drawn], place, log_q)[1])
    assert abs((torch.cat(found) - exact).mean()) < 0.1
