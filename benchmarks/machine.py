"""Where and when a benchmark ran."""

import datetime
import os
import platform
from typing import Any


def facts() -> dict[str, Any]:
    """Return the day, the cores, the architecture and Python's version."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": day, "cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
