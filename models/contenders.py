"""Who is measured beside a model, and how far apart they are: intervals over shoppers, differences in pairs."""

from typing import Any, NamedTuple

from models import bestsellers
from models.baselines import BASELINES, LAST_ITEM
from models.batches import Sequences
from models.checkpoint import Checkpoint, Run
from models.evaluate import Examples
from models.intervals import mean_interval, paired_interval
from models.neighbours import WAYS, Neighbours, manifest
from models.steps import describe, torch_step, weigh
from stream.core.manifest import Manifest
from stream.core.newcomers import Weigh
from stream.core.quality import RANKING
from stream.core.scoring import Step


class Contender(NamedTuple):
    """What `evaluate` needs of one: its manifest, its step without and with recommendations, how it ranks newcomers."""

    manifest: Manifest
    warm: Step
    step: Step
    weigh: Weigh | None = None


def model(checkpoint: Checkpoint) -> Contender:
    """Enter a trained network or a counted baseline."""
    facts = describe(checkpoint, "float32", model="1")
    warm, step = (torch_step(checkpoint, recommend) for recommend in (False, True))
    return Contender(facts, warm, step, weigh(checkpoint))


def rivals(run: Run, before: Sequences) -> dict[str, Contender]:
    """Fit to the events `before` the measured ones all that a run's model must beat, but for itself."""
    found = {}
    for name in BASELINES:
        if name != run.config.model:
            network = run.baseline()
            network.learn(before, followed=name == LAST_ITEM)
            found[name] = model(Checkpoint(network.eval(), run, {}))
    items, categories, k = len(run.items), len(run.categories), run.meaning.k
    step = bestsellers.step(before, items, k)
    facts = bestsellers.manifest(run.meaning, items, categories)
    found[bestsellers.NAME] = Contender(facts, step, step, bestsellers.weigh)
    neighbours, facts = Neighbours(before, items), manifest(run.meaning, items, categories)
    for name, way in WAYS.items():
        warm, step = (neighbours.step(way, k, recommend) for recommend in (False, True))
        found[name] = Contender(facts, warm, step)
    return found


def compare(found: dict[str, Examples], of: str, k: int) -> dict[str, dict[str, Any]]:
    """Return by contender the 95 % interval of each ranking metric, and of the lead of `of`'s over it.

    The same shoppers are drawn for all, and their examples are compared one by one.
    """
    return {name: _compared(examples, found[of] if name != of else None, k) for name, examples in found.items()}


def _compared(examples: Examples, other: Examples | None, k: int) -> dict[str, Any]:
    user, intervals, leads = examples.rank_user, {}, {}
    if not len(user):
        return {"interval": {}, "lead": {}}
    for name, metric in RANKING.items():
        values = metric(examples.rank)
        intervals[f"{name}@{k}"] = mean_interval(values, user)[1:]
        if other:
            leads[f"{name}@{k}"] = paired_interval(metric(other.rank), values, user)
    return {"interval": intervals} | ({"lead": leads} if other else {})
