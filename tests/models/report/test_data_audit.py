"""The look over a log: by hand, and on logs that drift or do not."""

import io

import numpy as np
import pytest

from models.data.log import gather
from models.report.data_audit import audit
from stream.core.events import Event
from stream.core.manifest import TaskSpec
from stream.formats.registry import read
from tests.fakes import DAY, HOUR, MINUTE, NOON

MEANING = TaskSpec()


def _event(n, user, item, time, kind="view"):
    return Event(f"e{n}", user, kind, item, time)


def test_the_facts_by_hand():
    times = [0, 0, 1, 5, 5 + 3 * 60]
    rows = [_event(n, f"u{n // 3}", "i", NOON + m * MINUTE) for n, m in enumerate(times)]
    facts = audit(gather([*rows, _event(9, "u9", "j", NOON + 200 * MINUTE, "cart")], timed=True), NOON + HOUR, MEANING)
    assert (facts.events, facts.users, facts.items, facts.before) == (6, 3, 2, 4)
    assert facts.types == {"view": 5, "cart": 1}
    assert facts.duplicates == 1
    assert facts.pause == (NOON + 5 * MINUTE, NOON + 185 * MINUTE)
    assert facts.span == HOUR
    assert facts.buckets.tolist() == [4, 0, 0, 2]
    assert (facts.new_items, facts.new_users) == (0.5, 0.5)


def test_rejected_rows_are_told_by_reason_with_the_first_of_each():
    raw = b"1,2,3,pv,1511600000\n1,2,3,look,1511600001\n1,2\n1,2,3,gaze,1511600001\n1,2,3,buy,1511600005\n"
    facts = audit(gather(read(io.BytesIO(raw), "taobao"), timed=True), 1511600005000, MEANING)
    assert [(row.reason, row.line, n) for row, n in facts.rejected] == [("unknown_type", 2, 2), ("missing_field", 3, 1)]


def test_what_does_not_change_does_not_drift_and_what_does_is_named():
    random = np.random.default_rng(0)
    n = 20_000
    time = NOON + np.sort(random.integers(0, 28 * DAY, n))
    kinds = random.choice(["view", "addtocart"], n, p=[0.8, 0.2])
    items = random.integers(0, 50, n)
    since = NOON + 14 * DAY
    rows = [_event(i, f"u{random.integers(500)}", f"{items[i]}", int(time[i]), str(kinds[i])) for i in range(n)]
    calm = audit(gather(rows, timed=True), since, MEANING).drift
    assert set(calm) == {
        "event type",
        "item's popularity",
        "place in session",
        "pause before",
        "hour of day",
        "weekday",
    }
    assert max(calm.values()) < 0.1
    turned = [
        _event(i, r.user_id, r.item_id, r.timestamp, "addtocart" if r.timestamp >= since else r.type)
        for i, r in enumerate(rows)
    ]
    assert audit(gather(turned, timed=True), since, MEANING).drift["event type"] > 0.25
    fresh = [_renamed(r, f"new{r.item_id}") if r.timestamp >= since else r for r in rows]
    assert audit(gather(fresh, timed=True), since, MEANING).drift["item's popularity"] > 0.25


def _renamed(event: Event, item: str) -> Event:
    return Event(event.event_id, event.user_id, event.type, item, event.timestamp)


def test_rare_items_are_no_drift():
    """Let each of many items come about once in either half: only an event's own count could tell the halves apart."""
    random = np.random.default_rng(0)
    times = NOON + np.arange(10_000) * MINUTE
    items = random.integers(0, 5_000, len(times))
    rows = [_event(i, f"u{i % 300}", f"{items[i]}", int(times[i])) for i in range(len(times))]
    assert audit(gather(rows, timed=True), int(times[5_000]), MEANING).drift["item's popularity"] < 0.05


def test_a_clock_is_compared_over_whole_periods_only(log):
    """Three days have no week, an hour has no day."""
    assert {"hour of day"} <= set(audit(log, int(log.time.min()) + DAY + HOUR, MEANING).drift)
    assert "weekday" not in audit(log, int(log.time.min()) + DAY + HOUR, MEANING).drift
    assert "hour of day" not in audit(log, int(log.time.max()) - HOUR, MEANING).drift


def test_a_log_of_sessions_has_no_clock():
    log = gather(read(io.BytesIO(b"1 2 3\n2 3\n1 4 4 2\n5 6\n" * 20), "sessions"), timed=False)
    facts = audit(log, 60, MEANING)
    assert not facts.timed
    assert set(facts.drift) == {"item's popularity", "place in session"} | ({"event type"} & set(facts.drift))


@pytest.mark.parametrize("keep", [1, 2])
def test_a_log_of_one_event_has_facts_too(log, keep):
    facts = audit(log.where(np.arange(len(log)) < keep), int(log.time[0]), MEANING)
    assert facts.events == keep
    assert facts.buckets.sum() == keep
