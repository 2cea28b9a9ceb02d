"""Settings of all tests: property tests without deadlines, real data where FORECART_DATA says."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
    """Keep a developer's settings out of the tests."""
    for name in [n for n in os.environ if n.startswith("FORECART_") and n != "FORECART_DATA"]:
        monkeypatch.delenv(name)
