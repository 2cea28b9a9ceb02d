"""The fused softmax: the same loss and gradient as written out, and an estimate of the whole catalog's."""

import pytest
import torch
from torch.nn import functional as F

from models.heads.sampled_softmax import sampled_softmax


def _problem(n=300, items=40, dimension=8):
    torch.manual_seed(0)
    query = torch.randn(n, dimension, requires_grad=True)
    vectors = torch.randn(items, dimension, requires_grad=True)
    return query, vectors, torch.randint(0, items, (n,))


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def kind(request, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    monkeypatch.setattr("models.heads.sampled_softmax.multiplied", lambda _: request.param)
    return request.param


def _near(one: torch.Tensor, other: torch.Tensor, kind: torch.dtype) -> bool:
    """Within a hundredth of the whole where the matrices have 16 bits."""
    return float((one - other).norm() / other.norm()) < (1e-2 if kind == torch.bfloat16 else 1e-5)


def test_over_all_items_it_is_the_cross_entropy_with_its_gradients(kind: torch.dtype):
    query, vectors, target = _problem()
    loss, log_p = sampled_softmax(query, vectors[target], vectors, target, torch.zeros(len(vectors)))
    (3 * loss).backward()
    mine = query.grad.clone(), vectors.grad.clone()
    query.grad = vectors.grad = None
    exact = F.cross_entropy(query @ vectors.T, target, reduction="sum")
    (3 * exact).backward()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2 if kind == torch.bfloat16 else 1e-5)
    assert torch.equal(-log_p.sum(), loss)
    assert _near(mine[0], query.grad, kind)
    assert _near(mine[1], vectors.grad, kind)


def test_a_target_that_was_not_drawn_takes_a_candidates_place():
    """The loss and the gradients are those of the other candidates and the target, the target's logit uncorrected."""
    query, vectors, target = _problem()
    drawn, place, log_q = torch.arange(0, 40, 2), torch.randint(0, 20, (len(query),)), -torch.rand(20)
    place = torch.where(target % 2 == 0, target // 2, place)
    loss, _ = sampled_softmax(query, vectors[target], vectors[drawn], place, log_q)
    loss.backward()
    mine = query.grad.clone(), vectors.grad.clone()
    query.grad = vectors.grad = None
    logits = query @ vectors[drawn].T - log_q
    own = (query * vectors[target]).sum(1)
    exact = F.cross_entropy(logits.scatter(1, place[:, None], own[:, None]), place, reduction="sum")
    exact.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)
    assert _near(mine[0], query.grad, torch.bfloat16)
    assert _near(mine[1], vectors.grad, torch.bfloat16)


def test_over_a_sample_it_estimates_the_probability_over_all_items():
    """The sum over the sample is right on average; a target that is rare counts once, not by its rarity."""
    query, vectors, target = _problem(n=64, items=2000)
    with torch.no_grad():
        exact = F.log_softmax(query @ vectors.T / 3, 1).gather(1, target[:, None])[:, 0]
        weight = torch.rand(len(vectors)) + 0.05
        expected = 400 * weight / weight.sum()
        found = []
        for one in range(len(query)):
            drawn = torch.unique(torch.multinomial(weight, 400, replacement=True))
            place = torch.searchsorted(drawn, target[one, None]).clamp_max(len(drawn) - 1)
            log_q = torch.log(-torch.expm1(-expected[drawn]))
            own = vectors[target[one, None]]
            found.append(sampled_softmax(query[one, None] / 3, own, vectors[drawn], place, log_q)[1])
    assert abs((torch.cat(found) - exact).mean()) < 0.1
