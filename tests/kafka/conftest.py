"""A real broker for all Kafka tests, and a shop of topics of its own for each."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.kafka.embedded_broker import Broker
from tests.kafka.nodes import Node
from tests.kafka.shop import Shop
from tests.kafka.trial import Trial


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark everything here as needing Kafka, and leave out what takes long unless it is asked for by its mark."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kafka)
    if "chaos" not in config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("chaos")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """Run one broker for the session."""
    with Broker() as running:
        yield running


@pytest.fixture
def shops(
    tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[Callable[..., Shop]]:
    """Make shops on any broker: a group, its topics, and workers that end with the test."""
    made: list[Shop] = []

    def make(address: str, **settings: object) -> Shop:
        group = f"{request.node.name.split('[')[0]}-{len(made)}-{tmp_path.name}".replace("_", "-")
        made.append(Shop(address, group, tmp_path, **settings))
        made[-1].record = record_property
        return made[-1]

    yield make
    for one in made:
        one.close()
    if getattr(request.node, "failed", False):
        for log in sorted(tmp_path.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-3000:]}")


@pytest.fixture
def shop(broker: Broker, shops: Callable[..., Shop]) -> Callable[..., Shop]:
    """Make shops on the session's broker."""
    return lambda **settings: shops(broker.address, **settings)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Run a broker of the test's own, to be stopped, killed and moved."""
    with Node(tmp_path / "node") as running:
        yield running


@pytest.fixture
def trial(shops: Callable[..., Shop]) -> Callable[..., Trial]:
    """Make a trial on a broker: a shop with workers that no fault may end."""
    return lambda address, **settings: Trial(shops(address, **settings))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Let the fixture know that its test failed."""
    report = yield
    if report.failed:
        item.failed = True
    return report
