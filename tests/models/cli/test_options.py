"""What the commands share: a default has one place."""

import sys
from pathlib import Path

import pytest

from models.cli import options
from stream.core.errors import SettingError
from stream.core.manifest import TaskSpec


def test_what_is_not_given_is_as_the_manifest_has_it():
    assert options.meaning(None, None) == options.meaning([], "") == TaskSpec()
    assert options.meaning(["session"], "1h") == TaskSpec(horizons=("session",), gap=3_600_000)
    with pytest.raises(SettingError, match="span of time"):
        options.meaning(None, "soon")


def test_a_log_is_read_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "log.csv").write_text("timestamp,visitorid,event,itemid\n1433221467,1,view,2\n1433307867,1,wish,2\n")
    options.load(tmp_path / "log.csv", "retailrocket")
    said = capsys.readouterr().err
    assert "1 row left out: unknown_type, first in line 3: '1433307867,1,wish,2" in said
    assert "from 1970-01-17 to 1970-01-17\nthese look like seconds: name the unit behind the format" in said
    options.load(tmp_path / "log.csv", "retailrocket:s")
    assert "from 2015-06-02 to 2015-06-02\n" in capsys.readouterr().err


@pytest.mark.parametrize(("terminal", "said"), [(False, '{"hr@20": null}\n'), (True, "")])
def test_programs_get_a_line_of_json_and_a_terminal_its_table_alone(capsys, monkeypatch, terminal: bool, said: str):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    options.line({"hr@20": None})
    assert capsys.readouterr().out == said
