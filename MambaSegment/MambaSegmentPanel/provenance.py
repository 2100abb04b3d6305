"""Where a segment came from, as tags that stay with it in `.seg.nrrd` and `.mrb` files."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import MambaSegmentLib

if TYPE_CHECKING:
    from MambaSegmentLib.manifest import Manifest
    from MambaSegmentLib.worker.protocol import Options

PREFIX = "MambaSegment."


@dataclass(frozen=True)
class Provenance:
    """What made a segmentation.

    Attributes:
        model, modelVersion, sha256: of the model file, as it describes itself.
        options: that change the labels, as JSON values.
        time: when the result came, in UTC.
    """

    model: str
    modelVersion: str
    sha256: str
    options: Mapping[str, Any] = field(default_factory=dict)
    time: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))

    def tags(self) -> dict[str, str]:
        """Segment tags; the last two are those that Slicer's DICOM export asks for."""
        tags = {
            f"{PREFIX}Model": self.model,
            f"{PREFIX}ModelVersion": self.modelVersion,
            f"{PREFIX}ModelSha256": self.sha256,
            f"{PREFIX}Version": MambaSegmentLib.__version__,
            f"{PREFIX}Time": self.time.isoformat(timespec="seconds"),
            f"{PREFIX}Options": json.dumps(dict(self.options), sort_keys=True, separators=(",", ":")),
            "DICOM.SegmentAlgorithmType": "AUTOMATIC",
            "DICOM.SegmentAlgorithmName": f"MambaSegment {self.model} {self.modelVersion}",
        }
        return {name: _inHeader(value) for name, value in tags.items()}

    def noteOn(self, segmentationNode: Any) -> None:
        """As attributes of the node; segments have the tags."""
        for name, value in self.tags().items():
            if name.startswith(PREFIX):
                segmentationNode.SetAttribute(name, value)


def provenanceOf(manifest: Manifest, options: Options) -> Provenance:
    """Of labels that come now."""
    noted = {entry.name: getattr(options, entry.name) for entry in fields(options)}
    noted.pop("statistics")  # looks at the labels, does not change them
    return Provenance(manifest.name, manifest.version, manifest.sha256 or "", noted)


def _inHeader(value: str) -> str:
    """Without what separates tags in the header of a `.seg.nrrd`, and without line breaks."""
    return " ".join(value.replace("|", "/").split())
