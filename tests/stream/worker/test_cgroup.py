"""Limits of memory, as cgroups of both versions write them."""

import os

import pytest

from stream.worker.cgroup import memory_limit

MiB = 1 << 20
HOST = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
V1 = "5:cpu:/kube/pod\n4:memory:/kube/pod\n1:name=systemd:/x\n"


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/\n", {"memory.max": 64}, 64),
        ("0::/kube/pod\n", {"memory.max": "max", "kube/memory.max": 32, "kube/pod/memory.max": 64}, 32),
        ("0::/kube/pod\n", {"memory.max": 64}, 64),  # a container, which sees its own group as the root
        ("0::/\n", {"memory.max": "max"}, None),
        (V1, {"memory/kube/pod/memory.limit_in_bytes": 64, "kube/pod/memory.max": 1}, 64),
        (V1, {"memory/memory.limit_in_bytes": 64}, 64),
        (V1, {"memory/memory.limit_in_bytes": 9223372036854771712 // MiB}, None),  # how v1 says none
        (None, {"memory.max": 64}, None),
    ],
)
def test_the_least_limit_on_the_way_to_the_root_counts(tmp_path, membership, files, limit):
    for name, value in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value if value == 'max' else value * MiB}\n")
    said = tmp_path / "cgroup"
    if membership is not None:
        said.write_text(membership)
    assert memory_limit(tmp_path / "groups", said) == (HOST if limit is None else limit * MiB)
