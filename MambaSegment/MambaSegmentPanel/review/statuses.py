"""Slicer's own review status of a segment, in the words of the review document."""

from __future__ import annotations

from typing import Any

import slicer

from MambaSegmentLib.review.document import STATUSES


def statusOf(segment: Any) -> str:
    return STATUSES[slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentStatus(segment)]


def setStatus(segment: Any, status: str) -> None:
    slicer.vtkSlicerSegmentationsModuleLogic.SetSegmentStatus(segment, STATUSES.index(status))


def statusTag(status: str) -> tuple[str, str]:
    """Name and text of the tag that holds it in files."""
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    return logic.GetStatusTagName(), logic.GetSegmentStatusAsMachineReadableString(STATUSES.index(status))
