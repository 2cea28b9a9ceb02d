"""A worker's name: the given one if Kafka takes it, else a slot of this host that no other process holds."""

import subprocess
import sys
from pathlib import Path

import pytest

from stream.core.errors import SettingError
from stream.kafka.group.worker_name import name
from stream.settings import Settings


def test_a_given_name_is_taken_as_it_is():
    assert name(Settings(name="forecart-0")) == "forecart-0"


@pytest.mark.parametrize("bad", ["a/b", "with space", "x" * 201, "ü"])
def test_a_name_that_kafka_would_refuse_is_refused(bad: str):
    with pytest.raises(SettingError, match="not valid"):
        name(Settings(name=bad))


def test_a_slot_is_held_as_long_as_its_process_lives(tmp_path: Path):
    code = (
        "from pathlib import Path; from stream.kafka.group.worker_name import name\n"
        "from stream.settings import Settings\n"
        f"print(name(Settings(state_dir=Path({str(tmp_path)!r}))), flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout
    theirs = other.stdout.readline().strip()
    mine = name(Settings(state_dir=tmp_path))
    assert theirs.endswith("-0")
    assert mine.endswith("-1")
    other.communicate("")
    again = subprocess.run(command, input="", capture_output=True, text=True, check=False).stdout.strip()
    assert again == theirs
