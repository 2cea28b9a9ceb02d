"""Find the tools that judge the deployment files, and the files."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def deploy() -> Path:
    """Return the folder under test."""
    return ROOT / "deploy"


@pytest.fixture(scope="session")
def helm() -> Run:
    """Run helm."""
    return _tool("helm")


@pytest.fixture(scope="session")
def promtool() -> Run:
    """Run promtool."""
    return _tool("promtool")


def _tool(name: str) -> Run:
    """Return a caller of a tool; without the tool a laptop skips, and CI, where it must be, fails."""
    if shutil.which(name) is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"{name} is not installed")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=ROOT)

    return run
