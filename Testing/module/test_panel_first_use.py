"""What is missing before anything can be segmented, and its installation; pip here is a program of the test."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import qt
import slicer
import slicer.packaging

MISSING = ["platformdirs>=9999", "numba>=9999"]  # both there, but never new enough
WRITES_DOWN = """
import pathlib, sys
print("pip was asked for", *sys.argv[1:])
print("constraints:", *pathlib.Path(sys.argv[-1]).read_text().split())
"""
SLOW = "import time; time.sleep(0.5)\n" + WRITES_DOWN
NO_NETWORK = WRITES_DOWN + "print('Could not find a version'); sys.exit(1)"


@pytest.fixture
def open_module(host, monkeypatch):
    """`open_module()` with what the logic finds missing in `.missing` and `.torch`."""
    facts = type("Facts", (), {"missing": list(MISSING), "torch": True, "gpuIsIdle": False})()
    host.load_module()
    logic = sys.modules["MambaSegment"].MambaSegmentLogic
    monkeypatch.setattr(logic, "missingPackages", lambda _self: facts.missing)
    monkeypatch.setattr(logic, "torchIsInstalled", lambda _self: facts.torch)
    monkeypatch.setattr(logic, "gpuIsIdle", lambda _self: facts.gpuIsIdle)

    def opened():
        facts.widget = host.enter("MambaSegment")
        return facts

    return opened


def press(button):
    assert button.isVisible()
    qt.QTest.mouseClick(button, qt.Qt.LeftButton)


def wait_for_pip(host, widget):
    host.wait_until(lambda: not widget.panel.firstUse.installer.isRunning)


def log_of(widget):
    return widget.ui.logEdit.plainText


def test_opening_the_module_installs_nothing_and_says_what_is_missing(host, open_module, monkeypatch):
    monkeypatch.setattr(slicer.util, "executePythonModule", lambda *_, **__: pytest.fail("pip was called"))
    widget = open_module().widget
    text = widget.ui.missingPackagesLabel.text
    assert (
        "• platformdirs: knows where this system keeps models and logs<br>• numba: fast networks on a CPU<br>" in text
    )
    assert "(about 213 MB on disk)" in text  # 0.4 and 212.9
    assert "stay as they are" in text
    assert widget.ui.missingPackagesLabel.isVisible()
    assert widget.ui.installButton.isVisible()
    assert not widget.ui.openTorchModuleButton.isVisible()
    assert not widget.ui.segmentButton.enabled
    assert widget.ui.segmentButton.toolTip == "Install what is missing first: platformdirs, numba."


def test_one_button_installs_with_slicers_own_versions_pinned(host, open_module):
    host.set_pip(WRITES_DOWN)
    facts = open_module()
    ui = facts.widget.ui
    press(ui.installButton)
    assert ui.installProgressBar.isVisible()
    assert not ui.installButton.isVisible()
    assert ui.segmentButton.toolTip == "Packages are being installed."
    facts.missing = []  # what pip has done meanwhile
    wait_for_pip(host, facts.widget)
    assert not ui.firstUseFrame.isVisible()
    first, line = (line for line in log_of(facts.widget).splitlines() if "pip was asked for" in line)
    assert "install platformdirs>=9999 --constraint " in first
    assert "install numba>=9999 --constraint " in line
    for name in ("numpy", "scipy", "SimpleITK"):
        assert f"{name}=={metadata.version(name)}" in log_of(facts.widget)
    assert not Path(line.split()[-1]).exists()


def test_a_failed_installation_says_so_and_can_be_tried_again(host, open_module):
    host.set_pip(NO_NETWORK)
    facts = open_module()
    ui = facts.widget.ui
    press(ui.installButton)
    wait_for_pip(host, facts.widget)
    assert "The installation failed:</b> pip ended with code 1 at platformdirs" in ui.missingPackagesLabel.text
    assert "Could not find a version" in log_of(facts.widget)
    assert ui.installButton.text == "Continue installing"
    assert not ui.installProgressBar.isVisible()
    host.set_pip(WRITES_DOWN)
    press(ui.installButton)
    assert "failed" not in ui.missingPackagesLabel.text
    facts.missing = []
    wait_for_pip(host, facts.widget)
    assert not ui.firstUseFrame.isVisible()


@pytest.mark.parametrize("code", [0, 1])
def test_slicer_5_10_installs_without_slicer_packaging(host, open_module, panel_module, monkeypatch, code):
    """There slicer.util.pip_install takes one argument and waits."""
    module = panel_module("installation")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _name: None)
    asked = []

    def pip_install(requirements):
        asked.append(requirements)
        if code:
            raise subprocess.CalledProcessError(code, "pip")

    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    over, steps = [], []
    installer = module.Installer(lambda: steps.append(installer.current), over.append)
    installer.start(["numba>=0.60", "tqdm>=4"])
    host.wait_until(lambda: over)
    assert asked[0][:2] == ["numba>=0.60", "--constraint"]
    assert over == [""] if code == 0 else "exit status 1" in over[0]
    assert steps == (["numba", "tqdm"] if code == 0 else ["numba"])


def test_pytorch_comes_through_its_extension(host, open_module, monkeypatch, tmp_path):
    facts = open_module()
    ui = facts.widget.ui
    facts.missing, facts.torch = [], False
    ui.modelCardCollapsibleButton.collapsed = False
    press(ui.refreshModelsButton)
    assert "Install the extension “PyTorch”" in ui.missingPackagesLabel.text
    assert not ui.installButton.isVisible()
    assert not ui.openTorchModuleButton.isVisible()
    assert "PyTorch" in ui.segmentButton.toolTip

    (tmp_path / "PyTorchUtils.py").write_text("raise AssertionError('it would import torch')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    shown = []
    monkeypatch.setattr(slicer.util, "selectModule", shown.append)
    press(ui.refreshModelsButton)
    press(ui.openTorchModuleButton)
    assert shown == ["PyTorchUtils"]
    assert "torch" not in sys.modules


def test_cancel_stops_after_the_package_that_pip_is_at_and_the_rest_comes_after_a_restart(host, open_module):
    """Nothing is torn apart; the next start knows that something was begun."""
    host.set_pip(SLOW)
    facts = open_module()
    ui = facts.widget.ui
    press(ui.installButton)
    host.wait_until(lambda: slicer.packaging.isPipInstallInProgress())
    assert ui.installProgressLabel.text == "platformdirs (1 of 2)"
    press(ui.cancelInstallButton)
    assert ui.cancelInstallButton.text == "Stopping after platformdirs…"
    assert not ui.cancelInstallButton.enabled
    facts.missing = MISSING[1:]
    wait_for_pip(host, facts.widget)
    assert log_of(facts.widget).count("pip was asked for") == 1

    host.unload("MambaSegment")  # Slicer ends, and starts again
    host.load_module()
    logic = sys.modules["MambaSegment"].MambaSegmentLogic
    logic.missingPackages = lambda _self: facts.missing
    logic.torchIsInstalled = lambda _self: True
    host.set_pip(WRITES_DOWN)
    widget = host.enter("MambaSegment")
    text = widget.ui.missingPackagesLabel.text
    assert "The installation was not finished.</b> Still missing (about 213 MB on disk):<br>• numba: fast" in text
    assert widget.ui.installButton.text == "Continue installing"
    press(widget.ui.installButton)
    facts.missing = []
    wait_for_pip(host, widget)
    assert "install numba>=9999" in log_of(widget)
    assert not widget.ui.firstUseFrame.isVisible()


def test_the_module_goes_while_pip_is_at_work(host, open_module):
    """The fixture fails if pip's end reaches a panel that is gone."""
    host.set_pip(SLOW)
    facts = open_module()
    press(facts.widget.ui.installButton)
    host.wait_until(lambda: facts.widget.panel.firstUse.installer.current)
    host.unload("MambaSegment")
    host.process_events(1.5)


