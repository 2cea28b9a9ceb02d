"""Chunks of records: scores, dead letters, changelog records."""

import hashlib
import json
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.bundle.onnx import Bundle
from stream.core.errors import BundleError
from stream.core.events import Event
from stream.core.manifest import ColdStart, Vocabulary
from stream.formats.mapped import Mapped
from stream.formats.mapping import Mapping
from stream.kafka.fetch.fetches import FetchedRecord
from stream.recommend.cold_ranking import ByCategory
from stream.records import Fault, Limits, weight
from stream.scoring.offline import Line
from stream.scoring.scorer import ChunkResult, Partition, Scorer
from stream.state.sessions import SessionStore
from tests.fakes import DAY, NOON, manifest, step

VOCAB = Vocabulary([f"i{n}" for n in range(1, 10)], ["x"], [1] * 9)
LIMITS = Limits(event_bytes=2000, dead_letter_bytes=500, future=1000)


def recommending(inputs, hidden):
    outputs, state = step(inputs, hidden)
    n = len(inputs["item"])
    ranked = {"items": np.tile([3, 1], (n, 1)), "item_scores": np.tile(np.float32([0.2, 0.1]), (n, 1))}
    return {**outputs, **ranked}, state


@pytest.fixture
def scorer() -> Scorer:
    return _scorer()


def _scorer(recommend: bool = True, **meaning: object) -> Scorer:
    return Scorer(Bundle(manifest(**meaning), VOCAB, step, recommending), recommend, LIMITS, "events")


def _explaining() -> Scorer:
    return Scorer(Bundle(manifest(), VOCAB, step, recommending), True, LIMITS, "events", explain=True)


def _part(scorer: Scorer) -> Partition:
    return Partition(3, SessionStore(scorer.layout))


def _line(offset: int, user: str = "u", item: str = "i1", time: int = NOON, **more: object) -> Line:
    value = msgspec.json.encode(Event(f"e{offset}", user, "view", item, time))
    return Line(**{"offset": offset, "timestamp": NOON, "key": user.encode(), "value": value, **more})


def test_a_score_says_what_it_is_about(scorer: Scorer):
    part = _part(scorer)
    work = scorer.process(part, [_line(7, headers=[("traceparent", b"00-1")])], NOON + 5)
    (message,) = work.scores
    score = json.loads(message.value)
    assert message.key == b"u"
    assert message.headers == [("traceparent", b"00-1")]
    assert score.pop("intent").keys() == {"1h", "24h"}
    assert score == {
        "event_id": "e7",
        "user_id": "u",
        "source": {"partition": 3, "offset": 7},
        "event_time": NOON,
        "scored_at": NOON + 5,
        "model": "00000000000000ff",
        "session": {"length": 1, "started": NOON},
        "recommendations": [{"item_id": "i3", "score": 0.2}, {"item_id": "i1", "score": 0.1}],
    }
    assert part.clock == NOON


def test_one_changelog_record_a_touched_shopper(scorer: Scorer):
    part = _part(scorer)
    work = scorer.process(part, [_line(0, "a"), _line(1, "b"), _line(2, "a", time=NOON + 1)], NOON)
    assert sorted(change.key for change in work.changes) == [b"ua", b"ub"]
    for change in work.changes:
        stored = part.store.get(change.key[1:].decode())
        assert stored is not None
        assert change.value == stored.tobytes()


def test_each_record_has_one_outcome_in_its_order(scorer: Scorer):
    lines = [_line(0), _line(1, value=b"{"), _line(0, time=NOON + 9), _line(3, value=None), _line(4, time=NOON + DAY)]
    lines[2].offset = 2  # the event of offset 0 again
    work = scorer.process(_part(scorer), lines, NOON)
    assert [json.loads(m.value)["source"]["offset"] for m in work.scores] == [0]
    reasons = [(dict(m.headers)["forecart-offset"], dict(m.headers)["forecart-reason"]) for m in work.dead]
    assert reasons == [(b"1", b"not_json"), (b"2", b"duplicate"), (b"3", b"null"), (b"4", b"future")]
    assert work.rejected == Counter(not_json=1, duplicate=1, null=1, future=1)


