"""The tail of a log that is kept from training: how a network does on it, and what it must beat there."""

from dataclasses import dataclass
from typing import Any

from models.data.log import Log
from models.data.sequences import Sequences, Source
from models.evaluation.comparison import Compared, counted, model
from models.evaluation.prequential import evaluate, summary
from models.network.lstm import Network
from models.network.popularity import Baseline
from models.training.checkpoint import Checkpoint, Run

Metrics = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Holdout:
    """A log whose events from `since` on, up to `end` (ms), measure a run."""

    log: Log
    run: Run
    whole: Sequences
    since: int
    end: int

    @classmethod
    def over(cls, log: Log, run: Run, since: int, end: int) -> "Holdout":
        """Hold out the part of a log from `since` on."""
        return cls(log, run, Sequences(log, run.vocabulary, run.meaning, end, run.config.longest), since, end)

    def __call__(self, network: Network | Baseline) -> Metrics:
        """Measure a network; `selection` chooses the epoch, and is absent where too few examples could."""
        metrics, k = self._measured(model(Checkpoint(network, self.run, {}))), self.run.meaning.k
        # One figure chooses the epoch: both heads count, each where it can be measured.
        parts = [metrics[name] for name in (f"hr@{k}", f"mrr@{k}", "pr_auc") if metrics[name] is not None]
        return metrics | ({"selection": sum(parts)} if parts else {})

    def baselines(self, source: Source) -> dict[str, Metrics]:
        """Measure what is only counted in the training part."""
        return {name: self._measured(contender) for name, contender in counted(self.run, source).items()}

    def _measured(self, contender: Compared) -> Metrics:
        found = evaluate(self.log, self.whole, *contender, since=self.since, end=self.end)
        return summary(found, self.run.meaning.k, self.run.meaning.horizons)
