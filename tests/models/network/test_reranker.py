"""The judge: learns which answer to believe, and stays silent where it learns nothing."""

import torch

from models.network.reranker import CONTEXT, FEATURES, Reranker, describe
from models.training.reranker_fit import fit


def _instances(n: int, seed: int, planted: bool) -> tuple[torch.Tensor, ...]:
    """Make instances of 10 candidates; if planted, feature 3 tells the one that came next."""
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 10, FEATURES, generator=random)
    context = torch.randn(n, CONTEXT, generator=random)
    target = torch.randint(0, 10, (n,), generator=random)
    if planted:
        features[torch.arange(n), target, 3] += 2.0
    return features, context, torch.full((n, 10), 0.1).log(), target, torch.arange(n)


def test_untrained_it_corrects_nothing():
    features, context, *_ = _instances(5, 0, planted=True)
    assert not Reranker()(features, context).any()


def test_it_learns_what_tells_the_next_item():
    torch.manual_seed(0)
    judge = Reranker()
    assert fit(judge, *_instances(2000, 1, planted=True), seed=0) > 0.3
    features, context, log_p, target, _ = _instances(500, 2, planted=True)
    with torch.inference_mode():
        right = (log_p + judge(features, context)).argmax(1) == target
    assert right.float().mean() > 0.5


def test_where_nothing_helps_it_is_left_silent():
    torch.manual_seed(0)
    judge = Reranker()
    assert fit(judge, *_instances(200, 3, planted=False), seed=0) <= 0
    features, context, *_ = _instances(5, 4, planted=False)
    assert not judge(features, context).any()


def test_what_it_knows_of_a_sequence_by_heart_is_no_gain():
    """In each sequence a feature tells the next item, in half of them the wrong way round: new ones do not."""
    features, context, log_p, target, _ = _instances(2000, 5, planted=False)
    sequence, random = torch.arange(2000) // 50, torch.Generator().manual_seed(6)
    sign = torch.randint(0, 2, (40,), generator=random) * 4.0 - 2
    features[torch.arange(2000), target, 3] += sign[sequence]
    context = torch.randn(40, CONTEXT, generator=random)[sequence]
    gains = []
    for whose in (sequence, torch.arange(2000)):
        torch.manual_seed(0)
        gains.append(fit(Reranker(), features, context, log_p, target, whose, seed=0))
    assert gains[0] < gains[1] / 2  # what is left: it is far off, whichever way round


def test_a_single_sequence_tells_nothing():
    judge = Reranker()
    features, context, log_p, target, _ = _instances(300, 1, planted=True)
    assert fit(judge, features, context, log_p, target, torch.zeros(300, dtype=torch.long), seed=0) == 0
    assert not judge(features, context).any()


def test_the_same_seed_gives_the_same_judge():
    one, two = Reranker(), Reranker()
    for judge in (one, two):
        torch.manual_seed(5)
        fit(judge, *_instances(300, 1, planted=True), seed=7)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_recent_items_that_are_not_there_have_no_say():
    answers, mixed = torch.rand(1, 3, 4), torch.rand(1, 3)
    alike, same, popularity = torch.zeros(1, 3, 8), torch.zeros(1, 3, 8), torch.zeros(1, 3, 2)
    alike[..., 0] = 0.5
    found = describe(answers, mixed, alike, same, popularity)
    assert found.shape == (1, 3, FEATURES)
    assert torch.allclose(found[..., -3], torch.tensor(0.5))  # the mean is of the one that is there
