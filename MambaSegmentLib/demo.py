"""`mambasegment demo`: segment a drawn phantom, or an image of one's own, and show the result.

The command line calls `run(...)` and prints `summary.lines()`, or `summary.to_json()` with --json. What is segmented
goes through a file on disk and `api.segment`, exactly as `mambasegment segment` does it.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import api
from .errors import ImageError
from .image_io import read_volume, write_volume
from .overlay import write_overlay
from .phantom import hippocampus_phantom
from .progress import CancelToken, Progress, ProgressCallback
from .review.measure import dice_per_label, volumes_ml, voxel_counts
from .segmentation_io import write_segmentation
from .volume import Volume

DEFAULT_MODEL = "hippocampus-t1"
PHANTOM_NAME = "phantom"
PHANTOM_SEED = 0
_IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
_STAGE_NAMES = {"load_model": "load model"}
_RESEARCH_ONLY = "Research use only."


@dataclass(frozen=True)
class SegmentSummary:
    """What was found of one segment.

    Attributes:
        dice: overlap with the phantom's truth; None for an image of which the truth is not known.
    """

    value: int
    name: str
    voxels: int
    volume_ml: float
    dice: float | None


@dataclass(frozen=True)
class DemoSummary:
    """What the demo did.

    Attributes:
        subject: what was segmented, in words.
        model, version, device: by which model and where.
        segments: one entry for each of the model's segments.
        timings_s: seconds of each stage, in the order in which they took place.
        files: what was written: the Slicer segmentation, the NIfTI labels, the picture, and the phantom's image if any.
    """

    subject: str
    model: str
    version: str
    device: str
    segments: tuple[SegmentSummary, ...]
    timings_s: Mapping[str, float]
    files: tuple[Path, ...]

    @property
    def total_s(self) -> float:
        return sum(self.timings_s.values())

    @property
    def mean_dice(self) -> float | None:
        """Mean over the segments that have one; None without truth."""
        known = [segment.dice for segment in self.segments if segment.dice is not None]
        return sum(known) / len(known) if known else None

    def lines(self) -> list[str]:
        """The summary as text, ready to be printed."""
        lines = [f"Segmented {self.subject} with {self.model} (version {self.version}) on {self.device}", ""]
        lines += [*_table(self.segments, self.mean_dice), ""]
        times = ", ".join(f"{_STAGE_NAMES.get(stage, stage)} {s:.2f} s" for stage, s in self.timings_s.items())
        lines += [f"Time: {times}; together {self.total_s:.1f} s", "", "Written:"]
        lines += [f"  {path}" for path in self.files]
        return [*lines, "", _RESEARCH_ONLY]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "subject": self.subject,
            "model": self.model,
            "version": self.version,
            "device": self.device,
            "segments": [vars(segment).copy() for segment in self.segments],
            "mean_dice": self.mean_dice,
            "timings_s": dict(self.timings_s),
            "files": [str(path) for path in self.files],
        }


def run(
    output_dir: str | Path,
    image: str | Path | None = None,
    model: str | Path = DEFAULT_MODEL,
    device: str = "auto",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> DemoSummary:
    """Segment the phantom, or `image`, and write `.seg.nrrd`, `.nii.gz` and a picture into a folder.

    Args:
        output_dir: made if it is missing; files of an earlier run are replaced.
        image: an image file or the folder of a DICOM series; None draws a phantom, whose truth is known.
        model, device: as for `api.load_model`.
        progress, cancel: as for `api.Model.segment`; the stages "draw" and "picture" are added to its own.
    Raises:
        ImageError: the folder or a file cannot be written, or the image not read. Else as `api.segment`.
    """
    folder = _made(Path(output_dir))
    cancel = cancel or CancelToken()
    loaded = api.load_model(model, device)
    timings = {"load_model": loaded.load_s}
    truth: Volume | None = None
    if image is None:
        name, subject = PHANTOM_NAME, f"a synthetic hippocampus (seed {PHANTOM_SEED})"
        source = folder / f"{name}.nii.gz"
        with _stage("draw", timings, progress, cancel):
            truth = _draw_phantom(source)
    else:
        source = Path(image)
        name, subject = _case_name(source), str(source)
    outputs = [folder / f"{name}-segmentation{ending}" for ending in (".seg.nrrd", ".nii.gz")]
    picture = folder / f"{name}-overlay.png"
    result = api.segment(source, model=loaded, output=outputs[0], progress=progress, cancel=cancel)
    timings |= result.timings
    with _stage("picture", timings, progress, cancel):
        write_segmentation(result.labels, result.segments, outputs[1])
        note = f"{loaded.manifest.name} · research use only"
        title = "Synthetic T1-weighted MR" if truth is not None else name
        write_overlay(read_volume(source), result.labels, result.segments, picture, title=title, note=note)
    return DemoSummary(
        subject=subject,
        model=loaded.manifest.name,
        version=loaded.manifest.version,
        device=str(loaded.predictor.device),
        segments=_summaries(result.labels, result.segments, truth),
        timings_s=timings,
        files=(*outputs, picture, *([source] if truth is not None else [])),
    )


def _draw_phantom(path: Path) -> Volume:
    """Write the phantom's image; returns its truth."""
    phantom = hippocampus_phantom(PHANTOM_SEED)
    write_volume(phantom.image, path)
    return phantom.truth


def _summaries(labels: Volume, segments: tuple[Any, ...], truth: Volume | None) -> tuple[SegmentSummary, ...]:
    values = [segment.value for segment in segments]
    counts = voxel_counts(labels.array, values)
    volumes = volumes_ml(labels.array, labels.spacing_mm, values)
    overlap: Mapping[int, float | None] = {}
    if truth is not None:
        overlap = dice_per_label(labels.array, truth.array, values)
    return tuple(
        SegmentSummary(s.value, s.name, counts[s.value], volumes[s.value], overlap.get(s.value)) for s in segments
    )


def _table(segments: tuple[SegmentSummary, ...], mean_dice: float | None) -> list[str]:
    width = max([len(segment.name) for segment in segments] + [len("segment")])
    with_truth = mean_dice is not None
    lines = [f"  {'segment':<{width}}  {'volume':>10}" + ("  Dice against truth" if with_truth else "")]
    for segment in segments:
        line = f"  {segment.name:<{width}}  {segment.volume_ml:>7.2f} mL"
        if with_truth:
            line += f"  {'none':>18}" if segment.dice is None else f"  {segment.dice:>18.3f}"
        lines.append(line)
    if with_truth:
        lines.append(f"  {'mean':<{width}}  {'':>10}  {mean_dice:>18.3f}")
    return lines


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ImageError(
            f"cannot make the folder {folder}: {problem.strerror or problem}; choose another for the output"
        ) from problem
    return folder


def _case_name(path: Path) -> str:
    name = path.resolve().name
    ending = next((known for known in _IMAGE_ENDINGS if name.lower().endswith(known)), "")
    return name[: len(name) - len(ending)] or "image"


@contextmanager
def _stage(
    name: str, timings: dict[str, float], progress: ProgressCallback | None, cancel: CancelToken
) -> Iterator[None]:
    cancel.raise_if_cancelled()
    if progress is not None:
        progress(Progress(name, 0, 1))
    started = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - started
    if progress is not None:
        progress(Progress(name, 1, 1, 0.0))