def test_an_unknown_type_and_long_headers_are_dead_letters(scorer: Scorer):
    raw = msgspec.json.encode(Event("e", "u", "wave", "i1", NOON))
    lines = [_line(0, value=raw), _line(1, headers=[("h", b"x" * 3000)])]
    work = scorer.process(_part(scorer), lines, NOON)
    assert work.rejected == Counter(unknown_type=1, oversized=1)
    assert not work.scores


def test_a_dead_letter_carries_the_raw_bytes_and_where_they_lay(scorer: Scorer):
    (letter,) = scorer.process(_part(scorer), [_line(9, value=b"\xff", headers=[("a", b"b")])], NOON).dead
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"u", b"\xff")
    assert headers["a"] == b"b"
    for prefix in ("forecart-", "__streams.errors."):
        place = [headers[prefix + name] for name in ("topic", "partition", "offset")]
        assert place == [b"events", b"3", b"9"]
    assert headers["forecart-reason"] == b"not_utf8"


def test_a_long_dead_letter_is_cut_and_says_so(scorer: Scorer):
    raw = b"x" * 5000
    (letter,) = scorer.process(_part(scorer), [_line(9, value=raw)], NOON).dead
    headers = dict(letter.headers)
    assert letter.value == raw[:500]
    assert headers["forecart-length"] == b"5000"
    assert headers["forecart-sha256"].decode() == hashlib.sha256(raw).hexdigest()


def test_a_key_without_end_is_cut_and_says_so(scorer: Scorer):
    (letter,) = scorer.process(_part(scorer), [_line(9, value=b"{}", key=b"k" * 100_000)], NOON).dead
    assert letter.key == b"k" * 8192
    assert dict(letter.headers)["forecart-key-length"] == b"100000"


def test_headers_without_end_are_cut(scorer: Scorer):
    (letter,) = scorer.process(_part(scorer), [_line(9, value=b"", headers=[("h", b"x" * 30_000)] * 9)], NOON).dead
    assert sum(len(k) + len(v) for k, v in letter.headers) < 65_536


def test_a_record_that_could_not_be_read_is_a_dead_letter_with_what_is_known(scorer: Scorer):
    fault = Fault("unreadable", {"cause": "crc", "batch-bytes": "99"})
    unread = FetchedRecord("events", 3, 8, -1, 0, None, None, (), fault=fault)
    part = _part(scorer)
    work = scorer.process(part, [_line(7), unread, _line(9)], NOON)
    assert (len(work.scores), work.rejected, part.clock) == (2, Counter(unreadable=1), NOON)
    (letter,) = work.dead
    facts = dict(letter.headers)
    assert (letter.key, letter.value, facts["forecart-offset"]) == (None, None, b"8")
    assert (facts["forecart-reason"], facts["forecart-cause"]) == (b"unreadable", b"crc")
    assert facts["forecart-batch-bytes"] == b"99"


@pytest.mark.parametrize("headers", [[("", b"")] * 101, [("", None)] * 450_000, [("h" * 9, b"x" * 4)] * 100])
def test_headers_that_weigh_by_their_number_are_oversized(headers):
    """Each costs its lengths and some bytes more on the wire, an empty one too."""
    (letter,) = (work := _scorer().process(_part(_scorer()), [_line(0, headers=headers)], NOON)).dead
    assert work.rejected == Counter(oversized=1)
    assert len(letter.headers) < 120


def test_a_header_weighs_its_bytes(scorer: Scorer):
    long, fit = [("\u20ac" * 700, b"")], [("e" * 700, b"")]
    work = scorer.process(_part(scorer), [_line(0, headers=long), _line(1, headers=fit, time=NOON + 1)], NOON)
    assert [json.loads(m.value)["source"]["offset"] for m in work.scores] == [1]
    assert work.rejected == Counter(oversized=1)


