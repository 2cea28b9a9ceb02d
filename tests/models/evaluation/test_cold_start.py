"""What unseen items deserve, fitted: more where more of what comes next is new."""

import random

import numpy as np
from msgspec import UNSET

from models.data.log import LEVELS, Log, gather
from models.evaluation.cold_start import fit
from models.training.checkpoint import Checkpoint
from stream.core.events import Event
from tests.fakes import HOUR, NOON


def _log(log: Log, renewed: float) -> Log:
    """Rename, in the last quarter of a log, the items of about that share: they are new there."""
    late = log.time >= np.quantile(log.time, 0.75)
    number = np.array([int(name.rpartition("-")[2]) for name in log.items])
    new = late & (number[log.item] % 10 < 10 * renewed)
    names = [f"{log.items[i]}-new" if n else log.items[i] for i, n in zip(log.item.tolist(), new.tolist(), strict=True)]
    rows = zip(log.user.tolist(), log.type.tolist(), names, log.time.tolist(), log.category.tolist(), strict=True)
    events = (
        Event(f"e{n}", log.users[u], log.types[t], name, time, log.categories[c])
        for n, (u, t, name, time, c) in enumerate(rows)
    )
    return gather(events, timed=True)


def test_the_more_is_new_the_more_it_gets(log: Log, checkpoint: Checkpoint):
    biases = [fit(checkpoint, _log(log, renewed)).bias for renewed in (0.0, 0.2, 0.8)]
    assert biases[0] < biases[1] < biases[2]


def test_a_model_of_prices_says_how_they_are_divided(priced: Checkpoint, checkpoint: Checkpoint, log: Log):
    events = (Event(f"e{n}", f"u{n % 9}", "view", f"new-{n % 5}", NOON + n, price=2.0) for n in range(60))
    fitted = fit(priced, gather(events, timed=True))
    assert fitted.price_edges == priced.run.edges and len(priced.run.edges) == LEVELS - 1
    assert fit(checkpoint, log).price_edges is UNSET


def test_new_items_that_are_soon_forgotten_have_a_short_half_life(log: Log, checkpoint: Checkpoint):
    def half_life(hours: int) -> float:
        """Let users meet one of forty new items, each for so many hours, then another."""
        dice = random.Random(1)
        rows = ((n, n // 10 // hours if dice.random() < 0.9 else dice.randrange(40)) for n in range(1200))
        events = (Event(f"e{n}", f"u{n % 7}", "view", f"new-{k % 40}", NOON + n * HOUR // 10) for n, k in rows)
        return fit(checkpoint, gather(events, timed=True)).half_life

    assert half_life(2) == HOUR < half_life(120)


def test_who_comes_back_to_new_items_gets_more_of_them(log: Log, checkpoint: Checkpoint):
    def scaled(again: bool) -> float:
        """Let shoppers meet new items only: each twice in a row, or those that others have met."""
        items = [f"new-{n // 2 if again else n % 60}" for n in range(600)]
        events = (Event(f"e{n}", f"u{n % 600 // 60}", "view", item, NOON + n) for n, item in enumerate(items))
        scale, shift = fit(checkpoint, gather(events, timed=True)).own
        return scale * -2.0 + shift  # of a share of an eighth

    assert scaled(again=True) > scaled(again=False) + 1