@pytest.mark.parametrize("source", ["environment", "settings"])
def test_a_site_without_network_installs_from_its_folder(host, open_module, monkeypatch, tmp_path, source):
    """PyTorch too, where the folder has the build that the site chose."""
    (tmp_path / "torch-2.9.0+cu128-cp312-cp312-linux_x86_64.whl").write_bytes(b"")
    if source == "environment":
        monkeypatch.setenv("MAMBASEGMENT_WHEELS", str(tmp_path))
    else:
        qt.QSettings().setValue("MambaSegment/WheelFolder", str(tmp_path))
    host.set_pip(WRITES_DOWN)
    facts = open_module()
    ui = facts.widget.ui
    facts.torch = False
    facts.widget.panel.refresh()
    assert f"They come from {tmp_path}, without network." in ui.missingPackagesLabel.text
    assert "PyTorch</b> is taken from that folder too" in ui.missingPackagesLabel.text
    assert ui.wheelFolderEdit.enabled == (source == "settings")
    press(ui.installButton)
    wait_for_pip(host, facts.widget)
    lines = [line for line in log_of(facts.widget).splitlines() if "pip was asked for" in line]
    assert [line.split()[7] for line in lines] == ["torch>=2.6", *MISSING]
    assert all(f"--no-index --find-links {tmp_path} --constraint" in line for line in lines)


def test_an_idle_graphics_card_is_told_until_it_is_not_wanted(host, open_module):
    facts = open_module()
    facts.missing, facts.gpuIsIdle = [], True
    facts.widget.panel.refresh()
    ui = facts.widget.ui
    assert "NVIDIA graphics card, but its PyTorch is a build for CPUs" in ui.missingPackagesLabel.text
    assert not ui.installButton.isVisible()
    assert ui.segmentButton.toolTip == "Choose a volume for T1."  # it hinders nothing
    press(ui.dismissHintButton)
    assert not ui.firstUseFrame.isVisible()
    facts.widget.panel.refresh()
    assert not ui.firstUseFrame.isVisible()


@pytest.mark.parametrize(
    ("text", "isForCpu"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", True),
        ("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", False),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.2.41133'\n", False),
        ("cuda = None\n", True),
        ("nothing of it\n", False),
    ],
)
def test_the_build_of_pytorch_is_read_from_its_file(panel_module, monkeypatch, tmp_path, text, isForCpu):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    (tmp_path / "torch" / "version.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert panel_module("torch_build").torchIsForCpuOnly() == isForCpu
