"""For the tests that click in the panel: volumes with known answers, and what a user does and sees."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import psutil
import qt
import slicer

REPOSITORY = Path(__file__).resolve().parents[2]
TINY_WORKER = [sys.executable, str(REPOSITORY / "Testing" / "library" / "worker" / "tiny_worker.py")]
VALUES = np.array([0, 1, 2, 1, 0, 2], np.float32)


def someVoxels(kind="int16"):
    return np.resize(VALUES, (6, 7, 8)).astype(kind)


def expectedLabels(voxels):
    return np.where(voxels > 1.5, 5, np.where(voxels > 0.5, 1, 0))


def press(button):
    assert button.isVisible()
    qt.QTest.mouseClick(button, qt.Qt.LeftButton)


def start_run(host, widget, stage="Network"):
    press(widget.ui.segmentButton)
    host.wait_until(lambda: stage in widget.ui.progressLabel.text, timeout_s=60)


def wait_for_end(host, widget):
    host.wait_until(lambda: not widget.panel.run.isRunning, timeout_s=60)


def is_idle(widget):
    ui = widget.ui
    return ui.segmentButton.text == "Segment" and not ui.progressBar.visible and not ui.progressLabel.visible


def segmentations():
    """Those that a user sees: a review keeps the model's own result besides."""
    return [node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if not node.GetHideFromEditors()]


def isGone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
