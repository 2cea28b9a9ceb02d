"""Who may be in a group together, and when a rollout is over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.group.rollout import Member, Rollout, intruded_on, outnumbering, strangers

ME = Member("shop-0", "eu/shop", "aa")
workers = st.builds(Member, st.sampled_from(["w0", "w1", "w2", "w3"]), st.just(""), st.sampled_from(["aa", "bb", "cc"]))


@given(st.text("abc-./0", max_size=20), st.text("0af", min_size=1, max_size=16))
def test_a_client_id_says_what_it_was_made_of(release, model):
    member = Member("w", release, model)
    assert Member.of("w", member.client_id) == member


@pytest.mark.parametrize("client", ["faust-0.15.3", "", "rdkafka", "forecart", "forecart/aa", "forecart/eu/"])
def test_of_others_nothing_is_known(client):
    one = Member.of("w", client)
    assert one == Member("w")
    assert not strangers(ME, [one]) and not intruded_on(ME, [one])


def test_another_release_is_a_stranger_under_the_same_name_too():
    same, other = Member("shop-0", "us/shop", "aa"), Member("shop-1", "eu/shop", "bb")
    assert strangers(ME, [same, other, ME]) == [same]
    assert not strangers(ME._replace(release=""), [same])
    assert not strangers(ME, [same._replace(release="")])


@pytest.mark.parametrize(
    ("me", "members", "intrudes"),
    [
        (Member("w9", "", "bb"), [Member("w0", "", "aa"), Member("w1", "", "aa")], True),
        (Member("w9", "", "bb"), [], False),
        (Member("w9", "", "aa"), [Member("w0", "", "aa")], False),
        (Member("w1", "", "bb"), [Member("w0", "", "aa"), Member("w1", "", "aa")], False),
        (Member("w9", "", "bb"), [Member("w0", "", "aa"), Member("w1", "", "bb")], False),
        (Member("s-9", "eu/s", "bb"), [Member("s-0", "eu/s", "aa")], False),
        (Member("s-9", "eu/s", "bb"), [Member("w0", "", "aa")], True),
        (Member("w9", "", "bb"), [Member("s-0", "eu/s", "aa")], True),
    ],
    ids=[
        "new name",
        "first",
        "same bundle",
        "its own place",
        "others have it",
        "its release",
        "no release",
        "a release",
    ],
)
def test_a_new_bundle_comes_by_a_rollout_or_not_at_all(me, members, intrudes):
    assert bool(intruded_on(me, members)) is intrudes


@given(st.lists(workers, min_size=1, max_size=4, unique_by=lambda one: one.name))
def test_of_the_bundles_of_a_group_one_stays_whoever_looks(members):
    stay = {one.model for one in members if not outnumbering(one, members)}
    assert len(stay) == 1
    counts = [one.model for one in members]
    assert counts.count(*stay) == max(map(counts.count, counts))


def test_a_rollout_is_over_once_nothing_has_changed_for_long():
    rollout, old, new = Rollout(60), Member("w1", "", "aa"), Member("w1", "", "bb")
    me, third = Member("w0", "", "aa"), Member("w2", "", "bb")
    assert not rollout.over(me, [old], 0)
    assert not rollout.over(me, [old], 1000)  # one bundle
    assert not rollout.over(me, [new], 1001)
    assert not rollout.over(me, [new], 1060)
    assert not rollout.over(me, [new, third], 1061)  # it has gone on
    assert not rollout.over(me, [new, third], 1120)
    assert rollout.over(me, [new, third], 1121)
