"""The linger: none when idle, up to the end of the commit when busy. The bytes of a round: as the link takes them."""

import pytest

from stream.core.linger import ROUND_BYTES, ROUND_SECONDS, Linger, Load

ALLOWED = 8.0  # seconds that a commit may take


def _load(events: int) -> Load:
    return Load(events, 300 * events, 1300 * events)


def _busy() -> Linger:
    pace = Linger(4096)
    pace.scored(_load(100), 0.01)
    pace.committed(_load(1), 0.05)
    return pace


def test_the_first_commit_is_waited_for_by_nobody():
    pace = Linger(4096)
    assert pace.commits(10.0) <= 10.0
    assert pace.spare(10.0, 1) <= 0


def test_a_round_waits_for_the_commit_less_its_own_scoring():
    pace = _busy()
    pace.commits(10.0)
    assert pace.spare(10.0, 0) == pytest.approx(0.05)
    assert pace.spare(10.02, 100) == pytest.approx(0.02)
    assert pace.spare(10.02, 400) < 0


def test_fetches_rest_for_half_a_commit_less_a_scoring_and_never_long():
    pace = _busy()
    assert pace.commits(10.0) == pytest.approx(10.015)
    pace.committed(_load(1), 60.0)
    assert pace.commits(10.0) == pytest.approx(10.1)
    pace.scored(_load(100), 40.0)
    assert pace.commits(10.0) < 10.0


def test_a_round_takes_what_it_has_time_for_and_at_least_one():
    pace = Linger(4096)

    def fits(*events: int) -> int:
        return pace.fits(Load(n) for n in events)

    assert [fits(), fits(9), fits(9, 9)] == [0, 1, 1]
    pace.scored(Load(1000), ROUND_SECONDS)
    assert [fits(*[400] * 9), fits(5000, 1), fits(1, 1)] == [3, 1, 2]


def test_a_round_takes_what_it_has_room_for():
    pace = Linger(4096)
    pace.scored(_load(100), 1e-6)  # it publishes 1000 bytes an event more than it reads
    batch = Load(10, 22_768)  # 32 KiB with what it adds, and the first round has 128
    assert pace.fits([batch] * 9) == 4
    assert pace.fits([Load(1, 10 * pace.room), batch]) == 1
    assert not pace.full(Load(30, 68_304))
    assert pace.full(Load(40, 91_072))


def test_a_costly_model_gets_smaller_chunks():
    pace = _grown(Linger(4096))
    for seconds, chunk in ((1e-6, 4096), (1e-3, 250), (1.0, 32)):
        pace.scored(Load(1), seconds)
        assert pace.chunk == chunk


def _grown(pace: Linger) -> Linger:
    while pace.room < ROUND_BYTES:
        pace.committed(Load(1, pace.room), 0.01)
    return pace


def test_rounds_grow_while_they_are_full_and_quick():
    pace = Linger(4096, allowed=ALLOWED)
    first = pace.room
    pace.committed(Load(1, first // 5), 0.01)
    pace.committed(Load(1, first), ALLOWED / 6)
    assert pace.room == first  # mostly empty, and slow enough to tell
    pace.committed(Load(1, first), ALLOWED / 17)
    assert pace.room == 2 * first  # twice as much would take half of what a commit aims at
    pace.committed(Load(1, 2 * first), 0.01)
    assert pace.room == 32 * first
    assert _grown(pace).room == ROUND_BYTES
    assert pace.part < pace.fetch < pace.room


def test_the_setting_bounds_the_first_round_too():
    pace = Linger(4096, most=1000)
    assert pace.room == 1000
    pace.aborted(Load(1, 10))
    assert pace.room == 1000


def test_a_slow_round_makes_the_next_one_smaller_and_an_aborted_one_much():
    pace = _grown(Linger(4096, allowed=ALLOWED))
    pace.committed(Load(1, 8 << 20), ALLOWED / 2)
    assert pace.room == 4 << 20
    pace.aborted(Load(1, 4 << 20))
    assert pace.room == 512 << 10
    for _ in range(9):
        pace.committed(Load(1, pace.room), ALLOWED / 2)
    assert pace.room == 128 << 10  # a slow broker is no slow link: it takes no longer for the first round's bytes
    for _ in range(9):
        pace.aborted(Load(1, pace.room))
    assert pace.room == 16 << 10


@pytest.mark.parametrize("rate", [4 << 10, 64 << 10, 1 << 20, 64 << 20])
def test_rounds_settle_at_what_a_link_carries(rate: int):
    """Bytes that come through in 10 minutes are most of what the link carries, however large rounds were before."""
    pace, seconds, through, aborts = _grown(Linger(4096, allowed=ALLOWED)), 0.0, 0, 0
    while seconds < 600:
        load = Load(1, pace.room)
        took = load.bytes / rate + 0.05
        if took > ALLOWED:
            seconds, aborts = seconds + ALLOWED, aborts + 1
            pace.aborted(load)
        else:
            seconds, through = seconds + took, through + load.bytes
            pace.committed(load, took)
    assert through > 0.85 * rate * 600
    assert aborts <= 4


def test_a_chunk_is_no_larger_than_a_round():
    pace = Linger(4096)
    assert 32 <= pace.chunk <= 128
    pace.aborted(Load(1, pace.room))
    assert pace.chunk <= 8
