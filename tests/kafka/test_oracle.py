"""The oracle on a real broker: it passes what a worker did, and fails once somebody else writes to its topics."""

import random
import time

import pytest

from tests.kafka.oracle import assert_exactly_once
from tests.kafka.shop import Shop, event

EVENTS = 300


@pytest.fixture
def scored(shop) -> Shop:
    """Let a worker score events and one that is none."""
    place, dice, now = shop(), random.Random(3), int(time.time() * 1000)
    users = [f"user-{n % 40}" for n in range(EVENTS)]
    place.send([(user.encode(), event(n, user, now + n, dice)) for n, user in enumerate(users)] + [(None, b"{")])
    place.start("w0")
    place.await_outcomes(40)
    found = place.examine(exact=True)
    assert_exactly_once(found, at_least=EVENTS + 1, sessions=40)
    assert found.differing == 0
    return place


def test_it_fails_once_topics_are_spoiled_by_hand(scored: Shop):
    """Publish a score again, a dead letter again, a score of nothing, another session, an old position."""
    names, out = scored.settings, scored.producer()
    score = scored.read(names.scores_topic)[0]
    letter = scored.read(names.dead_letters_topic)[0]
    change = next(m for m in scored.read(names.changelog) if m.key()[:1] == b"u")
    out.produce(names.scores_topic, score.value(), score.key(), score.partition())
    out.flush(10)
    found = scored.examine()
    assert (found.twice, found.reordered) == (1, 1)
    with pytest.raises(AssertionError, match="1 twice"):
        assert_exactly_once(found)
    alien = score.value().replace(b'"partition":', b'"partition":9')
    out.produce(names.scores_topic, alien, score.key(), score.partition())
    out.produce(names.dead_letters_topic, letter.value(), letter.key(), 0, headers=letter.headers())
    out.produce(names.changelog, change.value()[:-1], change.key(), change.partition())
    out.produce(names.changelog, b'{"topic_id":"x","offset":1}', b"p", change.partition())
    out.flush(10)
    found = scored.examine()
    assert (found.twice, found.alien, found.far, found.back) == (2, 1, 1, 1)
    assert found.uncovered > 1


def test_it_fails_while_input_waits(scored: Shop):
    """Stop the worker's way: records that come now have no outcome, and a commit beyond them is too far."""
    for worker in scored.workers["w0"]:
        worker.kill()
        worker.wait()
    scored.send([(b"user-1", b"{}")] * 3)
    found = scored.examine()
    assert (found.lost, found.beyond, found.missing) == (3, 0, 0)
    assert found.want == EVENTS + 4
