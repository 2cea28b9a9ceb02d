"""Where and how much: settings from a file, the environment and flags. Never what a model means."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from stream.core.errors import SettingError
from stream.core.linger import ROUND_BYTES

PREFIX = "FORECART_"
CONFIG = PREFIX + "CONFIG"
_NAME = r"(\.{0,2}[a-zA-Z0-9_-][a-zA-Z0-9._-]*|\.{3}[a-zA-Z0-9._-]*)"  # as Kafka has topics: not . and ..
_LONGEST = 249  # of a topic's name
_TOPIC: dict[str, Any] = {"pattern": f"^{_NAME}$", "max_length": _LONGEST}
_TOPIC_OR_NONE: dict[str, Any] = {"pattern": f"^({_NAME})?$", "max_length": _LONGEST}
_YEAR = 31_536_000.0
_FOREIGN = {CONFIG, PREFIX + "DATA"}  # the file of settings, and the folder of data that tests read


class Settings(BaseModel):
    """Every setting of the worker and its tools; the environment's names are these in capitals after FORECART_."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    bootstrap_servers: str = Field(
        "127.0.0.1:9092", description="Kafka's address: host:port, several with commas; [::1]:9092."
    )
    kafka_properties: Path | None = Field(None, description="A file of librdkafka properties: security and more.")
    bundle: Path | None = Field(None, description="The folder of the model.")
    group: str = Field("forecart", min_length=1, description="The consumer group; names the transactions too.")
    name: str = Field("", description="This worker, unique in its group: pod name; empty: a slot of this host.")
    release: str = Field("", description="Which deployment this worker is of, NAMESPACE/NAME; empty: not known.")
    rollout_seconds: float = Field(
        3600.0, ge=1, le=_YEAR, description="Two bundles in one group for so long, no worker changing, are no rollout."
    )
    events_topic: str = Field("events", **_TOPIC, description="Input: what shoppers do.")
    mapping: Path | None = Field(
        None, description="What the events' fields are called in the input, and which types mean what; none: as ours."
    )
    scores_topic: str = Field("scores", **_TOPIC, description="Output: one score an event.")
    dead_letters_topic: str = Field("dead-letters", **_TOPIC, description="Output: what could not be scored, and why.")
    catalog_topic: str = Field(
        "", **_TOPIC_OR_NONE, description="What the shop says of its items, compacted; empty: none is read."
    )
    changelog_topic: str = Field(
        "", **_TOPIC_OR_NONE, description="Sessions and positions, compacted; empty: GROUP-changelog."
    )
    recommend: bool = Field(True, description="Recommend items; off: intent only.")
    recommend_on: Literal["every", "session", "nth", "moved"] = Field(
        "every", description="Events with a list: each, a session's first, its n-th, or once the state has moved."
    )
    recommend_every: int = Field(1, ge=1, le=1_000_000_000, description="The n of nth.")
    recommend_moved: float = Field(0.1, ge=0, description="How far moved is: root mean square of the state's change.")
    recommend_last: bool = Field(False, description="Of a shopper's events in a round only the last has a list.")
    exclude_bought: bool = Field(False, description="List nothing that was bought among the shopper's recent events.")
    only_categories: str = Field("", description="List these categories alone, separated by commas; empty: all.")
    category_cap: int = Field(
        0, ge=0, le=1_000_000, description="Items of one category in a list at most; 0: no bound."
    )
    unseen_users: int = Field(
        3, ge=0, le=32, description="Shoppers who must meet an unseen item before others' lists hold it; 0: none."
    )
    catalog_only: bool = Field(True, description="With a catalog topic, list no unseen item that it does not name.")
    printable_ids: bool = Field(True, description="An event with ids that are not printable is a dead letter.")
    max_id_characters: int = Field(256, ge=1, le=256, description="An event with a longer id is a dead letter.")
    explain: bool = Field(False, description="Say with each score which recent events made it; costs throughput.")
    start: Literal["earliest", "latest"] = Field("earliest", description="Where a new group begins.")
    on_lost: Literal["stop", "continue"] = Field("stop", description="When input was deleted before it was read.")
    restored_changelog: str = Field(
        "", description="Id of a changelog topic that was made again and restored in full from a copy."
    )
    chunk_events: int = Field(4096, ge=1, le=65_536, description="Events of one partition scored at once.")
    round_chunks: int = Field(8, ge=1, le=1024, description="Chunks in one transaction.")
    round_bytes: int = Field(
        ROUND_BYTES,
        ge=1 << 20,
        le=1 << 32,
        description="Bytes read for one transaction or written by it; memory is bounded by it.",
    )
    max_event_bytes: int = Field(
        65_536, ge=1024, le=262_144, description="A longer event, or longer headers, are a dead letter."
    )
    max_batch_bytes: int = Field(
        67_108_864,
        ge=1_048_576,
        le=2_147_483_647,
        description="What a compressed batch inflates to; beyond it, all of it are dead letters.",
    )
    max_dead_letter_bytes: int = Field(1_000_000, ge=1024, le=100_000_000, description="A longer dead letter is cut.")
    max_users: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="Shoppers kept of a partition; beyond it the longest idle go first. 0: no bound.",
    )
    max_future_seconds: int = Field(
        3600,
        ge=0,
        le=int(_YEAR) * 100,
        description="How far an event may lie after its Kafka timestamp, and after now.",
    )
    session_timeout_seconds: float = Field(
        30.0, ge=6, le=3600, description="Kafka's: a silent worker loses its partitions."
    )
    transaction_timeout_seconds: float = Field(
        20.0, ge=5, le=3600, description="Kafka's: a silent transaction is aborted."
    )
    kafka_wait_seconds: float = Field(
        0.0, ge=0, le=_YEAR, description="How long a worker waits for Kafka before it ends; 0: as long as it takes."
    )
    leave_on_scale_down: bool = Field(
        False, description="Ask Kubernetes at the end; leave the group at once where this pod does not come back."
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Where metrics and probes listen; in a container ::, all of IPv6 and IPv4."
    )
    metrics_port: int = Field(9464, ge=0, le=65_535, description="0: a free port.")
    stall_seconds: float = Field(60.0, ge=1, le=86_400, description="No progress for so long: not live.")
    state_dir: Path = Field(
        Path("~/.local/state/forecart"), description="Where a host's worker slots are locked, where no name is given."
    )
    log_level: Literal["debug", "info", "warn", "error"] = Field("info", description="Of the worker's log.")
    failpoint: str = Field("", description="For tests: where to stop, as POINT@ROUND.")

    @model_validator(mode="after")
    def _check_topics(self) -> Self:
        """Refuse topics of one name, and a group that makes no name of a changelog."""
        if not re.fullmatch(_NAME, self.changelog) or len(self.changelog) > _LONGEST:
            raise SettingError(
                f"the setting group is {self.group!r}, and {self.changelog!r} no name of a changelog topic",
                "name the group by letters, digits, . _ and - (239 at most), or give the setting changelog_topic",
            )
        roles = "events_topic", "scores_topic", "dead_letters_topic", "changelog_topic", "catalog_topic"
        of: dict[str, str] = {}
        for role in roles:
            topic = self.changelog if role == "changelog_topic" else getattr(self, role)
            if topic and (other := of.setdefault(topic, role)) != role:
                raise SettingError(
                    f"the settings {other} and {role} name one topic, {topic}", "give each a topic of its own"
                )
        return self

    @property
    def changelog(self) -> str:
        """Return the changelog topic's name."""
        return self.changelog_topic or f"{self.group}-changelog"


