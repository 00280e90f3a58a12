"""Freed memory goes back to the system."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.once

# Every block is too small for a map of its own, and the last one holds the others' heap.
FREED = """
from pathlib import Path
from evalkit.memory import give_back

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

blocks = [bytearray(100_000) for _ in range(1000)]
last = blocks.pop()
blocks.clear()
before = held()
give_back()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")
def test_freed_memory_is_given_back() -> None:
    made = subprocess.run(
        [sys.executable, "-P", "-c", FREED], capture_output=True, text=True, check=True
    )
    assert int(made.stdout) > 50_000  # KiB of 97,656
