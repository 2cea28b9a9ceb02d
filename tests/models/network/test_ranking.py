"""The list of items: the mixture's best, in the judge's order, with probabilities that stay probabilities."""

import torch

from export.parity import random_histories
from models.network.ranking import Ranking


def _asked(checkpoint):
    network = checkpoint.network
    given = {k: torch.from_numpy(v) for k, v in random_histories(checkpoint, seed=6).items()}
    with torch.inference_mode():
        out = network(**given, **network.state(len(given["item"])))
        categories = torch.tensor(checkpoint.run.category_of)
        catalog = network.catalog(torch.arange(1, len(categories) + 1), categories)
    return out.query[:, -1], out.gate[:, -1], out.recent, catalog


def _everything(asked):
    return torch.ones(len(asked[3]) + 1, dtype=torch.bool)


def test_a_silent_judge_leaves_the_mixtures_list(checkpoint):
    ranking = Ranking(checkpoint.network, 5)
    asked = _asked(checkpoint)
    correction = checkpoint.network.judge.correction.weight.detach()
    kept = correction.clone()
    correction.zero_()
    with torch.inference_mode():
        found = ranking.candidates(*asked, ranking.tables())
        scores, places, _ = ranking(*asked[:3], _everything(asked), *asked[3:], ranking.tables())
    correction.copy_(kept)
    assert torch.equal(places, found.place[:, :5])
    assert torch.allclose(scores, found.log_p.exp()[:, :5], rtol=1e-4)


def test_a_judge_moves_items_and_keeps_the_mass(checkpoint):
    ranking = Ranking(checkpoint.network, 100)
    asked, judge = _asked(checkpoint), checkpoint.network.judge
    kept = {name: value.clone() for name, value in judge.state_dict().items()}
    torch.nn.init.normal_(judge.correction.weight)
    with torch.inference_mode():
        found = ranking.candidates(*asked, ranking.tables())
        scores, places, _ = ranking(*asked[:3], _everything(asked), *asked[3:], ranking.tables())
    judge.load_state_dict(kept)
    assert not torch.equal(places, found.place)
    assert torch.equal(places.sort(1).values, found.place.sort(1).values)
    assert torch.allclose(scores.sum(1), found.log_p.exp().sum(1), rtol=1e-4)
    assert (scores.diff(dim=1) <= 0).all()
