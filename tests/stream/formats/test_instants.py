"""Times as shops write them."""

import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.formats.instants import ISO, Instants

NOON = 1_772_625_600_000  # 2026-03-04 12:00 UTC


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("ms", NOON),
        ("ms", f"{NOON}"),
        ("s", NOON // 1000),
        ("s", NOON / 1000),
        ("us", NOON * 1000),
        ("ns", NOON * 1_000_000),
        (ISO, "2026-03-04T12:00:00Z"),
        (ISO, "2026-03-04 12:00:00 UTC"),
        (ISO, "2026-03-04T14:00:00.000+02:00"),
        (ISO, "2026-03-04 14:00:00 +0200"),
        (ISO, "2026-03-04 12:00"),
        (ISO, datetime(2026, 3, 4, 12)),
        ("%d.%m.%Y %H:%M", "04.03.2026 12:00"),
        ("ms", datetime(2026, 3, 4, 12, tzinfo=UTC)),
    ],
)
def test_a_time_is_read(form: str, value: object):
    assert Instants(form).one(value) == NOON
    assert Instants(form).many([value, value]).tolist() == [NOON, NOON]


def test_a_time_that_names_no_zone_is_of_the_given_one():
    berlin = ZoneInfo("Europe/Berlin")
    assert Instants(ISO, berlin).one("2026-03-04T13:00:00") == NOON
    assert Instants("%d.%m.%Y %H:%M", berlin).one("04.03.2026 13:00") == NOON
    assert Instants(ISO, berlin).one("2026-03-04T12:00:00Z") == NOON
    days = [
        f"2026-{month:02}-{day:02}T{hour:02}:30:00" for month in (3, 10) for day in (28, 29, 25) for hour in range(24)
    ]
    assert Instants(ISO, berlin).many(days).tolist() == [Instants(ISO, berlin).one(day) for day in days]


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("ms", "noon"),
        ("ms", True),
        ("s", float("nan")),
        ("s", float("inf")),
        (ISO, "NaT"),
        (ISO, "today"),
        (ISO, NOON),
        (ISO, "04.03.2026 12:00"),
        ("%d.%m.%Y", "2026-03-04"),
    ],
)
def test_what_is_no_time_is_refused(form: str, value: object):
    for values in ([value], [value] * 3):
        with pytest.raises((ValueError, OverflowError)):
            Instants(form).many(values)


_TEXTS = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).flatmap(
    lambda time: st.sampled_from(("seconds", "milliseconds", "microseconds", "minutes")).flatmap(
        lambda spec: st.sampled_from(("", "Z", "+02:00", "-0330", " UTC")).map(
            lambda zone: time.isoformat(timespec=spec) + zone
        )
    )
)


@given(st.lists(_TEXTS, max_size=5), st.booleans())
def test_many_at_once_are_read_as_one_by_one(texts: list[str], alike: bool):
    for zone in (UTC, ZoneInfo("America/New_York")):
        times = Instants(ISO, zone)
        given_ = texts[:1] * 4 if alike else texts
        assert times.many(given_).tolist() == [times.one(text) for text in given_]


def test_a_zone_that_others_do_not_name_is_read():
    texts = ["2026-03-04T12:00:00.00", "2026-03-04T12:00:00.0Z"]
    assert Instants(ISO, ZoneInfo("Europe/Berlin")).many(texts).tolist() == [NOON - 3_600_000, NOON]


def test_a_day_is_the_time_that_it_begins_at():
    assert Instants("ms").one(date(2026, 3, 4)) == NOON - 43_200_000
    assert Instants(ISO, ZoneInfo("Europe/Berlin")).one(date(2026, 3, 4)) == NOON - 43_200_000 - 3_600_000


@pytest.mark.parametrize(
    ("form", "value", "said"),
    [
        ("ms", "2026-03-04T12:00Z", "as the mapping's `unit: ms` says: write the `format` of text"),
        ("s", "soon", "as the mapping's `unit: s` says"),
        (ISO, "1772625600", "or the `unit` of numbers"),
        (ISO, 1772625600, "or the `unit` of numbers"),
        (ISO, "04.03.2026", "write the `format` of other text"),
        ("%d.%m.%Y", "2026-03-04", "is no time by the mapping's pattern '%d.%m.%Y'"),
    ],
)
def test_what_is_no_time_is_told_with_what_the_mapping_says(form: str, value: object, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        Instants(form).one(value)
