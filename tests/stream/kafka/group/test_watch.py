"""Who must not join a group, who gives way in it, and what is said, without a broker."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream.core.errors import GroupError
from stream.kafka.client.groups import Group
from stream.kafka.group import watch as group_watch
from stream.kafka.group.rollout import Member
from stream.kafka.group.watch import GroupWatch, members_of
from stream.settings import Settings

SETTINGS = Settings(group="shop", session_timeout_seconds=6, rollout_seconds=60)
OURS = Member("shop-0", "eu/shop", "aa")
THEIRS = [Member("shop-0", "us/shop", "aa"), Member("shop-1", "us/shop", "aa")]
OTHERS = [Member("w0", "", "bb"), Member("w1", "", "bb")]


class Coordinator:
    """Describe the group as it is told to, one answer after another."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def __call__(self, _settings, group, _seconds):
        assert group == "shop"
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return Group([(one.name, one.client_id) for one in answer], set())


@pytest.fixture
def watch(monkeypatch):
    """Make a watch over what a coordinator answers, in no time."""
    monkeypatch.setattr(group_watch, "_AGAIN", 0.001)
    monkeypatch.setattr(group_watch, "_TIMED_OUT_SECONDS", -5.9)

    def make(me, *answers):
        coordinator = Coordinator(*answers)
        monkeypatch.setattr(group_watch, "describe", coordinator)
        failed = []
        return GroupWatch(SETTINGS, me, failed.append), failed

    return make


@pytest.mark.parametrize(
    ("me", "members", "said"),
    [
        (OURS, THEIRS, ["shop-0, shop-1 (release us/shop, bundle aa)", "shop-0 (release eu/shop", "setting group"]),
        (Member("w9", "", "aa"), OTHERS, ["w0, w1 (bundle bb)", "w9 (bundle aa)", "under its own name"]),
    ],
    ids=["release", "bundle"],
)  # fmt: skip
def test_a_start_is_refused_and_told_by_whom(watch, me, members, said):
    with pytest.raises(GroupError) as refused:
        watch(me, members)[0].admit()
    assert refused.value.exit_code == 78
    for text in ("the group shop", *said):
        assert text in str(refused.value)


def test_another_host_with_this_name_and_another_bundle_is_told_by_its_staying(watch):
    with pytest.raises(GroupError, match="another bundle or mapping and this worker's name: w0") as refused:
        watch(Member("w0", "", "aa"), OTHERS)[0].admit()
    assert "no other host has" in refused.value.remedy
    with pytest.raises(GroupError, match="this worker's name"):
        watch(Member("w0", "eu/shop", "aa"), OTHERS)[0].admit()


def test_what_a_worker_replaces_is_waited_for_where_no_release_tells_of_a_rollout(watch, caplog):
    watch(Member("w0", "", "aa"), OTHERS, OTHERS[1:])[0].admit()
    (line,) = caplog.messages
    assert "waiting for up to" in line


def test_who_has_ended_is_waited_for(watch, caplog):
    watch(OURS, THEIRS, THEIRS[1:], [])[0].admit()
    (line,) = caplog.messages
    assert "waiting for up to" in line and "release us/shop" in line


@pytest.mark.parametrize(
    "members", [[], [OURS], [Member("shop-0", "eu/shop", "bb"), Member("shop-1", "eu/shop", "bb")], [Member("old")]]
)
def test_a_restart_and_a_rollout_join_at_once(watch, caplog, members):
    watch(OURS, members)[0].admit()
    assert not caplog.messages


def test_of_two_releases_that_joined_together_the_later_in_order_gives_way(watch):
    both = [OURS, *THEIRS]
    watch(OURS, both)[0].check(both, 0)
    with pytest.raises(GroupError, match="eu/shop"):
        watch(THEIRS[0], both)[0].check(both, 0)


def test_a_rollout_that_stands_still_for_too_long_is_none(watch):
    one, other = Member("w0", "", "aa"), Member("w1", "", "bb")
    (stays, _), (goes, _) = watch(one, []), watch(other, [])
    for now in (0, 59):
        stays.check([one, other], now)
        goes.check([one, other], now)
    stays.check([one, other], 60)
    with pytest.raises(GroupError, match="no worker has changed for 60 s"):
        goes.check([one, other], 60)


def test_a_look_that_is_not_answered_says_nothing_and_a_later_one_ends_the_worker(watch, monkeypatch):
    monkeypatch.setattr(group_watch, "EVERY", 0.001)
    away = KafkaException(KafkaError(KafkaError._TRANSPORT))
    late, failed = watch(Member("x-0", "zz/x", "aa"), away, TimeoutError(), [], THEIRS)
    late._run()
    assert [type(error) for error in failed] == [GroupError]


def test_a_group_that_is_not_there_has_no_members(monkeypatch):
    def tell(code):
        monkeypatch.setattr(group_watch, "describe", Coordinator(KafkaException(KafkaError(code))))

    tell(KafkaError.GROUP_ID_NOT_FOUND)
    assert members_of(SETTINGS) == []
    tell(KafkaError._TRANSPORT)
    with pytest.raises(KafkaException):
        members_of(SETTINGS)
