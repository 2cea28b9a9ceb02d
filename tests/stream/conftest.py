"""Unit tests of serving reach no broker of a developer's."""

import pytest


@pytest.fixture(autouse=True)
def _nowhere(_own_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the default address be one where nothing listens."""
    monkeypatch.setenv("FORECART_BOOTSTRAP_SERVERS", "127.0.0.1:9")
