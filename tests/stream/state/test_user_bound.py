"""Who goes first where only some are kept, and the tombstones of those who went at a recovery."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.bundle.onnx import Bundle
from stream.core.events import Event
from stream.core.manifest import Vocabulary
from stream.core.session import record
from stream.records import Limits
from stream.scoring.offline import Line
from stream.scoring.scorer import Partition, Scorer
from stream.state.sessions import SessionStore
from stream.state.user_bound import displace
from tests.fakes import NOON, manifest, step

LAYOUT = record(manifest())


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3),
        st.tuples(st.integers(1, 3), st.integers(1, 3)),
        max_size=30,
    ),
    st.integers(0, 40),
)
def test_the_order_is_clock_then_event_time_then_name(users, n):
    store = SessionStore(LAYOUT)
    records = np.zeros(len(users), LAYOUT)
    records["model"] = 1
    for row, (arrived, last) in enumerate(users.values()):
        records["arrived"][row], records["last"][row] = arrived, last
    store.put(list(users), records)
    store.slots(["nobody yet"])
    order = sorted(users, key=lambda user: (*users[user], user))
    assert store.users(store.longest_idle(n).slots) == order[:n]


@pytest.mark.parametrize("most", [1, 3])
def test_who_went_at_a_recovery_has_a_tombstone_unless_he_came_again(monkeypatch, most):
    """Lower a bound: the tombstones follow chunk by chunk, and none meets a shopper who is there."""
    monkeypatch.setattr("stream.scoring.scorer._EVICTED", 2)
    scorer = Scorer(Bundle(manifest(), Vocabulary([], [], []), step, step), False, Limits(999, 999, 9**9), "e", most=9)

    def chunk(first: int, *users: str) -> list[Line]:
        return [
            Line(n, NOON + n, user.encode(), msgspec.json.encode(Event(f"e{n}", user, "view", "i", NOON + n)))
            for n, user in enumerate(users, first)
        ]

    part = Partition(0, SessionStore(scorer.layout))
    scorer.process(part, chunk(0, *"abcdef"), NOON)
    scorer.most = most
    part.owed = displace(part.store, most)
    assert part.owed == list("abcdef")[: 6 - most]
    gone: list[bytes] = []
    for turn in range(4):
        work = scorer.process(part, chunk(10 + turn, "a"), NOON)
        gone += [change.key for change in work.changes if change.value is None]
        assert len(part.store) <= most
    assert b"ua" not in gone
    assert set(gone) == {f"u{user}".encode() for user in "bcdef"[: 6 - most]}
    assert part.owed == []
