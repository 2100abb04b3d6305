"""What is missing before anything can be segmented, and its installation; pip here is a program of the test."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import qt
import slicer

MISSING = ["platformdirs>=9999", "numba>=9999"]  # both there, but never new enough
WRITES_DOWN = """
import pathlib, sys
print("pip was asked for", *sys.argv[1:])
print("constraints:", *pathlib.Path(sys.argv[-1]).read_text().split())
"""
NO_NETWORK = WRITES_DOWN + "print('Could not find a version'); sys.exit(1)"


@pytest.fixture
def open_module(host, monkeypatch):
    """`open_module()` with what the logic finds missing in `.missing` and `.torch`."""
    facts = type("Facts", (), {"missing": list(MISSING), "torch": True})()
    host.load_module()
    logic = sys.modules["MambaSegment"].MambaSegmentLogic
    monkeypatch.setattr(logic, "missingPackages", lambda _self: facts.missing)
    monkeypatch.setattr(logic, "torchIsInstalled", lambda _self: facts.torch)

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
    assert "platformdirs&gt;=9999, numba&gt;=9999" in text
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
    assert not ui.installButton.enabled
    assert ui.segmentButton.toolTip == "Packages are being installed."
    facts.missing = []  # what pip has done meanwhile
    wait_for_pip(host, facts.widget)
    assert not ui.firstUseFrame.isVisible()
    line = next(line for line in log_of(facts.widget).splitlines() if "pip was asked for" in line)
    assert "install platformdirs>=9999 numba>=9999 --constraint " in line
    for name in ("numpy", "scipy", "SimpleITK"):
        assert f"{name}=={metadata.version(name)}" in log_of(facts.widget)
    assert not Path(line.split()[-1]).exists()


def test_a_failed_installation_says_so_and_can_be_tried_again(host, open_module):
    host.set_pip(NO_NETWORK)
    facts = open_module()
    ui = facts.widget.ui
    press(ui.installButton)
    wait_for_pip(host, facts.widget)
    assert "The installation failed:</b> pip ended with code 1" in ui.missingPackagesLabel.text
    assert "Could not find a version" in log_of(facts.widget)
    assert ui.installButton.enabled
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
    over = []
    module.Installer(over.append).start(["numba>=0.60"])
    assert asked[0][:2] == ["numba>=0.60", "--constraint"]
    assert over == [""] if code == 0 else "exit status 1" in over[0]


def test_pytorch_comes_through_its_extension(host, open_module, monkeypatch, tmp_path):
    facts = open_module()
    ui = facts.widget.ui
    facts.missing, facts.torch = [], False
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
