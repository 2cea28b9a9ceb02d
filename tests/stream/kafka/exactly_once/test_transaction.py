"""How the errors of a transaction are sorted (rule 5), with a producer that fails as told."""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream.core.errors import BrokerError, FaultError
from stream.kafka.client.errors import Kind
from stream.kafka.exactly_once import transaction
from stream.kafka.exactly_once.producing import Producing
from stream.kafka.exactly_once.transaction import Aborted, Committer, ProducerLostError, Stand
from stream.kafka.group.membership import Membership, PartitionState
from stream.scoring.scorer import Partition
from stream.settings import Settings
from stream.state.position import Topics


class Producer:
    """Raise what it is told to, by the name of the call; note the calls and their timeouts."""

    def __init__(self) -> None:
        self.hangs, self.returns = "", threading.Event()  # the call that does not return until it is let go
        self.errors: dict[str, list[KafkaError | type[Exception]]] = {}
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*given: Any, **_: Any) -> Any:
            self.calls.append((name, given))
            if name == self.hangs:
                self.returns.wait(20)
            if told := self.errors.get(name):
                error = told.pop(0) if len(told) > 1 else told[0]
                if error is None:
                    return 0
                raise KafkaException(error) if isinstance(error, KafkaError) else error()
            if name == "list_topics":
                return SimpleNamespace(topics=defaultdict(lambda: SimpleNamespace(partitions=[0])))
            return 0

        return call

    def called(self, name: str) -> int:
        """Count the calls of a name."""
        return sum(n == name for n, _ in self.calls)


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Producer:
    """Stand in for librdkafka's."""
    made = Producer()
    monkeypatch.setattr(transaction, "producer", lambda *_args, **_more: made)
    return made


def _commit(timeout: float = 0.3, up: bool = True, **settings: Any) -> None:
    committer = Committer(Settings(transaction_timeout_seconds=5, **settings), "w0", up_since=lambda _when: up)
    held = PartitionState(Partition(0, None, position=7), topics=Topics("t"))  # type: ignore[arg-type]
    committer._timeout = timeout
    committer.commit([], {0: Stand.of(held)}, Membership("g", 1, "m", None))


def _abortable() -> KafkaError:
    return KafkaError(KafkaError._STATE, "abortable", False, False, True)


def test_what_can_be_aborted_is(producer: Producer):
    producer.errors["send_offsets_to_transaction"] = [_abortable()]
    with pytest.raises(Aborted):
        _commit()
    assert producer.called("abort_transaction") == 1


@pytest.mark.parametrize(
    ("name", "why"),
    [("_STATE", Kind.LOST), ("_TIMED_OUT", Kind.PASSING), ("ILLEGAL_GENERATION", Kind.MEMBERSHIP)],
)
def test_an_abort_tells_why(producer: Producer, name: str, why: Kind):
    error = KafkaError(getattr(KafkaError, name), "abortable", False, False, True)
    producer.errors["send_offsets_to_transaction"] = [error]
    with pytest.raises(Aborted) as raised:
        _commit()
    assert raised.value.why is why


def test_a_producer_of_before_an_outage_commits_nothing(producer: Producer):
    """Its last transaction may lack markers, which the next commit would write in some partitions and not in others."""
    with pytest.raises(ProducerLostError, match="Kafka was away"):
        _commit(up=False)
    assert producer.called("commit_transaction") == producer.called("abort_transaction") == 0