def test_a_score_that_is_too_long_goes_without_its_lists(monkeypatch: pytest.MonkeyPatch):
    """Nothing else depends on its size: neither its session nor that it is scored."""
    lines = [_line(0), _line(1, time=NOON + 1, headers=[("h", b"x" * 200)]), _line(2, time=NOON + 2)]
    whole, short = _explaining(), _explaining()
    expected = whole.process(_part(whole), lines, NOON)
    sizes = [weight(m) for m in expected.scores]
    monkeypatch.setattr("stream.scoring.publisher.SCORE_ROOM", sizes[1] - 1)
    found = short.process(_part(short), lines, NOON)
    assert [(c.key, c.value) for c in found.changes] == [(c.key, c.value) for c in expected.changes]
    assert [found.scores[i] for i in (0, 2)] == [expected.scores[i] for i in (0, 2)]
    cut, full = (json.loads(work.scores[1].value) for work in (found, expected))
    assert full.pop("recommendations") and full.pop("why")
    assert cut == full
    assert weight(found.scores[1]) < sizes[1]


def test_a_foreign_key_is_scored_where_it_lies_and_counted(scorer: Scorer):
    part = _part(scorer)
    work = scorer.process(part, [_line(0, key=b"other"), _line(1, key=None), _line(2)], NOON)
    assert work.foreign == 2
    assert len(work.scores) == 3
    assert list(part.store) == ["u"]


def test_a_shopper_without_a_score_leaves_no_session(scorer: Scorer):
    part = _part(_failing())
    work = _failing().process(part, [_line(0)], NOON)
    assert work.rejected == Counter(unscorable=1)
    assert not work.changes
    assert len(part.store) == 0


def _failing(check=None) -> Scorer:
    def fail(_inputs, _hidden):
        raise RuntimeError

    return Scorer(Bundle(manifest(), VOCAB, fail, fail, replay=check), False, LIMITS, "events")


@pytest.mark.parametrize("check", [lambda: 1.0, lambda: float("nan"), lambda: 1 / 0])
@pytest.mark.parametrize("chunks", [[32], [1] * 32, [20, 20]])
def test_a_model_that_no_longer_runs_ends_the_process_and_not_the_events(check, chunks):
    scorer, n = _failing(check), 0
    part = _part(scorer)
    with pytest.raises(BundleError, match="no longer runs") as caught:
        for size in chunks:
            work = scorer.process(part, [_line(n + i) for i in range(size)], NOON)
            n += work.records
    assert n < 32
    assert "last commit" in caught.value.remedy


def test_events_that_are_to_blame_end_nothing():
    """The model runs, as its parity vectors show: they are asked for once in 32 failures."""
    asked: list[int] = []

    def check() -> float:
        asked.append(1)
        return 0.0

    scorer = _failing(check)
    work = scorer.process(_part(scorer), [_line(i) for i in range(31)], NOON)
    assert work.rejected == Counter(unscorable=31) and not asked
    for _ in range(3):
        scorer.process(_part(scorer), [_line(i) for i in range(16)], NOON)
    assert len(asked) == 2
    assert scorer.process(_part(scorer), [_line(i) for i in range(100)], NOON).rejected == Counter(unscorable=100)


def test_a_score_shows_that_the_model_runs():
    """Events fail beside others that do not: nothing is asked."""

    def some(inputs, hidden):
        if (inputs["item"] == 2).any():
            raise RuntimeError
        return step(inputs, hidden)

    scorer = Scorer(Bundle(manifest(), VOCAB, some, some, replay=lambda: 1.0), False, LIMITS, "events")
    part = _part(scorer)
    for n in range(0, 80, 2):
        work = scorer.process(part, [_line(n, "a", "i2"), _line(n + 1, "b")], NOON)
        assert work.rejected["unscorable"] == 1


def test_a_producer_whose_clock_is_ahead_ends_no_other_shoppers_session():
    scorer = _scorer(ttl=DAY)
    part = _part(scorer)
    scorer.process(part, [_line(0, "calm")], NOON)
    wrong = scorer.process(part, [_line(1, "ahead", timestamp=NOON + 400 * DAY)], NOON)
    broken = scorer.process(part, [Line(2, NOON + 400 * DAY, b"x", b"no json")], NOON)
    assert (wrong.evicted, broken.evicted) == (0, 0)
    assert part.clock == NOON


