"""Who is measured beside a model, and how far apart they are: intervals over users, differences in pairs."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from models.baselines import category_popularity, recent_items
from models.baselines.session_knn import WAYS, SessionKnn, manifest
from models.baselines.tabular_models import TABULAR
from models.data.log import Log, labels
from models.data.sequences import Sequences, Source
from models.enough import enough
from models.evaluation.bootstrap import intervals, mean_interval, paired, paired_interval
from models.evaluation.cross_validation import Split, tabular
from models.evaluation.metrics import RANKING
from models.evaluation.prequential import Examples
from models.evaluation.torch_step import describe, torch_step, weigh
from models.network.popularity import BASELINES, LAST_ITEM, POPULARITY
from models.training.checkpoint import Checkpoint, Run
from stream.core.manifest import STATES, Manifest
from stream.core.scoring import Step
from stream.recommend.cold_ranking import Weigh

_ROUNDS = 300  # of the purchases' bootstrap, which sorts all events


class Compared(NamedTuple):
    """What `evaluate` needs of a model: its manifest, its step without and with lists, how it ranks cold items."""

    manifest: Manifest
    warm: Step
    step: Step
    weigh: Weigh | None = None


def model(checkpoint: Checkpoint, state: str = STATES[0]) -> Compared:
    """Enter a trained network or a counted baseline, whose `state` is stored as a bundle of it would."""
    facts = describe(checkpoint, state, model="1")
    warm, step = (torch_step(checkpoint, recommend) for recommend in (False, True))
    return Compared(facts, warm, step, weigh(checkpoint))


def counted(run: Run, before: Source) -> dict[str, Compared]:
    """Fit to the events `before` the measured ones what is only counted, but for the run's own model."""
    networks = {name: run.baseline() for name in BASELINES}
    for name, network in networks.items():
        network.learn(before, followed=name == LAST_ITEM)
    found = {n: model(Checkpoint(net.eval(), run, {})) for n, net in networks.items() if n != run.config.model}
    own = recent_items.step(torch.sigmoid(networks[POPULARITY].logit).numpy())
    facts = recent_items.manifest(run.meaning, len(run.items), len(run.categories))
    return found | {recent_items.NAME: Compared(facts, own, own)}


def rivals(run: Run, before: Sequences) -> dict[str, Compared]:
    """Fit to the events `before` the measured ones all that a run's model must beat, but for itself."""
    found = counted(run, before)
    items, categories, k = len(run.items), len(run.categories), run.meaning.k
    step = category_popularity.step(before, items, k)
    facts = category_popularity.manifest(run.meaning, items, categories)
    found[category_popularity.NAME] = Compared(facts, step, step, category_popularity.weigh)
    neighbours, facts = SessionKnn(before, items), manifest(run.meaning, items, categories)
    for name, way in WAYS.items():
        warm, step = (neighbours.step(way, k, recommend) for recommend in (False, True))
        found[name] = Compared(facts, warm, step)
    return found


def tabular_rivals(run: Run, log: Log, since: int, like: Examples) -> dict[str, Examples]:
    """Predict the same purchases from hand-made features, by models fitted to the log before `since` (ms).

    There are none where that part does not have events of both kinds for each horizon.
    """
    train, test = log.time < since, np.zeros(len(log), bool)
    test[like.rows] = True
    label, known = labels(log.where(train), run.meaning, since)
    if not ((label & known).any(0) & (~label & known).any(0)).all():
        return {}
    part = Split(0, log, train, test, since, int(log.time.max()))
    no = slice(0)
    unranked = replace(
        like, rank=like.rank[no], rank_user=like.rank_user[no], known_item=like.known_item[no],
        joined=like.joined[no], fresh=like.fresh[no], rank_row=like.rank_row[no],
    )  # fmt: skip
    found = {}
    for name, fit in TABULAR.items():
        p = tabular(fit, log, run.meaning, run.config.seed)(part)
        found[name] = replace(unranked, intent=p, probability=p[like.known[:, 0], 0])
    return found


def compare(found: dict[str, Examples], of: str, k: int) -> dict[str, dict[str, Any]]:
    """Return by model the 95 % interval of each ranking metric and of PR-AUC, and of the lead of `of`'s over it.

    What has too few examples is absent.
    The same users are drawn for all, and their examples are compared one by one; the lead in PR-AUC is a share.
    """
    return {name: _compared(examples, found[of] if name != of else None, k) for name, examples in found.items()}


def _compared(examples: Examples, other: Examples | None, k: int) -> dict[str, Any]:
    bounds, leads = {}, {}
    if enough(len(user := examples.rank_user), examples.users):
        for name, metric in RANKING.items():
            values = metric(examples.rank)
            bounds[f"{name}@{k}"] = mean_interval(values, user)[1:]
            if other:
                leads[f"{name}@{k}"] = paired_interval(metric(other.rank), values, user)
    if enough(int(examples.label.sum()), examples.users):
        label, p, user = examples.label, examples.probability, examples.label_user
        bounds["pr_auc"] = intervals("pr_auc", label, p, user, _ROUNDS)[1:]
        if other:
            leads["pr_auc"] = paired("pr_auc", label, other.probability, p, user, _ROUNDS)
    return {"interval": bounds} | ({"lead": leads} if other else {})