def load(config: Path | None = None, **flags: Any) -> Settings:
    """Read the settings; raise SettingError for an unknown name or an impossible value.

    `flags` that are None are not given.
    """
    values = _file(config or (Path(os.environ[CONFIG]) if os.environ.get(CONFIG) else None))
    values |= _environment()
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise SettingError(f"there is no setting {name!r}", f"the settings are {_names()}") from error
        raise SettingError(
            f"the setting {name} is wrong: {first['msg'].lower()} (given: {first['input']!r})",
            f"correct it where it is given: a flag, {PREFIX}{name.upper()}, or the file of settings",
        ) from error


class _Variables(Settings, BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX)


def _environment() -> dict[str, Any]:
    """Read the variables; only `load` does, so that a value made elsewhere depends on nothing around it."""
    known = {*_FOREIGN, *(PREFIX + name.upper() for name in Settings.model_fields)}
    for variable in os.environ:
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingError(f"the environment has the unknown setting {variable}", f"the settings are {_names()}")
    return EnvSettingsSource(_Variables)()


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a child process that has these settings and none of ours."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return others | {PREFIX + name.upper(): str(value) for name, value in given.items() if value is not None}


def _names() -> str:
    return ", ".join(sorted(Settings.model_fields))


def _file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}", "check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is no TOML: {error}", 'write lines such as group = "forecart"') from error
