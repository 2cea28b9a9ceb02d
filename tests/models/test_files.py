"""Files that are the old one or the new one."""

from pathlib import Path

import pytest

from models import files


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    files.replace_file(path, b"old")

    def fail(_fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        files.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
