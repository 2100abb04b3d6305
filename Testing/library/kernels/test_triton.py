"""The Triton kernels against the recurrence in Triton's interpreter, and compiled for a GPU; nothing runs on one."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from Testing.library.kernels.triton_child import CASES

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
TOLERANCE = {"half precision": 3e-2}


@pytest.fixture(scope="module")
def errors(repository):
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(repository)}
    command = [sys.executable, "-m", "Testing.library.kernels.triton_child"]
    done = subprocess.run(command, env=environment, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, "half precision", "four directions"])
def test_matches_the_recurrence_with_gradients(errors, case):
    bad = {name: error for name, error in errors[case].items() if not error < TOLERANCE.get(case, 3e-6)}
    assert not bad


@pytest.mark.slow
def test_compiles_for_a_gpu(repository, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(repository), "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-m", "Testing.library.kernels.triton_compile", "90"]
    done = subprocess.run(command, env=environment, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sizes = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()}
    assert len(sizes) == 5
    assert min(sizes.values()) > 1000