def test_a_flush_that_takes_too_long_is_a_late_round(producer: Producer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(producer, "flush", lambda _seconds: 3, raising=False)
    with pytest.raises(Aborted, match="3 records") as raised:
        _commit()
    assert raised.value.why is Kind.PASSING


def test_a_flush_may_take_what_the_transaction_allows_and_the_rest_has_time_left(producer: Producer):
    def flush(seconds: float) -> int:
        producer.calls.append(("flush", (seconds,)))
        time.sleep(seconds)
        return 0

    producer.flush = flush  # type: ignore[attr-defined]
    _commit(timeout=2.0)
    ((seconds,),) = (given for name, given in producer.calls if name == "flush")
    assert 1.5 < seconds <= 1.6
    ((left,),) = (given for name, given in producer.calls if name == "commit_transaction")
    assert 0.1 < left <= 0.2


@pytest.mark.parametrize(
    ("code", "fenced"),
    [
        (KafkaError._FENCED, True),
        (KafkaError.PRODUCER_FENCED, True),
        (KafkaError.INVALID_PRODUCER_EPOCH, True),
        (KafkaError.INVALID_PRODUCER_ID_MAPPING, False),
        (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, False),
    ],
)
def test_a_fatal_error_ends_the_producer(producer: Producer, code: int, fenced: bool):
    producer.errors["commit_transaction"] = [KafkaError(code, "fatal", True, False, False)]
    with pytest.raises(ProducerLostError) as caught:
        _commit()
    assert caught.value.fenced is fenced
    assert producer.called("abort_transaction") == 0


def test_a_passing_error_is_tried_again_and_brokers_that_stay_silent_are_no_bug(producer: Producer):
    producer.errors["commit_transaction"] = [KafkaError(KafkaError._TIMED_OUT, "no answer", False, True, False)]
    with pytest.raises(ProducerLostError, match="no answer"):
        _commit()
    assert producer.called("commit_transaction") > 1


def test_an_abort_that_gets_no_answer_is_no_twin(producer: Producer):
    producer.errors["commit_transaction"] = [_abortable()]
    producer.errors["abort_transaction"] = [KafkaError(KafkaError._INVALID_ARG, "no", True, False, False)]
    with pytest.raises(ProducerLostError, match="could not be aborted") as caught:
        _commit()
    assert not caught.value.fenced


def test_what_people_decide_about_is_said(producer: Producer):
    refused = KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "no right", False, False, False)
    producer.errors["begin_transaction"] = [refused]
    with pytest.raises(BrokerError, match="Kafka refuses it"):
        _commit()


def test_an_unknown_error_is_a_bug(producer: Producer):
    producer.errors["begin_transaction"] = [KafkaError(KafkaError._INVALID_ARG, "what", False, False, False)]
    with pytest.raises(FaultError):
        _commit()


def test_no_call_may_take_longer_than_is_left(producer: Producer):
    _commit()
    ends = [given[-1] for name, given in producer.calls if name in ("commit_transaction", "flush")]
    assert ends
    assert all(0 < seconds <= 0.3 for seconds in ends)


def test_a_full_queue_is_drained_for_the_position_too(producer: Producer):
    producer.errors["produce"] = [BufferError, None]  # type: ignore[list-item]
    _commit()
    assert producer.called("produce") == 2
    assert producer.called("poll") == 1


def _hang(
    producer: Producer, monkeypatch: pytest.MonkeyPatch, name: str, call: Callable[[Producing], Awaitable[None]]
) -> None:
    """Let a call of librdkafka's not return, and hold a real committer's to its deadline."""
    for seconds in (
        "exactly_once.transaction._CALL_SECONDS",
        "exactly_once.transaction._INIT_SECONDS",
        "client.deadline._OVERDUE_SECONDS",
        "exactly_once.producing._LOOK",
    ):
        monkeypatch.setattr(f"stream.kafka.{seconds}", 0.05)

    def make() -> Committer:
        committer = Committer(Settings(), "w0")
        committer._timeout = 0.3
        return committer

    async def main() -> None:
        producing = Producing("w0", make, lambda _when: True)
        await producing.renew()
        producer.hangs = name
        began = time.monotonic()
        with pytest.raises(ProducerLostError, match=f"^{name} does not return"):
            await call(producing)
        assert time.monotonic() - began < 5
        assert producing.lost

    try:
        asyncio.run(main())
    finally:
        producer.returns.set()


@pytest.mark.parametrize(
    "name", ["begin_transaction", "produce", "flush", "send_offsets_to_transaction", "commit_transaction"]
)
def test_a_round_whose_call_does_not_return_loses_its_producer(
    producer: Producer, monkeypatch: pytest.MonkeyPatch, name: str
):
    held = PartitionState(Partition(0, None, position=7), topics=Topics("t"))  # type: ignore[arg-type]
    member = Membership("g", 1, "m", None)
    _hang(producer, monkeypatch, name, lambda by: by.commit([], {0: Stand.of(held)}, member))


@pytest.mark.parametrize("name", ["begin_transaction", "produce", "commit_transaction"])
def test_a_claim_whose_call_does_not_return_loses_its_producer(
    producer: Producer, monkeypatch: pytest.MonkeyPatch, name: str
):
    _hang(producer, monkeypatch, name, lambda by: by.claim(0))


def test_an_abort_that_does_not_return_loses_the_producer(producer: Producer, monkeypatch: pytest.MonkeyPatch):
    producer.errors["commit_transaction"] = [_abortable()]
    _hang(producer, monkeypatch, "abort_transaction", lambda by: by.claim(0))


@pytest.mark.parametrize("name", ["init_transactions", "list_topics", "produce", "flush", "abort_transaction"])
def test_a_producer_whose_start_does_not_return_is_lost(producer: Producer, monkeypatch: pytest.MonkeyPatch, name: str):
    _hang(producer, monkeypatch, name, lambda by: by.renew())
