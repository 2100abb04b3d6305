"""From a scan to the driver's call and back through NVIDIA's own bindings, with a fake in the driver's place."""

import importlib.util
import os
import subprocess
import sys

import pytest

from Testing.library.kernels import cuda_on_cpu


def missing():
    for package in ("cuda.bindings", "nvidia.cu13"):
        try:
            if importlib.util.find_spec(package) is None:
                return "cuda-bindings and nvidia-cuda-nvrtc are not installed"
        except ModuleNotFoundError:
            return "cuda-bindings and nvidia-cuda-nvrtc are not installed"
    return cuda_on_cpu.missing()


@pytest.mark.skipif(missing() is not None, reason=f"{missing()}")
def test_kernels_are_launched_with_their_parameters(repository, tmp_path):
    """The fake refuses a wrong stream, a missing context, an image that is no machine code, and blocks of more axes."""
    fake = tmp_path / "libcuda.so.1"
    source = repository / "Testing" / "library" / "kernels" / "fake_driver.cpp"
    subprocess.run(["g++", "-shared", "-fPIC", "-w", str(source), "-o", str(fake), "-ldl"], check=True)
    environment = {**os.environ, "PYTHONPATH": str(repository), "MAMBASEGMENT_KERNEL_CACHE": str(tmp_path / "cache")}
    child = [sys.executable, "-m", "Testing.library.kernels.fake_driver_child"]
    subprocess.run([*child, "--compile"], cwd=repository, env=environment, check=True)
    assert len(list((tmp_path / "cache").glob("scan-sm_90-*.bin"))) == 2
    environment["LD_LIBRARY_PATH"] = str(tmp_path)
    done = subprocess.run(child, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["launched and right", "CUDA says CUDA_ERROR_INVALID_DEVICE (101)"]
