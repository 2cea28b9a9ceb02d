"""Who has been idle for longest: by the partition's clock, then by event time, then by name, so that all are in order.

All of it is in the session records, so that a restart finds the same order; what a user's event does is to move it
towards the end. How far a chunk can be scored before somebody's going could show is told here, too.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.session import Sessions

if TYPE_CHECKING:
    from stream.state.sessions import SessionStore

Ints = NDArray[np.int64]
_NEVER = np.iinfo(np.int64).max


class LongestIdle(NamedTuple):
    """Users, the longest idle first: their slots, the clock and the event time (ms) of their newest events."""

    slots: Ints
    arrived: Ints
    last: Ints


def longest(records: Sessions, n: int, names: Callable[[Ints], list[str]]) -> LongestIdle:
    """Return the `n` longest idle of records by slot, those without a state left out; `names` are those of slots."""
    arrived = np.where(records["model"] != 0, records["arrived"], _NEVER)
    n = min(n, int(np.count_nonzero(arrived < _NEVER)))
    if n <= 0:
        return LongestIdle(*(np.zeros(0, np.int64) for _ in LongestIdle._fields))
    at = np.partition(arrived, n - 1)[n - 1]
    before, tied = np.flatnonzero(arrived < at), np.flatnonzero(arrived == at)
    last = records["last"][tied]
    rest = n - len(before)
    tied = tied[last <= np.partition(last, rest - 1)[rest - 1]]
    slots = np.concatenate([before, tied])
    arrived, last = arrived[slots], records["last"][slots]
    order = np.lexsort((last, arrived))
    same = (np.diff(arrived[order]) == 0) & (np.diff(last[order]) == 0)
    if same.any():
        called = names(slots)
        by_name = np.array(sorted(range(len(slots)), key=called.__getitem__), np.int64)
        order = by_name[np.lexsort((last[by_name], arrived[by_name]))]
    order = order[:n]
    return LongestIdle(slots[order], arrived[order], last[order])


def steady(store: "SessionStore", users: Sequence[str], clock: Ints, time: Ints, most: int) -> int:
    """Return how many events, 1 at least, can be scored before it shows who has gone.

    Events are `users`', when the partition's clock stood at `clock`, of the time `time`, (n,) each in ms. No more than
    `most` users are in the store. Whether an event is accepted is not known yet: so a user who may have gone by
    its turn, if all before are accepted, ends the part.
    """
    n = min(len(users), most)
    if len(store) + n <= most:
        return n
    spare, found = len(store) - most, store.find(users[:n])
    oldest = store.longest_idle(spare + n)
    rank = _ranks(oldest.slots, found)
    first = _first(users[:n], found)
    moves = first & ((found < 0) | (rank < len(oldest.slots)))  # who was behind the others, or not there
    moved: Ints = np.cumsum(moves) - moves
    # Who came now stays for this part, unless its event lies behind what the oldest have: those may be one clock's.
    ends = oldest.arrived[-1], oldest.last[-1]
    behind = (clock[:n] < ends[0]) | ((clock[:n] == ends[0]) & (time[:n] <= ends[1]))
    shows = (rank < spare + moved) | (~first & (np.cumsum(behind) - behind > 0))
    return max(int(shows.argmax()), 1) if shows.any() else n


def displace(store: "SessionStore", most: int) -> list[str]:
    """Forget those who came longest ago, so that `most` users stay; return who went."""
    gone = store.longest_idle(len(store) - most).slots
    users = store.users(gone)
    store.free(gone)
    return users


def _ranks(slots: Ints, found: Ints) -> Ints:
    """Return the place of each of the `found` among `slots`, their number where one is not among them."""
    order = np.argsort(slots)
    at = order[np.searchsorted(slots, found, sorter=order).clip(max=len(slots) - 1)]
    return np.where(slots[at] == found, at, len(slots))


def _first(users: Sequence[str], found: Ints) -> NDArray[np.bool_]:
    """Tell which events are their user's first; who is in no slot is known by name."""
    who, new = found.copy(), dict[str, int]()
    for row in np.flatnonzero(found < 0).tolist():
        who[row] = new.setdefault(users[row], -1 - len(new))
    first = np.zeros(len(who), np.bool_)
    first[np.unique(who, return_index=True)[1]] = True
    return first