def test_a_producer_whose_clock_is_ahead_silences_nobody():
    """Its records vouch for its events; both are held to the worker's clock, and what follows is not late."""
    scorer = _scorer()
    part = _part(scorer)
    ahead = NOON + 70 * 365 * DAY
    work = scorer.process(part, [_line(0, time=ahead, timestamp=ahead), _line(1, time=NOON + 1)], NOON + 5)
    assert work.rejected == Counter(future=1)
    assert [json.loads(m.value)["event_id"] for m in work.scores] == ["e1"]


def test_what_is_long_past_is_held_to_its_record_alone():
    """So a log read years later has the outcomes of its day."""
    lines = [_line(0, time=NOON + 1000), _line(1, time=NOON + 1001), _line(2, "v", time=NOON + DAY)]
    for now in (NOON, NOON + 900 * DAY):
        work = _scorer().process(_part(_scorer()), lines, now)
        assert work.rejected == Counter(future=2)


def test_a_record_from_the_future_does_not_move_its_session_there():
    """A shopper's own TTL goes on from the partition's clock, which that record does not move."""
    scorer = _scorer(ttl=DAY)
    part = _part(scorer)
    lines = [_line(0), _line(1, time=NOON + 1, timestamp=NOON + 400 * DAY), _line(2, time=NOON + 2)]
    work = scorer.process(part, lines, NOON)
    assert [json.loads(m.value)["session"]["length"] for m in work.scores] == [1, 2, 3]
    assert part.store.get("u")["arrived"] == part.clock == NOON


@pytest.mark.parametrize("stamp", [-1, 0, 1, 1_767_268_800])
def test_a_record_without_a_timestamp_has_its_events_time(stamp):
    """The worker's clock bounds it; no latency is known of it."""
    scorer = _scorer(ttl=DAY)
    part = _part(scorer)
    lines = [_line(0), _line(1, timestamp=stamp), _line(2, time=NOON + 5, timestamp=stamp)]
    work = scorer.process(part, [*lines, _line(3, time=NOON + 1006, timestamp=stamp)], NOON + 5)
    assert [json.loads(m.value)["event_id"] for m in work.scores] == ["e0", "e1", "e2"]
    assert work.rejected == Counter(future=1)
    assert dict(work.dead[0].headers)["forecart-timestamp"] == str(stamp).encode()
    assert part.clock == NOON + 5
    assert work.arrived.tolist() == [NOON]


def test_a_record_without_timestamp_and_event_moves_no_clock():
    part = _part(_scorer())
    assert _scorer().process(part, [Line(0, -1, b"u", b"{"), Line(1, -1, b"u", None)], NOON).rejected.total() == 2
    assert part.clock == 0


