"""A link between workers and broker that is cut, slow, narrow or half-open."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kafka.nodes import Node
from tests.kafka.proxy import Proxy
from tests.kafka.trial import PATIENCE, Trial

pytestmark = pytest.mark.slow
chaos = pytest.mark.chaos
HARMS: dict[str, Callable[[Proxy], None]] = {
    "cut": Proxy.cut,
    "delayed": lambda proxy: proxy.delay(300),
    "throttled": lambda proxy: proxy.throttle(64 * 1024),
    "half-open": Proxy.hang,
}


@pytest.fixture
def link(tmp_path: Path) -> Iterator[tuple[Proxy, Node]]:
    """Run a broker, and a proxy that leads to it."""
    with Proxy(tmp_path / "proxy.log") as proxy, Node(tmp_path / "node", behind=proxy.port) as node:
        proxy.forward(node.inner)
        yield proxy, node


@pytest.mark.guarantee(
    "Workers outlive a link that is cut, delayed by 300 ms each way, throttled to 64 KiB/s, half-open",
    under="500 events/s; 5 s and 70 s of each",
)
@pytest.mark.parametrize(
    ("seconds", "times"), [(5, 1), pytest.param(5, 3, marks=chaos), pytest.param(70, 1, marks=chaos)]
)
def test_a_link_is_harmed(link: tuple[Proxy, Node], trial: Callable[..., Trial], seconds: float, times: int):
    """Workers go through the proxy; the producer and the oracle do not."""
    proxy, node = link
    one = trial(node.address)
    one.start(bootstrap_servers=proxy.address)
    one.await_assigned()
    for harm in [*HARMS.values()] * times:
        upstream = one.send(rate=500, seconds=seconds + 6)
        time.sleep(3)
        harm(proxy)
        one.faults += 1
        time.sleep(seconds)
        proxy.mend()
        upstream.join(PATIENCE)
        one.await_scored()
    one.end(at_least=len(HARMS) * times * 2000)
