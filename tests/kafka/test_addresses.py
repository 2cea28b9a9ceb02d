"""A worker finds its brokers by addresses as brokers print them, and by IPv6 alone."""

import json
import time
import urllib.request
from pathlib import Path

from stream.kafka.embedded_broker import Broker, free_port
from tests.kafka.shop import Shop, wait_for
from tests.kafka.test_worker import _value
from tests.stream.worker.test_health import ipv6


class BrokerOnIPv6(Broker):
    """A broker that listens on no address of IPv4, and tells its clients so."""

    @property
    def address(self) -> str:
        """Return what --bootstrap-servers takes."""
        return f"[::1]:{self.port}"


def _await_score(place: Shop, worker) -> None:
    wait_for(lambda: place.read(place.settings.scores_topic) or worker.poll() is not None, 60, "a score")
    assert worker.poll() is None
    assert [json.loads(m.value())["event_id"] for m in place.read(place.settings.scores_topic)] == ["e1"]


def test_a_listener_s_name_and_spaces_are_no_part_of_an_address(shop):
    place = shop()
    place.send([(b"u", _value(1))])
    _await_score(
        place, place.start("w0", bootstrap_servers=f"PLAINTEXT://{place.address} , PLAINTEXT://{place.address}")
    )


def test_a_wrong_address_ends_the_start_with_the_remedy(shop):
    place = shop()
    worker = place.start("w0", bootstrap_servers=f"{place.address},")
    assert worker.wait(30) == 78
    message, remedy = place.log_of("w0").read_text().splitlines()
    assert message == "forecart: address 2 of bootstrap_servers is empty"
    assert remedy.startswith("  write host:port, several with commas")


@ipv6
def test_a_worker_needs_no_ipv4(tmp_path: Path):
    """Broker, metrics and probes are on ::1 alone."""
    with BrokerOnIPv6() as broker:
        place, port = Shop(broker.address, f"ipv6-{time.time_ns()}", tmp_path), free_port()
        try:
            place.send([(b"u", _value(1))])
            listener = f"PLAINTEXT://{broker.address}"
            _await_score(place, place.start("w0", bootstrap_servers=listener, metrics_host="::1", metrics_port=port))
            with urllib.request.urlopen(f"http://[::1]:{port}/livez", timeout=5) as answer:
                assert answer.read() == b"ok\n"
            assert f"metrics and probes on http://[::1]:{port}" in place.log_of("w0").read_text()
        finally:
            place.close()
