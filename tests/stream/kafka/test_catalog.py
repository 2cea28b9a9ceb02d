"""The catalog's reader without Kafka: how it ends, and what it says of a topic that is silent."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream.core.errors import BrokerError, TopicError
from stream.core.manifest import Vocabulary
from stream.kafka import catalog
from stream.kafka.catalog import CatalogReader
from stream.recommend.shop_catalog import Catalog
from stream.settings import Settings


class Reader:
    """Stand in for a consumer of one empty partition; `said` is what the topic's metadata hold, or raise."""

    def __init__(self) -> None:
        self.messages: list[Any] = [_message(KafkaError(KafkaError._PARTITION_EOF))]
        self.said: KafkaError | KafkaException | None = None
        self.leader: KafkaError | None = None

    def list_topics(self, topic: str, _timeout: float) -> Any:
        if isinstance(self.said, KafkaException):
            raise self.said
        partitions = {} if self.said else {0: SimpleNamespace(error=self.leader)}
        return SimpleNamespace(topics={topic: SimpleNamespace(error=self.said, partitions=partitions)})

    def assign(self, _partitions: Any) -> None: ...

    def close(self) -> None: ...

    def consume(self, *_: Any) -> list[Any]:
        time.sleep(0.005)
        found, self.messages = self.messages, []
        return found


def _message(error: KafkaError) -> Any:
    return SimpleNamespace(error=lambda: error, partition=lambda: 0)


def _record(value: bytes, offset: int) -> Any:
    return SimpleNamespace(error=lambda: None, key=lambda: b"i1", value=lambda: value, offset=lambda: offset)


def _error(name: str) -> KafkaError:
    return KafkaError(getattr(KafkaError, name), "told to")


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    made = Reader()
    monkeypatch.setattr(catalog, "consumer", lambda *_, **__: made)
    monkeypatch.setattr(catalog, "_ASK", 0.02)
    return made


class _Failures(list[BaseException]):
    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Event()

    def __call__(self, error: BaseException) -> None:
        self.append(error)
        self.came.set()


@pytest.fixture
def started(reader: Reader):
    failures = _Failures()
    following = CatalogReader(Settings(catalog_topic="items"), Catalog(Vocabulary([], [], []), [], 0, False))
    following.start(failures)
    yield following, failures
    following.stop()


@pytest.mark.parametrize("error", ["_TRANSPORT", "_TIMED_OUT", "_ALL_BROKERS_DOWN"])
def test_a_broker_that_does_not_answer_at_the_start_is_named(reader: Reader, error: str):
    reader.said = KafkaException(_error(error))
    with pytest.raises(BrokerError, match="catalog items"):
        CatalogReader(Settings(catalog_topic="items"), Catalog(Vocabulary([], [], []), [], 0, False)).start(print)


@pytest.mark.parametrize(
    ("error", "kind"), [("TOPIC_AUTHORIZATION_FAILED", BrokerError), ("UNKNOWN_TOPIC_OR_PART", TopicError)]
)
def test_a_topic_that_may_not_be_read_is_not_called_missing(reader: Reader, error: str, kind: type[Exception]):
    reader.said = _error(error)
    with pytest.raises(kind):
        CatalogReader(Settings(catalog_topic="items"), Catalog(Vocabulary([], [], []), [], 0, False)).start(print)


@pytest.mark.parametrize("where", ["message", "metadata"])
def test_a_right_that_is_taken_away_ends_the_worker(reader: Reader, started, where: str):
    _, failures = started
    if where == "message":
        reader.messages = [_message(_error("TOPIC_AUTHORIZATION_FAILED"))]
    else:
        reader.said = _error("TOPIC_AUTHORIZATION_FAILED")
    assert failures.came.wait(10)
    assert [type(error) for error in failures] == [BrokerError]
    assert "rights" in str(failures[0])


def test_a_topic_that_is_gone_for_good_ends_the_worker(reader: Reader, started, monkeypatch: pytest.MonkeyPatch):
    _, failures = started
    reader.said = _error("UNKNOWN_TOPIC_OR_PART")
    assert not failures.came.wait(0.2)  # a broker that restarts may not know it for a moment
    monkeypatch.setattr(catalog, "_PATIENCE", 0.1)
    assert failures.came.wait(10)
    assert [type(error) for error in failures] == [TopicError]


def test_an_outage_and_records_that_are_none_are_told_once(reader: Reader, started, caplog):
    following, failures = started
    reader.messages = [_record(b"{", offset) for offset in range(50)]
    reader.said = KafkaException(_error("_TRANSPORT"))
    time.sleep(0.5)
    assert following.silence() > 0.4
    assert len([text for text in caplog.messages if "was not heard" in text]) == 1
    assert [text for text in caplog.messages if "is none" in text] == [
        "the catalog's record at offset 0 is none: not_json"
    ]
    assert not failures


@pytest.mark.parametrize("silent", ["said", "leader"])
def test_silence_is_told_and_ends_when_the_topic_answers(reader: Reader, started, silent: str, caplog):
    following, failures = started
    error = _error("LEADER_NOT_AVAILABLE")
    setattr(reader, silent, KafkaException(error) if silent == "said" else error)
    time.sleep(0.3)
    assert following.silence() > 0.2
    assert "the catalog items was not heard" in caplog.text
    setattr(reader, silent, None)
    deadline = time.monotonic() + 10
    while following.silence() > 0.2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert time.monotonic() < deadline
    assert not failures


def test_without_a_topic_nothing_is_silent():
    following = CatalogReader(Settings(), Catalog(Vocabulary([], [], []), [], 0, False))
    following.start(print)
    assert following.silence() == 0
