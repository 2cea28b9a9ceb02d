"""What comes with a package when it is imported alone: no library that is not its own, none of training in serving."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"aiokafka", "confluent_kafka", "cramjam", "faust", "onnxruntime", "prometheus_client", "pydantic", "typer"}
TRAINING = {"torch", "onnx", "onnxscript", "scipy", "sklearn", "matplotlib", "polars", "lightgbm", "optuna", "captum"}
CODE = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for found in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
    importlib.import_module(found.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize(
    ("package", "own"),
    [
        *((f"stream.{name}", set()) for name in ("core", "recommend", "formats", "explain", "capacity", "state")),
        ("stream.records", set()),
        ("stream.bundle", {"onnxruntime"}),
        ("stream.kafka.topics", {"aiokafka", "confluent_kafka", "cramjam", "pydantic"}),
        ("stream.scoring", {"onnxruntime", "pydantic"}),
        ("stream", HEAVY),
        ("models.data", TRAINING),
    ],
)
def test_a_package_alone_loads_what_is_its_own(package: str, own: set[str]):
    done = subprocess.run([sys.executable, "-c", CODE, package], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (HEAVY | TRAINING) & set(json.loads(done.stdout)) <= own


def test_the_glossary_names_modules_that_are_there_and_no_word_twice():
    text = (ROOT / "docs/glossary.md").read_text()
    words = re.findall(r"^\| ([^|]+) \|", text, re.M)
    assert len(words) > 40 and len(words) == len(set(words)) and sorted(words[2:], key=str.lower) == words[2:]
    for path in re.findall(r"`((?:stream|models|export)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"^ +(\S+)/ ", (ROOT / "README.md").read_text().partition("## The house")[2], re.M):
        assert any(ROOT.glob(f"*/**/{path}")) or (ROOT / path).is_dir(), path
