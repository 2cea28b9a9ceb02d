"""Why a score is what it is: whose, of which events, and how far from the live score."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from stream.bundle.onnx import load
from stream.core.errors import DataError
from stream.core.events import Event
from stream.core.features import AGAIN
from stream.records import Limits
from stream.scoring.explain import explain_log
from stream.scoring.offline import Line
from stream.scoring.scorer import Partition, Scorer
from stream.settings import Settings
from stream.state.sessions import SessionStore
from tests.fakes import MINUTE, NOON
from tests.stream.bundle.test_onnx import DEMO


def _log(folder: Path, users: dict[str, int]) -> Path:
    """Write so many events of each shopper, one a minute, the fourth one a purchase of the basket."""
    types = ["view", "view", "addtocart", "transaction"]
    rows = [
        Event(f"{user}-{n}", user, types[n % 4], f"item-{100 * n + len(user)}", NOON + n * MINUTE)
        for user, count in users.items()
        for n in range(count)
    ]
    path = folder / "log.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in sorted(rows, key=lambda e: e.timestamp)))
    return path


def _explain(log: Path, users: tuple[str, ...] = (), everyone: bool = False, recommend: bool = False):
    return explain_log(Settings(), DEMO, "events", log, users, everyone, recommend)[0]


def test_the_ring_that_holds_all_events_explains_the_live_score(tmp_path: Path):
    (one,) = _explain(_log(tmp_path, {"a": 4, "bb": 7}), ("a",))
    assert (one.user_id, one.event_id, one.event_time) == ("a", "a-3", NOON + 3 * MINUTE)
    assert one.explained["1h"] == pytest.approx(one.intent["1h"], abs=1e-6)
    assert [share.event_id for share in one.events] == ["a-3", "a-2", "a-1", "a-0"]
    assert [share.type for share in one.events] == ["transaction", "addtocart", "view", "view"]
    assert one.events[0].item_id == "item-301"
    assert set(one.fields) == {"item", "category", "type", "log_gap", "opens", "fresh", "hour", "weekday", *AGAIN}
    assert one.recommendation is None


def test_a_longer_history_is_explained_as_far_as_the_ring_reaches(tmp_path: Path):
    (one,) = _explain(_log(tmp_path, {"a": 30}))
    assert [share.event_id for share in one.events] == [f"a-{n}" for n in range(29, 21, -1)]
    assert one.explained["1h"] != one.intent["1h"]
    assert abs(one.explained["1h"] - one.intent["1h"]) < 0.1


def test_what_an_event_adds_is_the_score_less_the_score_of_the_log_without_it(tmp_path: Path):
    whole = _log(tmp_path, {"a": 6})
    (one,) = _explain(whole)
    for n, share in enumerate(reversed(one.events)):
        lines = whole.read_bytes().splitlines(keepends=True)
        rest = tmp_path / "rest.jsonl"
        rest.write_bytes(b"".join(lines[:n] + lines[n + 1 :]))
        (other,) = _explain(rest)
        assert share.contribution["1h"] == pytest.approx(one.intent["1h"] - other.intent["1h"], abs=1e-6)


def test_the_first_recommendation_is_explained_by_the_lists_without_each_event(tmp_path: Path):
    (one,) = _explain(_log(tmp_path, {"a": 6}), recommend=True)
    bundle = load(DEMO)
    scorer = Scorer(bundle, True, Limits(9999, 9999, 10**15), "events")

    def listed(lines: list[bytes]) -> list[dict[str, object]]:
        part = Partition(0, SessionStore(scorer.layout))
        work = scorer.process(part, [Line(i, NOON, None, line) for i, line in enumerate(lines)], NOON)
        return msgspec.json.decode(work.scores[-1].value)["recommendations"]

    lines = (tmp_path / "log.jsonl").read_bytes().splitlines()
    best = listed(lines)[0]
    assert (one.recommendation.item_id, one.recommendation.score) == (
        best["item_id"], pytest.approx(best["score"], abs=1e-4)
    )  # fmt: skip
    bounds = 0
    for n, share in enumerate(reversed(one.events)):
        other = {each["item_id"]: each["score"] for each in listed(lines[:n] + lines[n + 1 :])}
        without = other.get(best["item_id"], min(other.values()))
        assert share.next_item == pytest.approx(best["score"] - without, abs=1e-4)
        assert share.at_least == (best["item_id"] not in other)
        bounds += share.at_least
    assert bounds, "the item of one event is on the list for that event alone"


def test_a_single_event_is_no_cause(tmp_path: Path):
    (one,) = _explain(_log(tmp_path, {"a": 1}), recommend=True)
    assert one.events[0].contribution == {}
    assert one.events[0].next_item is None
    assert any(amount["1h"] for amount in one.fields.values())


def test_whose_score_is_explained(tmp_path: Path):
    log = _log(tmp_path, {"a": 4, "bb": 7, "c": 2})
    assert [one.user_id for one in _explain(log)] == ["bb"]
    assert [one.user_id for one in _explain(log, ("c", "a"))] == ["c", "a"]
    everyone = _explain(log, everyone=True)
    assert sorted(one.user_id for one in everyone) == ["a", "bb", "c"]
    for one in everyone:
        assert msgspec.to_builtins(one) == msgspec.to_builtins(_explain(log, (one.user_id,))[0])
        assert all(np.isfinite(list(share.contribution.values())).all() for share in one.events)


def test_the_newest_event_need_not_stand_last(tmp_path: Path):
    log = _log(tmp_path, {"a": 4, "bb": 7, "c": 2})
    log.write_bytes(b"".join(reversed(log.read_bytes().splitlines(keepends=True))))
    assert [one.user_id for one in _explain(log)] == ["bb"]


def test_an_unknown_shopper_and_a_log_without_events_are_errors(tmp_path: Path):
    log = _log(tmp_path, {"a": 4})
    with pytest.raises(DataError, match="no score of the shopper 'x'"):
        _explain(log, ("a", "x"))
    log.write_bytes(b"")
    for users in ((), ("a",)):
        with pytest.raises(DataError, match="no event was scored"):
            _explain(log, users)


def test_a_log_of_which_no_row_is_an_event_says_why(tmp_path: Path):
    (tmp_path / "log").write_text('{"user_id":"u","type":"wish","item_id":"i","event_id":"e","timestamp":9}\n')
    with pytest.raises(DataError, match=r"no event was scored.*\n  1 row left out: unknown_type, first in line 1"):
        explain_log(Settings(), DEMO, "events", tmp_path / "log", [], False, False)
