"""Compiled code on disk: found again, dropped when a source changes, done without where nothing can be written."""

import os
import subprocess
import sys
from types import ModuleType

from MambaSegmentLib.kernels.numba_compile import cached_on_disk, checksum_of


def test_the_checksum_follows_the_sources(tmp_path):
    file = tmp_path / "kernel_part.py"
    module = ModuleType("kernel_part")
    module.__file__ = str(file)
    file.write_text("a = 1\n")
    before = checksum_of(module)
    file.write_text("a = 2\n")
    assert checksum_of(module) != before


def test_without_a_writable_cache_the_kernel_is_compiled_all_the_same(monkeypatch):
    import numba.core.caching as caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])  # fakes that no folder can be written

    def double(a):
        for i in range(a.shape[0]):
            a[i] *= 2

    import numpy as np
    from numba import float32, void

    values = np.ones(3, np.float32)
    cached_on_disk(void(float32[:]))(double)(values)
    assert values.tolist() == [2, 2, 2]


def test_a_second_process_finds_the_compiled_code(tmp_path, repository):
    """Counts numba's own cache files: the second process reads them and adds none."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", "import MambaSegmentLib.kernels.numba_conv"]
    listings = []
    for _ in range(2):
        subprocess.run(command, check=True, env=environment, cwd=tmp_path)
        listings.append({(path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.nbc")})
    assert len(listings[0]) == 2  # forward and backward
    assert listings[0] == listings[1]
