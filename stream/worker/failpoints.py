"""Where a worker stops itself or drops what it fetched, so that tests can look at just that moment."""

import logging
import os
import random
import signal
import time
from collections.abc import Callable

from stream.core.errors import SettingError
from stream.kafka.exactly_once.transaction import FAILPOINTS

log = logging.getLogger(__name__)
_DROP = "drop-fetch"


def stop_at(spec: str) -> Callable[[str], None]:
    """Stop this process (SIGSTOP) at a point of its n-th round, `POINT@N`: only tests ask for it."""
    point, _, number = spec.partition("@")
    if point not in FAILPOINTS:
        if spec and point != _DROP:
            raise SettingError(f"there is no failpoint {point!r}", f"they are {', '.join(FAILPOINTS)}, {_DROP}")
        return lambda _at: None
    rounds = int(number or 1)

    def pause(at: str) -> None:
        nonlocal rounds
        if at != point:
            return
        rounds -= 1
        if rounds == 0:
            log.warning("failpoint %s: stopping", point)
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.01)

    return pause


def drop_some(spec: str) -> Callable[[], bool]:
    """Drop a share of the fetches, `drop-fetch@SHARE`: only tests ask for it."""
    point, _, share = spec.partition("@")
    if point != _DROP:
        return lambda: False
    chance, dice = float(share or 0.05), random.Random(0)
    return lambda: dice.random() < chance
