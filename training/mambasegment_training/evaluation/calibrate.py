"""A temperature for a model file, fitted on labelled cases of one's own: `mambatrain calibrate`.

Fitted as `export` fits the one in the model file, on the same kind of voxels and at the quality `best`; only here all
folds answer together, as they do in use. It is written to a file that `mambasegment segment --calibration` takes.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from MambaSegmentLib.calibration import write_calibration
from MambaSegmentLib.devices import choose_device
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.label_maps import preprocess_labels
from MambaSegmentLib.manifest import Manifest
from MambaSegmentLib.preprocess import preprocess
from MambaSegmentLib.progress import ProgressCallback
from MambaSegmentLib.quality import QUALITIES, mirrorings_for
from MambaSegmentLib.reliability import write_reliability_diagram

from ..calibration import Answers, calibration_of, gather_answers
from ..data import Case
from .subject import EvaluationData, Subject

ENDING = ".json"
_MEASURED_ON = "cases that were given for it, which also chose this temperature"


@dataclass(frozen=True, eq=False)
class PreparedCases:
    """Cases prepared as the model wants them, one after the other as they are asked for."""

    data: EvaluationData
    manifest: Manifest
    identifiers: tuple[str, ...]

    def __getitem__(self, identifier: str) -> Case:
        images, labels = self.data.read(identifier)
        prepared = preprocess(images, self.manifest.preprocessing)
        none = np.empty((0, 4), np.int32)  # only a training draws from the places of labels
        return Case(prepared.array, preprocess_labels(labels, prepared), none)


def calibrate(
    subject: Subject, output: Path, *, device: str = "auto", progress: ProgressCallback | None = None
) -> dict[str, Any]:
    """Fit a temperature and write it, and the reliability diagram beside it, which is named alike and ends in .png.

    Args:
        subject: a model file and its cases, from `read_subject`.
        output: ends in .json.
        device: as for `choose_device`.
        progress: told before each case and at the end.
    Returns:
        The calibration, see `calibration_of`.
    Raises:
        ConfigError: a run in place of a model file, a name that does not fit, or cases without a labelled or predicted
            voxel. ImageError, GeometryError: a case that cannot be used, a place that cannot be written.
            ResourceError: no such device, a full disk.
    """
    check_calibration_target(subject, output)
    answers = _answers(subject, device, progress)
    calibration = calibration_of(answers)
    if not calibration:
        raise ConfigError(
            f"none of the {answers.cases} cases of {subject.data.folder} has a labelled or a predicted voxel, so there "
            "is nothing to fit a temperature on; give cases that show what the model segments"
        )
    calibration |= {"measured_on": _MEASURED_ON, "dataset": subject.data.name}
    write_reliability_diagram(replace(subject.manifest, calibration=calibration), picture_beside(output))
    write_calibration(output, subject.manifest, calibration)
    return calibration


def picture_beside(output: Path) -> Path:
    """Where the reliability diagram of a calibration file lies."""
    return output.with_suffix(".png")


def check_calibration_target(subject: Subject, output: Path) -> None:
    """Refuse what cannot end well before minutes of predicting.

    Raises:
        ConfigError: as `calibrate`, or a folder that is not there.
    """
    if subject.folds:
        raise ConfigError(
            f"{subject.path} is a run, and a calibration belongs to one model file; write it with `mambatrain export`, "
            "which fits a temperature on the validation cases itself"
        )
    if output.suffix != ENDING:
        raise ConfigError(f"a calibration is written to {output.name}, but its name must end in {ENDING}")
    if not output.parent.is_dir():
        raise ConfigError(f"cannot write {output}: the folder {output.parent} does not exist; create it first")


def _answers(subject: Subject, device: str, progress: ProgressCallback | None) -> Answers:
    manifest, (part,) = subject.manifest, subject.parts
    chosen = choose_device(device)
    return gather_answers(
        [network.to(chosen) for network in part.bundle.build_networks()],
        PreparedCases(subject.data, manifest, part.cases),
        [segment.value for segment in manifest.segments],
        manifest.patch_size,
        chosen,
        regions=[region.labels for region in manifest.regions],
        ignore_label=subject.data.ignore_label,
        tile_step=manifest.step,
        mirrorings=mirrorings_for(QUALITIES[0], manifest.mirror_axes),
        progress=progress,
    )
