"""A peer that says something else of the same event is found out."""

import msgspec
import pytest
from peers.run import PEERS, _compare

from stream.core.events import Score, SessionView, Source


def said(event: str, intent: float) -> bytes:
    """Write a score."""
    return msgspec.json.encode(Score(event, "u", Source(0, 0), 1, 1, "m", SessionView(1, 1), {"1h": intent}))


def test_peers_agree_on_what_they_share():
    known: dict[str, float] = {}
    _compare([said("a", 0.5), said("b", 0.25)], known)
    _compare([said("b", 0.25001), said("c", 0.75)], known)
    assert known == {"a": 0.5, "b": 0.25, "c": 0.75}
    with pytest.raises(AssertionError):
        _compare([said("a", 0.501)], known)


def test_a_peer_has_a_name_of_its_own():
    assert len({peer.name for peer in PEERS}) == len(PEERS)
