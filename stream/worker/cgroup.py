"""How much memory the kernel lets this process take: the least of its cgroups' limits and the host's memory."""

import os
from collections.abc import Iterator
from pathlib import Path


def memory_limit(groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return the limit in bytes, of cgroup v2 or v1; where none is set, or none can be read, the host's memory."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _files(groups, membership):
        try:
            said = file.read_text().strip()
        except OSError:  # a container sees its own group as the root, whatever its path on the host is
            continue
        if said.isdigit():  # else "max"
            limits.append(int(said))
    return min(limits)


def _files(groups: Path, membership: Path) -> Iterator[Path]:
    """Yield the files of limits, from the process's own group up to the root: a parent's limit counts as well."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = Path(path.lstrip("/"))
        for folder in (own, *own.parents):
            yield root / folder / name
