"""How much items that training did not see deserve, fitted on the end of the training part.

Newness is acted out: the items that first appear in that end are taken for unseen, and the rankings with them are
compared with what came next.
"""

from dataclasses import dataclass, field

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from models.data.log import Log, cutoff
from models.data.sequences import Sequences
from models.evaluation.prequential import CHUNK, events_of
from models.evaluation.torch_step import by_category, describe, torch_step
from models.network.lstm import Network
from models.training.calibration import line
from models.training.checkpoint import Checkpoint
from stream.core import score
from stream.core.calibration import expit, logit
from stream.core.hashing import fingerprints
from stream.core.manifest import ColdStart, Vocabulary
from stream.core.session import record
from stream.recommend.cold_items import Table
from stream.recommend.cold_ranking import Answers, ByCategory, Floats, along, join, own_newcomers

HOUR = 3_600_000
_TAIL, _EVENTS = 0.1, 50_000  # the end: part of the training part, and at most so many events
_HALF_LIVES, _FOREVER = (1.0, 6.0, 24.0, 96.0), 1e15  # hours; ms
_BIASES = np.linspace(-25, 10, 351)


@dataclass(slots=True)
class _Record:
    """Stand in for `ByCategory`, and write down what the likelihood of each target needs."""

    by: ByCategory
    items: int
    rows: list[NDArray[np.float64]] = field(default_factory=list)

    def __call__(self, answers: Answers, table: Table, log_count: Floats) -> tuple[Floats, Floats]:
        odds, log_mass = self.by.odds(answers, table, log_count)
        target, recent = answers["target"], answers["recent"]
        slot = table.slots(np.where(target > self.items, target, 0))
        new = np.where(slot >= 0, odds[np.arange(len(slot)), slot], 0)
        _, own = own_newcomers(table, answers, self.items)
        met = (own * (recent == target[:, None])).sum(1)
        # A target that has not come before can be in no list, and says nothing.
        asked = (target > 0) & ((target <= self.items) | (new > 0))
        columns = answers["others"], log_mass, new, met, own.sum(1), target <= self.items
        self.rows.append(np.stack(columns, 1)[asked].astype(np.float64))
        return np.zeros(len(odds), np.float32), np.zeros_like(odds)

    def best(self) -> tuple[float, float, tuple[float, float]]:
        """Return the mean log likelihood at the best bias, the bias, and the line of the user's own cold items.

        What depends on neither is left out of the likelihood.
        """
        if not sum(map(len, self.rows)):
            return 0.0, float(_BIASES[0]), (1.0, 0.0)  # nothing was new
        others, log_mass, new, met, said, known = np.concatenate(self.rows).T
        own = line(logit(said[said > 0]), met[said > 0] > 0)
        more, less = along(own, said)

        def likelihood(bias: float) -> float:
            share = others * expit(bias + log_mass)
            p = np.where(known > 0, (1 - share) * less, (1 - share) * met * more + share * new)
            return float(np.log(np.maximum(p, 1e-12)).mean())

        found = [likelihood(bias) for bias in _BIASES]
        at = int(np.argmax(found))
        return found[at], float(_BIASES[at]), own


def fit(checkpoint: Checkpoint, log: Log) -> ColdStart:
    """Fit bias and half-life to the end of a log, all of which the network was trained on.

    Of several half-lives the one is taken under which what came next is most likely. A log of sessions has no
    times to tell them apart.
    """
    since = max(cutoff(log, _TAIL), int(np.sort(log.time)[-_EVENTS:][0]))
    fresh = np.ones(len(log.items), bool)
    fresh[log.item[log.time < since]] = False
    part = log.where(np.isin(log.user, np.unique(log.user[log.time >= since])))
    tried = [hours * HOUR for hours in _HALF_LIVES] if log.timed else [_FOREVER]
    records = _replay(checkpoint, part, fresh, since, tried)
    (_, bias, own), half_life = max((record.best(), half_life) for half_life, record in records.items())
    return ColdStart(bias=bias, half_life=half_life, price_edges=checkpoint.run.edges or UNSET, own=own)


def _replay(
    checkpoint: Checkpoint, log: Log, fresh: NDArray[np.bool_], since: int, half_lives: list[float]
) -> dict[float, _Record]:
    """Score a log without its `fresh` items, and record what follows from `since` (ms) on."""
    run, vocab = checkpoint.run, checkpoint.run.vocabulary
    facts = describe(checkpoint, "float32", model="1")
    sequences = _without(Sequences(log, vocab, run.meaning, int(log.time.max()), run.config.longest), log, vocab, fresh)
    assert isinstance(checkpoint.network, Network)
    by = by_category(checkpoint.network, 0.0, run.edges)
    steps = [torch_step(checkpoint, recommend) for recommend in (False, True)]
    records = {half_life: (_Record(by, facts.items), Table()) for half_life in half_lives}
    sessions, order = np.zeros(len(log.users), record(facts)), np.argsort(log.time, kind="stable")
    split = int(np.searchsorted(log.time[order], since))
    for begin, stop, step in [(0, split, steps[0]), (split, len(order), steps[1])]:
        for at in range(begin, stop, CHUNK):
            rows = order[at : min(at + CHUNK, stop)]
            touched, slot = np.unique(log.user[rows], return_inverse=True)
            events = events_of(log, sequences, rows, slot)
            scores, sessions[touched] = score(events, sessions[touched], step, facts)
            if scores.items is None:
                continue
            names = [log.items[i] for i in log.item[rows].tolist()]
            scores.answers["target"] = sequences.target[rows]
            for half_life, (note, table) in records.items():
                join(table, events, scores, names, ColdStart(bias=0.0, half_life=half_life), facts.items, note)
    return {half_life: note for half_life, (note, _) in records.items()}


def _without(sequences: Sequences, log: Log, vocab: Vocabulary, fresh: NDArray[np.bool_]) -> Sequences:
    """Take the items that are `fresh` for cold items."""
    unseen = vocab.newcomer(fingerprints(log.items))
    sequences.item = np.where(fresh[log.item], unseen[log.item], sequences.item)
    following = np.r_[log.item[1:], 0]
    sequences.target = np.where(fresh[following] & (sequences.target > 0), unseen[following], sequences.target)
    return sequences
