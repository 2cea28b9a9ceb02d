"""Settings of all tests: property tests without deadlines, real data where FORECART_DATA says."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import access, guarantees

settings.register_profile(
    "forecart", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("forecart")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data sets; skip, by name, where there is none."""
    if not (folder := os.environ.get("FORECART_DATA")):
        pytest.skip("FORECART_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a developer's settings out of the tests, and a terminal's width, which parallel runs set too."""
    own = [n for n in os.environ if n.startswith("FORECART_") and n != "FORECART_DATA"]
    for name in [*own, *({"COLUMNS"} & os.environ.keys())]:
        monkeypatch.delenv(name)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run write what it found into the page of guarantees."""
    parser.addoption("--guarantees", type=Path, metavar="PAGE", help="write what the tests found into this page")
    parser.addoption("--access", type=Path, metavar="PAGE", help="write what is said to whom does not come in")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what tests of guarantees found, and write it where that was asked for."""
    results = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            found = dict(report.user_properties).get("figures")
            if outcome == "failed" and "guarantee" in report.keywords:
                results.append((report.nodeid, f"failed; {found}" if found else "failed"))
            elif found and report.when == "call":
                results.append((report.nodeid, found))
    if results:
        terminalreporter.section("guarantees")
        for case, found in results:
            terminalreporter.write_line(f"{case}: {found}")
    if page := config.getoption("access"):
        told = [v for r in terminalreporter.getreports("passed") for name, v in r.user_properties if name == "said"]
        page.write_text(access.renew(page.read_text(), told))
    if page := config.getoption("guarantees"):
        figures = guarantees.gather(results, guarantees.here())
        page.write_text(guarantees.renew(page.read_text(), guarantees.promises(), figures))
