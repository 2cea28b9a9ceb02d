"""Files written so that a reader finds the old one or the new one, never a part."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that a reader, or a kill, meets the old content or the new."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
