"""The other losses: as their formulas say, and they teach."""

import pytest
import torch
from torch.nn import functional as F

from models.heads import losses
from models.heads.losses import bpr_max, smoothed
from models.training.epochs import train
from tests.models.conftest import small_run


def _problem(n=30, items=12, dimension=6):
    torch.manual_seed(0)
    query, catalog = torch.randn(n, dimension, requires_grad=True), torch.randn(items + 1, dimension)
    return query, catalog, torch.randint(1, items + 1, (n,)), torch.arange(1, items + 1)


def test_bpr_max_is_the_papers_formula(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(losses, "_ROWS", 7)
    query, catalog, target, drawn = _problem()
    expected = 0.0
    for q, t in zip(query, target.tolist(), strict=True):
        others = torch.tensor([i for i in drawn.tolist() if i != t])
        scores, own = catalog[others] @ q, catalog[t] @ q
        expected -= torch.log((torch.softmax(scores, 0) * torch.sigmoid(own - scores)).sum())
    found = bpr_max(query, catalog[target], catalog[drawn], target, drawn)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_smoothing_adds_up_to_the_smoothed_cross_entropy():
    query, catalog, target, drawn = _problem()
    logits = query @ catalog[drawn].T
    plain = F.cross_entropy(logits, target - 1, reduction="sum")
    expected = F.cross_entropy(logits, target - 1, reduction="sum", label_smoothing=0.2)
    found = plain + 0.2 * smoothed(query, catalog[target], catalog[drawn])
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("dial", [{"loss": "bpr-max"}, {"smoothing": 0.1}, {"averaging": 0.5}])
def test_a_network_learns_by_it(log, tmp_path, dial: dict[str, object]):
    seen: list[float] = []
    done = train(*small_run(log, epochs=4, judged=0.0, **dial), tmp_path, lambda p: seen.append(p.loss))
    first, last = done.run.epochs[0], done.run.epochs[-1]
    assert last["item_loss"] < first["item_loss"]
    # The mixture's loss is of probabilities, whatever the next item is learned by.
    assert last["mixture_loss"] < first["mixture_loss"]
