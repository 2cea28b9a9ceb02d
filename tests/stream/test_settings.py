"""Settings: file, environment, flags, in this order; a wrong one says what is right."""

from pathlib import Path

import pytest

from stream.core.errors import SettingError
from stream.settings import Settings, child_environment, load


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tmp_path / "forecart.toml"
    config.write_text('group = "file"\nchunk_events = 7\nevents_topic = "clicks"\n')
    monkeypatch.setenv("FORECART_GROUP", "environment")
    monkeypatch.setenv("FORECART_CHUNK_EVENTS", "8")
    found = load(config, group="flag", name=None)
    assert (found.group, found.chunk_events, found.events_topic) == ("flag", 8, "clicks")
    assert found.changelog == "flag-changelog"
    monkeypatch.setenv("FORECART_CONFIG", str(config))
    assert load().events_topic == "clicks"


@pytest.mark.parametrize("name", ["FORECART_GRUOP", "FORECART_"])
def test_an_unknown_name_in_the_environment_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, "x")
    with pytest.raises(SettingError, match=name) as caught:
        load()
    assert "group" in caught.value.remedy


def test_an_unknown_name_in_the_file_is_an_error(tmp_path: Path):
    (tmp_path / "c.toml").write_text("gruop = 1\n")
    with pytest.raises(SettingError, match="'gruop'"):
        load(tmp_path / "c.toml")


@pytest.mark.parametrize("text", ["group = ", "\xff"])
def test_a_file_that_is_no_toml_is_an_error(tmp_path: Path, text: str):
    (tmp_path / "c.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingError, match="no TOML"):
        load(tmp_path / "c.toml")


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(SettingError, match="cannot be read"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("name", "value"), [("chunk_events", "many"), ("start", "middle"), ("metrics_port", 70_000), ("group", "")]
)
def test_an_impossible_value_names_its_setting(name: str, value: object):
    with pytest.raises(SettingError, match=name):
        load(**{name: value})


@pytest.mark.parametrize("name", Settings.model_json_schema()["properties"])
def test_a_number_has_a_bound_above(name: str):
    kind = Settings.model_json_schema()["properties"][name]
    if kind.get("type") in ("integer", "number") and name != "recommend_moved":  # a distance, and nothing is made of it
        assert "maximum" in kind
        with pytest.raises(SettingError, match=name):
            load(**{name: kind["maximum"] + 1})


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_number_is_one(value: str):
    with pytest.raises(SettingError, match="recommend_moved"):
        load(recommend_moved=value)


@pytest.mark.parametrize("topic", [".", "..", "", "my shop", "käse", "x" * 250])
def test_a_topic_has_a_name_that_kafka_takes(topic: str):
    with pytest.raises(SettingError, match="events_topic"):
        load(events_topic=topic)
    for legal in ("...", ".a", "..a", "a..", "_", "x" * 249):
        assert load(events_topic=legal).events_topic == legal


@pytest.mark.parametrize("group", ["my shop", "käse", "x" * 240])
def test_a_group_makes_a_name_of_a_changelog_or_has_one_given(group: str):
    with pytest.raises(SettingError, match="the setting group") as caught:
        load(group=group)
    assert "changelog_topic" in caught.value.remedy
    assert load(group=group, changelog_topic="sessions").group == group


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"scores_topic": "events"}, "events_topic and scores_topic name one topic, events"),
        ({"catalog_topic": "forecart-changelog"}, "changelog_topic and catalog_topic"),
        ({"dead_letters_topic": "s", "scores_topic": "s"}, "scores_topic and dead_letters_topic"),
    ],
)
def test_no_topic_has_two_uses(given: dict[str, str], said: str):
    with pytest.raises(SettingError, match=said):
        load(**given)


def test_settings_are_documented():
    assert all(field.description for field in Settings.model_fields.values())


def test_only_load_reads_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORECART_BOOTSTRAP_SERVERS", "elsewhere:9092")
    monkeypatch.setenv("FORECART_METRICS_PORT", "abc")
    found = Settings(group="own")
    assert (found.bootstrap_servers, found.metrics_port) == ("127.0.0.1:9092", 9464)
    with pytest.raises(SettingError, match="metrics_port") as caught:
        load()
    assert "FORECART_METRICS_PORT" in caught.value.remedy


def test_a_child_has_the_settings_it_is_given_and_no_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORECART_KAFKA_PROPERTIES", "secrets")
    monkeypatch.setenv("FORECART_GROUP", "outer")
    given = child_environment(Settings(group="own", recommend=False, bundle=None))
    assert {name: value for name, value in given.items() if name.startswith("FORECART_")} == {
        "FORECART_GROUP": "own",
        "FORECART_RECOMMEND": "False",
    }
    assert "PATH" in given
