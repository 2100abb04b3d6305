"""mamba-ssm's compiled scan, built from a source distribution for the present GPU alone, and called directly.

Its set-up names many architectures and would take long; the copy that is built here names one. The extension is loaded
without the package around it, which wants more than the scan does. Nothing of it is kept.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType

_FLAG = re.compile(r'^(\s*)cc_flag\.append\("(-gencode|arch=compute_[^"]*)"\)\s*$')


class Build:
    """A build that goes on in the background. Use `finish` to wait for it."""

    def __init__(self, folder: Path, work: Path, architecture: int) -> None:
        archives = sorted(folder.glob("mamba_ssm-*.tar.gz"))
        if not archives:
            raise FileNotFoundError(f"{folder} holds no mamba_ssm-*.tar.gz")
        self.archive, self.target = archives[-1], work / "installed"
        with tarfile.open(self.archive) as archive:
            archive.extractall(work, filter="data")
        source = work / self.archive.name.removesuffix(".tar.gz")
        setup = source / "setup.py"
        setup.write_text(for_one_architecture(setup.read_text("utf-8"), architecture), encoding="utf-8")
        self.log = work / "build.log"
        command = [
            sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--target",
            str(self.target), str(source),
        ]  # fmt: skip
        environment = {**os.environ, "MAMBA_FORCE_BUILD": "TRUE", "MAX_JOBS": str(os.cpu_count() or 4)}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def finish(self, timeout_s: float) -> ModuleType:
        """The extension module.

        Raises:
            TimeoutError, RuntimeError: it is not done in time, or failed; the end of its log is in the message.
        """
        try:
            status = self._process.wait(max(1.0, timeout_s))
        except subprocess.TimeoutExpired as late:
            self.stop()
            raise TimeoutError(f"the build of {self.archive.name} took too long: {self._end_of_log()}") from late
        if status:
            raise RuntimeError(f"the build of {self.archive.name} failed: {self._end_of_log()}")
        (file,) = self.target.glob("selective_scan_cuda*.so")
        loader = ExtensionFileLoader("selective_scan_cuda", str(file))
        spec = importlib.util.spec_from_loader("selective_scan_cuda", loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module

    def stop(self) -> None:
        """End the build if it still goes on."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _end_of_log(self) -> str:
        return self.log.read_text("utf-8", errors="replace")[-1500:]


def for_one_architecture(setup: str, architecture: int) -> str:
    """The text of setup.py with the first pair of architecture flags set to this one and the others taken out.

    Raises:
        ValueError: no such flags are in it.
    """
    lines, kept = [], 0
    for line in setup.splitlines():
        match = _FLAG.match(line)
        if match is None:
            lines.append(line)
        elif kept < 2:
            kept += 1
            flag = "-gencode" if match[2] == "-gencode" else f"arch=compute_{architecture},code=sm_{architecture}"
            lines.append(f'{match[1]}cc_flag.append("{flag}")')
        else:
            lines.append(f"{match[1]}pass")
    if kept < 2:
        raise ValueError("setup.py names no architectures as this script knows them; look at its cc_flag lines")
    return "\n".join(lines) + "\n"
