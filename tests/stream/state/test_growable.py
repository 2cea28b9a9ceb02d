"""Arrays that grow in pages of their own."""

import subprocess
import sys

import numpy as np
import pytest

from stream.state.growable import GrowableArrays

LAYOUT = np.dtype([("a", "<u2"), ("b", "u1")])


@pytest.mark.parametrize("sizes", [[1, 2, 3], [1000, 1365, 1366, 5000], [7, 2_000_000]])
def test_it_keeps_what_it_holds_and_what_is_new_is_zero(sizes):
    room = GrowableArrays(LAYOUT, sizes[0])
    room.array["a"] = np.arange(sizes[0]) % 65_536
    for length in sizes[1:]:
        room.grow(length)
        assert len(room.array) == length
    assert np.array_equal(room.array["a"][: sizes[0]], np.arange(sizes[0]) % 65_536)
    assert not room.array["a"][sizes[0] :].any()
    assert not room.array["b"].any()
    room.array["b"] = 1


def test_who_holds_a_part_keeps_it_as_it_was():
    room = GrowableArrays(np.dtype("i4"), 4)
    room.array[:] = [1, 2, 3, 4]
    part = room.array[1:3]
    room.grow(4096)
    room.array[1] = 9
    assert part.tolist() == [2, 3]
    assert room.array[:5].tolist() == [1, 9, 3, 4, 0]


def test_it_grows_where_pages_do_not_move(monkeypatch):
    class Fixed:
        """Pages that cannot be made more."""

        def __init__(self, pages):
            self.pages = pages

        def resize(self, _):
            raise SystemError("mmap: resizing not available--no mremap()")

        def __len__(self):
            return len(self.pages)

        def __getitem__(self, where):
            return self.pages[where]

    room = GrowableArrays(np.dtype("i4"), 3)
    room.array[:] = 5
    monkeypatch.setattr(room, "_pages", Fixed(room._pages))
    room.grow(8)
    assert room.array.tolist() == [5, 5, 5, 0, 0, 0, 0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc alone")
@pytest.mark.parametrize("kept", [False, True])
def test_blocks_that_come_and_go_keep_their_pages(kept):
    """Without it each of them is made of fresh pages: 512 of 4 KiB in 2 MiB."""
    code = f"""
import resource, numpy as np
from stream.state.growable import keep_blocks
if {kept}: keep_blocks()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use(): held = [np.ones(1 << 21, np.uint8) for _ in range(3)]
use(); use(); before = faults()
for _ in range(10): use()
print(faults() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 512) == kept
