"""Topics: planned, created, and refused with the fix."""

import pytest
from confluent_kafka.admin import NewTopic

from stream import settings as configuration
from stream.core.errors import TopicError
from stream.kafka.client import admin
from stream.kafka.topics import apply, check, plan


@pytest.fixture
def fresh(broker, request):
    """Name topics that do not exist yet."""
    group = request.node.name.split("[")[0].replace("_", "-")[:40]
    names = {f"{role}_topic": f"{group}-{role}" for role in ("events", "scores", "dead_letters")}
    return configuration.load(bootstrap_servers=broker.address, group=group, **names)


def _create(settings, name, partitions, **config):
    client = admin(settings)  # it must outlive its answers
    client.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(10)


def test_what_is_missing_is_created_once(fresh):
    assert [t.role for t in plan(fresh).missing] == ["events", "scores", "dead letters", "changelog"]
    assert len(apply(fresh, 3).missing) == 4
    again = plan(fresh)
    assert (again.missing, again.wrong) == ([], [])
    assert [t.partitions for t in again.present] == [3, 3, 3, 3]
    assert check(fresh, admin(fresh)) == 3


def test_the_changelog_has_as_many_partitions_as_the_input(fresh):
    _create(fresh, fresh.events_topic, 5)
    assert next(t for t in apply(fresh).missing if t.role == "changelog").partitions == 5


def test_another_count_is_refused_with_the_fix(fresh):
    _create(fresh, fresh.events_topic, 4)
    _create(fresh, fresh.changelog, 2, **{"cleanup.policy": "compact"})
    with pytest.raises(TopicError, match="has 2 partitions, not 4"):
        apply(fresh)
    assert fresh.scores_topic not in admin(fresh).list_topics(timeout=10).topics
    with pytest.raises(TopicError, match="missing topics"):
        check(fresh, admin(fresh))


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_changelog_that_forgets_is_refused_with_the_fix(fresh, policy):
    settings = configuration.load(
        **{**fresh.model_dump(), "changelog_topic": f"{fresh.group}-{policy.replace(',', '-')}"}
    )
    _create(settings, settings.changelog, 6, **{"cleanup.policy": policy})
    with pytest.raises(TopicError, match=r"--add-config cleanup\.policy=compact"):
        apply(settings)


def test_dead_letters_have_room_for_the_largest_record(fresh):
    _create(fresh, fresh.dead_letters_topic, 1, **{"max.message.bytes": "2000"})
    with pytest.raises(TopicError, match="bytes=1065536"):
        apply(fresh)