def test_idle_shoppers_are_evicted_with_tombstones():
    scorer = _scorer(ttl=DAY)
    part = _part(scorer)
    scorer.process(part, [_line(0, "old"), _line(1, "new")], NOON)
    scorer.process(part, [_line(2, "new", timestamp=NOON + DAY)], NOON + DAY)
    work = scorer.process(part, [_line(3, "new", timestamp=NOON + DAY + DAY // 20 + 1)], NOON + 2 * DAY)
    assert [(c.key, c.value) for c in work.changes if c.value is None] == [(b"uold", None)]
    assert work.evicted == 1
    assert list(part.store) == ["new"]
    assert scorer.process(part, [], NOON).changes == []


def test_eviction_changes_no_score():
    """A shopper who comes back after the TTL scores the same, evicted or not."""
    lines = [_line(0, "a"), _line(1, "b", timestamp=NOON + 2 * DAY), _line(2, "a", timestamp=NOON + 2 * DAY + 1)]
    one_by_one, at_once = _scorer(ttl=DAY), _scorer(ttl=DAY)
    part = _part(one_by_one)
    now = NOON + 3 * DAY
    kept = [json.loads(m.value) for line in lines for m in one_by_one.process(part, [line], now).scores]
    assert [json.loads(m.value) for m in at_once.process(_part(at_once), lines, now).scores] == kept


def _with_newcomers() -> tuple[Scorer, Partition]:
    facts = msgspec.structs.replace(manifest(), novelty=ColdStart(bias=0.0))

    def answering(inputs, hidden):
        outputs, state = recommending(inputs, hidden)
        n = len(inputs["item"])
        own = np.tile(np.float32([0.5, 0]), (n, 1))
        answers = {"query": np.ones((n, 2), "f4"), "others": np.full(n, 0.5, "f4")}
        recent = np.stack([inputs["item"], np.zeros(n, np.int64)], 1)
        return {**outputs, **answers, "own": own, "recent": recent}, state

    bundle = Bundle(facts, VOCAB, step, answering, ByCategory(np.ones((4, 2), "f4"), 0.0))
    scorer = Scorer(bundle, True, LIMITS, "events")
    return scorer, _part(scorer)


def _listed(work: ChunkResult) -> list[list[str]]:
    return [[r["item_id"] for r in json.loads(m.value)["recommendations"]] for m in work.scores]


def test_an_unseen_item_is_named_and_written_to_the_changelog():
    scorer, part = _with_newcomers()
    work = scorer.process(part, [_line(0, "a", "new"), _line(1, "a", "i1", NOON + 1)], NOON)
    assert _listed(work)[0][0] == "new"
    assert [(c.key, json.loads(c.value)) for c in work.changes if c.key[:1] == b"i"] == [
        (b"inew", {"category": 0, "count": 1.0, "last": NOON})
    ]


def test_what_is_rejected_does_not_join():
    scorer, part = _with_newcomers()
    lines = [_line(0, "a", "i1"), _line(0, "a", "new")]
    lines[1].offset = 1  # the event of offset 0 again
    work = scorer.process(part, lines, NOON)
    assert work.rejected == Counter(duplicate=1)
    assert len(part.newcomers) == 0


def test_without_recommendations_nothing_joins():
    scorer, part = _with_newcomers()
    quiet = Scorer(
        Bundle(scorer.manifest, VOCAB, step, step, ByCategory(np.ones((4, 2), "f4"), 0.0)), False, LIMITS, "events"
    )
    work = quiet.process(part, [_line(0, "a", "new")], NOON)
    assert [c.key for c in work.changes] == [b"ua"]
    assert len(part.newcomers) == 0


def test_no_records_no_work(scorer: Scorer):
    work = scorer.process(_part(scorer), [], NOON)
    assert (work.scores, work.dead, work.changes, work.records) == ([], [], [], 0)


def test_where_it_is_asked_for_a_score_has_its_causes():
    """Tell the greatest of the shopper's events until then, whichever chunk they came in."""
    lines = [_line(0, item="i2"), _line(1, "other"), _line(2, item="i9", time=NOON + 1), _line(3, item="i4", time=NOON)]
    found = []
    for chunks in ([lines], [lines[:2], lines[2:]]):
        scorer = _explaining()
        part = _part(scorer)
        found.append([json.loads(m.value) for chunk in chunks for m in scorer.process(part, chunk, NOON).scores])
    assert found[0] == found[1]
    first, other, second, third = found[0]
    assert "why" not in first and "why" not in other
    assert [(cause["item_id"], cause["event_time"]) for cause in second["why"]] == [("i9", NOON + 1), ("i2", NOON)]
    assert [cause["item_id"] for cause in third["why"]] == ["i9", "i4", "i2"]
    assert third["late"]
    assert second["why"][0]["contribution"] == pytest.approx(second["intent"]["1h"] - first["intent"]["1h"], abs=1e-6)


def test_causes_change_nothing_else():
    lines = [_line(n, "ab"[n % 2], f"i{1 + n % 9}", NOON + n) for n in range(30)]
    works = []
    for scorer in (_scorer(), _explaining()):
        works.append(scorer.process(_part(scorer), lines, NOON))
    plain, explained = works
    scores = [[json.loads(m.value) for m in work.scores] for work in works]
    assert sum(bool(score.pop("why", None)) for score in scores[1]) == 28
    assert scores[0] == scores[1]
    assert [(c.key, c.value) for c in plain.changes] == [(c.key, c.value) for c in explained.changes]


def test_without_being_asked_for_nothing_is_explained(scorer: Scorer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stream.scoring.publisher.causes", None)
    assert len(scorer.process(_part(scorer), [_line(0), _line(1, time=NOON + 1)], NOON).scores) == 2


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcd"), st.sampled_from(["i1", "i2", "new"]), st.booleans()))
)
def test_partitions_scored_together_come_out_as_each_alone(rows):
    """The same shopper's name in two partitions is two shoppers; what is no event stays with its own partition."""
    chunks = [[], [], []]
    for n, (number, user, item, fit) in enumerate(rows):
        chunks[number].append(_line(n, user, item, NOON + n) if fit else _line(n, user, value=b"{"))
    for make in (_scorer, _explaining):
        alone, at_once = make(), make()
        parts = [[Partition(n, SessionStore(alone.layout)) for n in range(3)] for _ in range(2)]
        expected = [alone.process(part, chunk, NOON) for part, chunk in zip(parts[0], chunks, strict=True)]
        found = at_once.process_all(list(zip(parts[1], chunks, strict=True)), NOON)
        for one, other in zip(expected, found, strict=True):
            assert (one.partition, one.scores, one.dead, one.changes) == (
                *(other.partition, other.scores, other.dead, other.changes),
            )
            assert (one.rejected, one.records, one.foreign) == (other.rejected, other.records, other.foreign)
            assert one.intent.tolist() == other.intent.tolist() and one.arrived.tolist() == other.arrived.tolist()


@pytest.mark.parametrize(("lost", "left"), [(("1h",), ["24h"]), (("24h",), ["1h"]), (("1h", "24h"), [])])
def test_an_intent_that_was_not_learned_is_not_published(lost: tuple[str, ...], left: list[str]):
    facts = msgspec.structs.replace(manifest(), unlearned=lost)
    scorer = Scorer(Bundle(facts, VOCAB, step, recommending), True, LIMITS, "events", explain=True)
    whole = _explaining().process(_part(_explaining()), [_line(0), _line(1, item="i2")], NOON).scores[-1]
    score = json.loads(scorer.process(_part(scorer), [_line(0), _line(1, item="i2")], NOON).scores[-1].value)
    learned = {name: p for name, p in json.loads(whole.value)["intent"].items() if name in left}
    assert score.get("intent", {}) == learned and ("intent" in score) == bool(left)
    assert ("why" in score) == ("1h" in left)


def test_a_topic_of_a_shops_own_shape_is_scored_as_ours_is():
    said = {"format": "json", "columns": {"user": "who.id", "item": "sku", "time": "at", "type": "kind"}}
    said |= {"time": {"unit": "s"}, "types": {"view": "seen", "purchase": "bought"}}
    theirs = Scorer(
        Bundle(manifest(), VOCAB, step, recommending),
        True,
        LIMITS,
        "events",
        decoder=Mapped(msgspec.convert(said, Mapping)),
    )
    ours, kinds = _scorer(), {"view": "seen", "transaction": "bought"}
    events = [("u", "view", "i1"), ("v", "transaction", "i2"), ("u", "transaction", "i3"), ("u", "view", "new")]
    odd = [b"{", b'{"who": {"id": "u"}, "sku": "a", "at": 1, "kind": "view"}']
    a, b = _part(ours), _part(theirs)
    for bad in ([], odd):
        native = [
            _line(n, value=msgspec.json.encode(Event(f"3-{n}", user, kind, item, NOON)), key=user.encode())
            for n, (user, kind, item) in enumerate(events)
        ]
        shop = [
            _line(n, value=json.dumps({"who": {"id": u}, "sku": i, "at": NOON / 1000, "kind": kinds[k]}).encode())
            for n, (u, k, i) in enumerate(events)
        ]
        shop += [_line(9 + n, value=raw) for n, raw in enumerate(bad)]
        expected, found = ours.process(a, native, NOON), theirs.process(b, shop, NOON)
        assert [m.value for m in found.scores] == [m.value for m in expected.scores]
        assert [m.value for m in found.changes] == [m.value for m in expected.changes]
        assert found.rejected == expected.rejected + Counter({"not_json": 1, "unknown_type": 1} if bad else {})
