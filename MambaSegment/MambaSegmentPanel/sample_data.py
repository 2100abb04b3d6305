"""A sample that needs no network: the drawn hippocampus of MambaSegmentLib/phantom.py, as a file of the module.

It is registered in Slicer's module Sample Data, with its checksum, and loaded by the panel's button.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

CATEGORY = "MambaSegment"
NAME = "MambaSegmentHippocampus"
MODEL = "hippocampus-t1"  # the one that it suits
FILE = Path(__file__).resolve().parent.parent / "Resources" / "SampleData" / "hippocampus-phantom.nrrd"
THUMBNAIL = FILE.parent.parent / "Icons" / "MambaSegmentHippocampus.png"
SHA256 = "24280d6189897ce816ca04e9e2f093c93080a214900b00ff1abeb6ce84d95b65"
_ATTRIBUTE = "MambaSegment.Sample"


def registerSamples() -> None:
    """At the end of Slicer's start; an application without the module Sample Data has no such list."""
    try:
        import SampleData
    except ModuleNotFoundError:
        return
    logic: Any = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # since Slicer 5.12
        logic.registerCustomSampleDataCategory(CATEGORY, _("MambaSegment"))
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=NAME,
        thumbnailFileName=str(THUMBNAIL),
        uris=FILE.as_uri(),
        fileNames=FILE.name,
        nodeNames=NAME,
        checksums=f"SHA256:{SHA256}",
    )


def sampleVolume() -> Any:
    """The sample as a volume node; one that was loaded before is taken again. Raises: RuntimeError, as loadVolume."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetAttribute(_ATTRIBUTE) == SHA256:
            return node
    node = slicer.util.loadVolume(str(FILE), properties={"name": NAME})
    node.SetAttribute(_ATTRIBUTE, SHA256)
    return node
