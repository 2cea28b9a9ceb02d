"""The store: slots given, taken back, given again."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stream.core.session import record
from stream.state.sessions import SessionStore
from tests.fakes import manifest

LAYOUT = record(manifest())
names = st.sampled_from([f"u{n}" for n in range(12)])


class Store(RuleBasedStateMachine):
    """Hold the store against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.store, self.model = SessionStore(LAYOUT), {}

    @rule(users=st.lists(names, max_size=8), last=st.integers(1, 1000))
    def write(self, users: list[str], last: int) -> None:
        slots = self.store.slots(users)
        assert len(set(slots.tolist())) == len(set(users))
        self.store.records["last"][slots] = self.store.records["arrived"][slots] = last
        self.store.records["model"][slots] = 1
        self.model |= dict.fromkeys(users, last)

    @rule(users=st.lists(names, max_size=4))
    def remove(self, users: list[str]) -> None:
        self.store.remove(users)
        for user in users:
            self.model.pop(user, None)

    @rule(clock=st.integers(0, 2000), ttl=st.integers(1, 1000))
    def idle(self, clock: int, ttl: int) -> None:
        assert sorted(self.store.idle(clock, ttl)) == sorted(u for u, last in self.model.items() if clock - last > ttl)

    @invariant()
    def agrees(self) -> None:
        assert set(self.store) == set(self.model)
        assert len(self.store) == len(self.model)
        for user, last in self.model.items():
            found = self.store.get(user)
            assert found is not None
            assert found["last"] == last
        assert self.store.get("nobody") is None


TestStore = Store.TestCase


def test_it_grows():
    store = SessionStore(LAYOUT)
    slots = store.slots([f"u{n}" for n in range(5000)])
    assert slots.tolist() == list(range(5000))
    assert len(store.records) >= 5000
    assert store.users(slots[[0, 4999]].tolist()) == ["u0", "u4999"]


def test_a_slot_used_again_is_empty():
    store = SessionStore(LAYOUT)
    store.records["last"][store.slots(["a"])] = 7
    store.remove(["a"])
    slot = store.slots(["b"])
    assert store.records[slot].tobytes() == bytes(LAYOUT.itemsize)
    assert np.array_equal(slot, [0])


def test_records_are_put_at_once_a_slot_of_a_removed_shopper_again_and_the_last_of_two_holds():
    store = SessionStore(LAYOUT)
    store.slots(["a", "b"])
    store.remove(["a"])
    users = ["b", "c", "d", "c", *(f"u{n}" for n in range(3000))]
    given = np.zeros(len(users), LAYOUT)
    given["last"] = np.arange(len(users))
    store.put(users, given)
    assert [store.get(user)["last"] for user in ("b", "c", "d", "u0", "u2999")] == [0, 3, 2, 4, 3003]
    assert len(store) == 3003
    assert sorted(store.slots(list(store)).tolist()) == list(range(3003))
