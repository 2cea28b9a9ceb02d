"""What the commands share: a default has one place."""

import sys

import pytest

from models import options
from stream.core.errors import SettingError
from stream.core.manifest import Meaning


def test_what_is_not_given_is_as_the_manifest_has_it():
    assert options.meaning(None, None) == options.meaning([], "") == Meaning()
    assert options.meaning(["session"], "1h") == Meaning(horizons=("session",), gap=3_600_000)
    with pytest.raises(SettingError, match="span of time"):
        options.meaning(None, "soon")


@pytest.mark.parametrize(("terminal", "said"), [(False, '{"hr@20": null}\n'), (True, "")])
def test_programs_get_a_line_of_json_and_a_terminal_its_table_alone(capsys, monkeypatch, terminal: bool, said: str):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    options.line({"hr@20": None})
    assert capsys.readouterr().out == said
