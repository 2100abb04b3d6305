"""The surfaces by which the 3D views show a segmentation. They cost time at once and with every edit."""

from __future__ import annotations

from typing import Any

_CLOSED_SURFACE = "Closed surface"
SMALL_VOXELS = 30_000  # labelled voxels whose surfaces take about 0.1 s (measured on two cores)


def surfacesAreWanted(choice: str, voxels: int) -> bool:
    """Args:
    choice: "small", "always" or "never"; what is none of them counts as "small".
    voxels: that have a label.
    """
    if choice in ("always", "never"):
        return choice == "always"
    return 0 < voxels <= SMALL_VOXELS


def showSurfaces(segmentationNode: Any) -> None:
    """Make the surfaces, if they are not there, and show them. All segments at once: Slicer keeps them up to date."""
    if segmentationNode.GetDisplayNode() is None:
        segmentationNode.CreateDefaultDisplayNodes()
    segmentationNode.CreateClosedSurfaceRepresentation()
    segmentationNode.GetDisplayNode().SetPreferredDisplayRepresentationName3D(_CLOSED_SURFACE)
    segmentationNode.GetDisplayNode().SetVisibility3D(True)


def hideSurfaces(segmentationNode: Any) -> None:
    """Give them up, so that edits are quick again."""
    segmentationNode.RemoveClosedSurfaceRepresentation()


def surfacesAreShown(segmentationNode: Any) -> bool:
    display = segmentationNode.GetDisplayNode()
    isThere = segmentationNode.GetSegmentation().ContainsRepresentation(_CLOSED_SURFACE)
    return bool(isThere and display is not None and display.GetVisibility3D())
