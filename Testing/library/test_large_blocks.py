"""In a process of its own, since the allocator is told once for all."""

import os
import platform
import subprocess
import sys

import pytest

from MambaSegmentLib import large_blocks

CODE = """
import sys
import psutil
from MambaSegmentLib.large_blocks import give_free_memory_back, give_large_blocks_back
if sys.argv[1] == "back":
    give_large_blocks_back()
import torch
def resident():
    return psutil.Process().memory_info().rss
torch.ones(1000)
before = resident()
kept = []
for _ in range(8):
    large = torch.ones(5 << 20)  # 20 MB
    kept.append(torch.ones(1 << 10))  # lies above it in a heap, which then cannot shrink
    del large
    torch.ones(5 << 20)
blocks = [torch.ones(5 << 20) for _ in range(8)]
kept.append(torch.ones(1 << 10))
del blocks
if sys.argv[1] == "later":
    give_free_memory_back()
print(resident() - before)
"""


def left_over(how: str) -> int:
    unset = {"MALLOC_MMAP_THRESHOLD_", "THP_MEM_ALLOC_ENABLE"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", CODE, how], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_the_memory_of_large_tensors_goes_back_at_once():
    assert left_over("back") < 10_000_000
    assert left_over("kept") > 40_000_000  # else there would be nothing to set


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the call is glibc's")
def test_what_is_free_goes_back_when_asked_for():
    assert left_over("later") < 10_000_000


def test_elsewhere_nothing_is_asked_of_the_system(monkeypatch):
    monkeypatch.setattr(large_blocks, "_has_glibc", lambda: False)
    monkeypatch.setattr(large_blocks.ctypes, "CDLL", lambda _: pytest.fail("there is no such library"))
    large_blocks.give_free_memory_back()
    large_blocks.give_large_blocks_back()
