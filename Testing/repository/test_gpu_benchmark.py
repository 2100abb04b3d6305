"""The script that is to run once on a GPU machine, run here in its dry mode: tiny, on the CPU, Triton interpreted."""

import json
import os
import subprocess
import sys

import pytest

from Testing.benchmarks import gpu_mamba_ssm

SETUP = """
cc_flag = []
if CUDA_HOME:
    cc_flag.append("-gencode")
    cc_flag.append("arch=compute_75,code=sm_75")
    if version >= 12:
        cc_flag.append("-gencode")
        cc_flag.append("arch=compute_100,code=sm_100")
"""


def test_set_up_is_held_to_one_architecture():
    patched = gpu_mamba_ssm.for_one_architecture(SETUP, 90)
    for version in (11, 13):
        names = {"CUDA_HOME": True, "version": version}
        exec(patched, names)  # noqa: S102  (the text above, written by this test)
        assert names["cc_flag"] == ["-gencode", "arch=compute_90,code=sm_90"]


def test_a_set_up_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="names no architectures"):
        gpu_mamba_ssm.for_one_architecture("cc_flag = detect()\n", 90)


@pytest.mark.slow
def test_dry_run(repository, tmp_path):
    pytest.importorskip("triton")
    output = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "Testing.benchmarks.gpu", "--dry-run", "--output", str(output)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text(encoding="utf-8"))
    assert found["machine"]["dry_run"] is True
    assert found["complete"] is True
    assert [row["right"] for row in found["checks"]] == [True]
    assert (
        {row["pass"] for row in found["scans"]}
        == {row["pass"] for row in found["images"]}
        == {"forward", "forward+backward"}
    )
    assert all(row["median_ms"] > 0 for row in [*found["scans"], *found["images"]])
    assert found["mamba_ssm"]["state"].startswith("not built")


def test_the_kernels_need_no_more_than_torch_and_numpy(repository):
    """As on the machine that the script is for."""
    code = (
        "import sys\n"
        "for name in ('SimpleITK', 'scipy', 'numba', 'platformdirs', 'psutil', 'safetensors', 'PIL', 'tqdm'):\n"
        "    sys.modules[name] = None\n"  # an import of it then fails
        "from MambaSegmentLib.kernels import selective_scan, directional_scan, cuda_source_text, gpu_directions\n"
        "import Testing.benchmarks.gpu_cases, Testing.benchmarks.gpu_tuning, Testing.benchmarks.gpu_floors\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
