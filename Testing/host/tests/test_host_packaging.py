"""Packages: what is missing is found by metadata, and no test installs anything; pip here is a program of the test."""

import subprocess

import pytest
import slicer
import slicer.packaging
from packaging.requirements import InvalidRequirement

WRITES_DOWN = """
import sys
print("asked for", *sys.argv[1:])
sys.exit("bad" in sys.argv)
"""


def test_requirements_files(host, tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("# head\nnumpy>=1\n--extra-index-url x\n\nnumba; python_version < '3'\n", encoding="utf-8")
    assert [each.name for each in slicer.packaging.load_requirements(file)] == ["numpy", "numba"]
    file.write_text("no requirement at all!\n", encoding="utf-8")
    with pytest.raises(InvalidRequirement):
        slicer.packaging.load_requirements(file)


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        ("numpy", True),
        ("numpy>=9999", False),
        ("absent-package; python_version < '3'", True),
        ("absent-package", False),
    ],
)
def test_check_reads_metadata(host, requirement, met):
    assert slicer.packaging.pip_check(requirement) is met


def test_without_a_pip_nothing_is_installed(host):
    with pytest.raises(subprocess.CalledProcessError) as raised:
        slicer.packaging.pip_install("absent-package")
    assert raised.value.returncode != 0


def test_pip_gets_the_arguments(host, capfd):
    host.set_pip(WRITES_DOWN)
    slicer.util.pip_install(["absent-package>=1", "--no-index"])
    assert "asked for install absent-package>=1 --no-index" in capfd.readouterr().out
    with pytest.raises(subprocess.CalledProcessError):
        slicer.util.pip_install(["bad"])


def test_a_call_that_does_not_block_calls_back_in_the_event_loop(host):
    host.set_pip(WRITES_DOWN)
    lines, codes = [], []
    slicer.packaging.pip_install(["bad"], blocking=False, logCallback=lines.append, completedCallback=codes.append)
    assert slicer.packaging.isPipInstallInProgress()
    with pytest.raises(RuntimeError):
        slicer.packaging.pip_install(["other"], blocking=False)
    host.wait_until(lambda: codes)
    assert codes == [1]
    assert "asked for install bad" in "".join(lines)
    assert not slicer.packaging.isPipInstallInProgress()


def test_ensure_asks_and_takes_no_for_an_answer(host, monkeypatch):
    asked = []
    slicer.packaging.pip_ensure("numpy")
    assert slicer.packaging.pip_ensure("absent-package") is None  # testing: skipped
    host.testing = False
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, *_, **__: asked.append(text))
    with pytest.raises(RuntimeError):
        slicer.packaging.pip_ensure(["absent-package>=2"], requester="MambaSegment")
    assert "absent-package>=2" in asked[0]
