"""What Kafka forgets of a worker that has nothing to do for long: its transactional id and its producer's id."""

import time

import pytest

from tests.kafka.nodes import Node
from tests.kafka.trial import Trial

pytestmark = pytest.mark.slow
SOON = {  # 7 days and one, by default
    "transactional.id.expiration.ms": "5000",
    "transaction.remove.expired.transaction.cleanup.interval.ms": "1000",
    "producer.id.expiration.ms": "5000",
    "producer.id.expiration.check.interval.ms": "1000",
}


@pytest.mark.guarantee(
    "Workers that were idle for longer than Kafka keeps their transactional ids go on",
    under="transactional.id.expiration.ms and producer.id.expiration.ms of 5 s, idle for 20 s",
)
def test_workers_go_on_after_kafka_has_forgotten_their_transactional_ids(tmp_path, trial):
    with Node(tmp_path / "node", more=SOON) as node:
        one = trial(node.address)
        one.start()
        one.await_assigned()
        one.burst()
        _forget(one)
        one.burst()
        told = [one.place.log_of(name).read_text() for name in one.workers]
        assert all("INVALID_PRODUCER_ID_MAPPING" in text for text in told)
        _forget(one)
        one.start("w2")  # the others claim their names anew before anything else
        one.await_assigned()
        one.burst()
        one.end(at_least=2700)


def _forget(one: Trial) -> None:
    time.sleep(20)
    one.check_alive()
    one.faults += 1
