"""Names in slots: what a dictionary would say, whatever the hashes are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stream.state import user_index as module
from stream.state.user_index import UserIndex

few = st.sampled_from([f"u{n}" for n in range(40)])
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
lists = st.one_of(st.lists(few, max_size=12), st.lists(text, max_size=12), st.lists(few, min_size=64, max_size=90))


def _slots(held: UserIndex, wanted: list[str]) -> list[int]:
    """Find names, and add those that are unknown."""
    distinct = list(dict.fromkeys(wanted))
    held.add([name for name, slot in zip(distinct, held.find(distinct).tolist(), strict=True) if slot < 0])
    return held.find(wanted).tolist()


class Held(RuleBasedStateMachine):
    """Hold the names against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.names, self.model = UserIndex(), {}

    @rule(wanted=lists)
    def add(self, wanted: list[str]) -> None:
        for name, slot in zip(wanted, _slots(self.names, wanted), strict=True):
            assert self.model.setdefault(name, slot) == slot
        assert len(set(self.model.values())) == len(self.model)

    @rule(wanted=lists)
    def find(self, wanted: list[str]) -> None:
        assert self.names.find(wanted).tolist() == [self.model.get(name, -1) for name in wanted]

    @rule(wanted=lists)
    def remove(self, wanted: list[str]) -> None:
        gone = [name for name in dict.fromkeys(wanted) if name in self.model]
        self.names.remove(np.array([self.model.pop(name) for name in gone], np.int64))

    @invariant()
    def agrees(self) -> None:
        assert len(self.names) == len(self.model)
        assert sorted(self.names) == sorted(self.model)
        assert self.names.of(np.array(list(self.model.values()), np.int64)) == list(self.model)


class Colliding(Held):
    """The same with three hashes for all names."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(module, "hash", lambda name: len(name) % 3 + 0xFFFFFFFE, raising=False)

    def teardown(self) -> None:
        self.patch.undo()


TestHeld, TestColliding = Held.TestCase, Colliding.TestCase
TestHeld.settings = TestColliding.settings = settings(max_examples=25, stateful_step_count=20)


@given(st.lists(text, max_size=100, unique=True))
@settings(max_examples=30)
def test_names_of_one_hash_have_slots_of_their_own(wanted):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "hash", lambda _: 7, raising=False)
        held = UserIndex()
        assert _slots(held, wanted) == list(range(len(wanted)))
        assert list(held) == wanted


def test_names_that_look_alike_are_not_the_same():
    wanted = ["a", "a\0", "\0", "\0a", "\u00e9", "e\u0301", "\ufb01", "fi", "A", " a", "a ", "", "a" * 15, "a" * 16]
    wanted += ["\U0001f600" * 2048, "x" * 8192, "x" * 8191]
    held = UserIndex()
    assert _slots(held, wanted) == list(range(len(wanted)))
    assert list(held) == wanted
    assert held.find([name + "?" for name in wanted]).tolist() == [-1] * len(wanted)


def test_nobody_is_found_among_none():
    held = UserIndex()
    assert held.find([]).tolist() == held.add([]).tolist() == list(held) == []
    assert held.find(["a"]).tolist() == [-1]


def test_many_names_keep_their_slots_while_it_grows():
    held, wanted = UserIndex(), [f"shopper-with-a-long-name-{n}" for n in range(20_000)]
    for begin in range(0, len(wanted), 300):
        held.add(wanted[begin : begin + 300])
    assert held.find(wanted).tolist() == list(range(20_000))
    assert held.find([f"{name}x" for name in wanted]).max() == -1


def test_shoppers_who_come_and_go_need_no_more_room():
    held = UserIndex()
    for turn in range(50):
        held.remove(held.add([f"{turn}-{n}" for n in range(1000)]))
    assert len(held) == 0
    assert held.end == 1000
    assert len(held._table) <= 4096
