"""Two clocks: what an acknowledgement tells of them, and when they differ too much."""

import logging

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME

from stream.core.errors import SettingError
from stream.kafka.client.clocks import Clocks
from stream.settings import Settings


class Message:
    """An acknowledged record; its broker's time in s."""

    def __init__(self, stamp: float, kind: int = TIMESTAMP_LOG_APPEND_TIME) -> None:
        self._timestamp = kind, int(stamp * 1000)

    def timestamp(self):
        return self._timestamp


def _heard(sent: float, stamp: float, acknowledged: float, future: int = 3600) -> Clocks:
    times = iter([sent, acknowledged])
    clocks = Clocks(Settings(max_future_seconds=future), lambda: next(times))
    clocks.measured()(None, Message(stamp))
    return clocks


@pytest.mark.parametrize(
    ("sent", "stamp", "acknowledged", "future", "said"),
    [
        (0, 3601, 1, 3600, "3600 s behind the broker's; 300 s"),
        (3600, 0, 3601, 3600, "3600 s ahead of the broker's; 300 s"),
        (0, 302, 1, 3600, "301 s behind"),
        (0, 12, 1, 10, "11 s behind the broker's; 10 s"),
        (0, 3, 1, 0, "2 s behind the broker's; 1 s"),
    ],
)
def test_clocks_that_differ_too_much_end_the_worker(sent, stamp, acknowledged, future, said):
    with pytest.raises(SettingError, match=said) as caught:
        _heard(sent, stamp, acknowledged, future).check()
    assert "NTP" in caught.value.remedy and caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("sent", "stamp", "acknowledged", "future"),
    [
        (0, 300, 1, 3600),  # 299 s at least
        (0, 400, 900, 3600),  # sent and acknowledged in a slow hour: nothing is certain
        (0, 0.999, 0, 0),  # a stamp is in whole ms, and a second is borne
        (9000, 5000, 5001, 3600),  # the clock was set back in between
    ],
)
def test_what_is_not_certain_ends_nothing(sent, stamp, acknowledged, future):
    _heard(sent, stamp, acknowledged, future).check()


def test_of_several_brokers_the_worst_counts_and_each_round_is_measured_anew():
    now = 0.0
    clocks = Clocks(Settings(), lambda: now)
    for stamp in (0.0, 900.0, 1.0):
        clocks.measured()(None, Message(stamp))
    with pytest.raises(SettingError, match="900 s behind"):
        clocks.check()
    clocks.measured()(None, Message(0.0))
    clocks.check()


def test_a_record_that_failed_tells_nothing_and_whoever_waits_hears_of_both():
    heard = []
    clocks = Clocks(Settings(), lambda: 0.0)
    clocks.measured(lambda error, message: heard.append((error, message)))("no", None)
    clocks.measured(lambda error, _: heard.append(error))(None, Message(0.0))
    assert heard == [("no", None), None]


def test_a_changelog_that_keeps_the_workers_time_is_told_of_once(caplog: pytest.LogCaptureFixture):
    clocks = Clocks(Settings(), lambda: 0.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            clocks.measured()(None, Message(9e9, TIMESTAMP_CREATE_TIME))
    clocks.check()
    assert len(caplog.records) == 1
    assert "message.timestamp.type=LogAppendTime" in caplog.text
