"""A real broker for all Kafka tests, and a shop of topics of its own for each."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.kafka.broker import Broker
from tests.kafka.shop import Shop


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as needing Kafka."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """Run one broker for the session."""
    with Broker() as running:
        yield running


@pytest.fixture
def shop(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Shop]]:
    """Make shops: a group, its topics, and workers that end with the test."""
    made: list[Shop] = []

    def make(**settings: object) -> Shop:
        group = f"{request.node.name.split('[')[0]}-{len(made)}-{tmp_path.name}".replace("_", "-")
        made.append(Shop(broker.address, group, tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
    if getattr(request.node, "failed", False):
        for log in sorted(tmp_path.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-3000:]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Let the fixture know that its test failed."""
    report = yield
    if report.failed:
        item.failed = True
    return report
