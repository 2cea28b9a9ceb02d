"""The linger: none when idle, up to the end of the commit when busy, never beyond."""

import pytest

from stream.core.pace import ROUND_SECONDS, Pace


def _busy() -> Pace:
    pace = Pace(4096)
    pace.scored(100, 0.01)
    pace.committed(0.05)
    return pace


def test_the_first_commit_is_waited_for_by_nobody():
    pace = Pace(4096)
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
    pace.committed(60.0)
    assert pace.commits(10.0) == pytest.approx(10.1)
    pace.scored(100, 40.0)
    assert pace.commits(10.0) < 10.0


def test_a_round_takes_what_it_has_time_for_and_at_least_one():
    pace = Pace(4096)
    assert [pace.fits(sizes) for sizes in ([], [9], [9, 9])] == [0, 1, 1]
    pace.scored(1000, ROUND_SECONDS)
    assert [pace.fits(sizes) for sizes in ([400] * 9, [5000, 1], [1, 1])] == [3, 1, 2]


def test_a_costly_model_gets_smaller_chunks():
    pace = Pace(4096)
    assert pace.chunk == 1024
    for seconds, chunk in ((1e-6, 4096), (1e-3, 250), (1.0, 32)):
        pace.scored(1, seconds)
        assert pace.chunk == chunk
