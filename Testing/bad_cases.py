"""What a bad input is, and the models it is given to; the inputs themselves are in `bad_inputs.py`.

Nothing here needs torch but `write_models`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from MambaSegmentLib.errors import MambaSegmentError

Models = Mapping[str, Path]
Make = Callable[[Path], Path]  # makes an image in a folder
Errors = type[MambaSegmentError] | tuple[type[MambaSegmentError], ...] | None


@dataclass(frozen=True)
class Job:
    """What a person asks for.

    Attributes:
        model: a file, or a name.
        options: strict, allow_nonfinite, series, as for `MambaSegmentLib.segment`.
    """

    images: tuple[Path, ...]
    output: Path
    model: str
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One bad or odd input.

    Attributes:
        make: makes the files in an empty folder, and says what is asked for.
        error: what must be raised; None where the case must work.
        says: texts in the message, or in the warnings where it works.
        topic: "file", "channels", "shape", "values", "geometry", "size", "dicom", "output", "device", "model", "path".
    """

    name: str
    make: Callable[[Path, Models], Job]
    error: Errors = None
    says: tuple[str, ...] = ()
    topic: str = ""


def write_models(folder: Path) -> dict[str, Path]:
    """Tiny real networks: "volume" (3-D, voxels of 1 mm), "two" (3-D, two channels), "flat" (2-D). Needs torch."""
    import torch

    from MambaSegmentLib.bundle import Channel, Manifest, write_bundle
    from MambaSegmentLib.models import build_model
    from MambaSegmentLib.normalization import Normalization
    from MambaSegmentLib.preprocess import PreprocessingSpec
    from MambaSegmentLib.segments import SegmentInfo

    torch.manual_seed(0)
    paths = {}
    for name, channels, patch in (("volume", 1, (8, 8, 8)), ("two", 2, (8, 8, 8)), ("flat", 1, (16, 16))):
        sizes = {"features_per_stage": [4, 8], "kernel_sizes": 3, "strides": [1, 2]}
        options = {"spatial_dims": len(patch), "in_channels": channels, "num_classes": 3, **sizes}
        manifest = Manifest(
            name=name,
            architecture_name="resenc_unet",
            architecture_options=options,
            channels=tuple(Channel(f"c{number}") for number in range(channels)),
            segments=(SegmentInfo(1, "One", (1.0, 0.0, 0.0)), SegmentInfo(2, "Two", (0.0, 1.0, 0.0))),
            preprocessing=PreprocessingSpec(
                (Normalization("zscore"),) * channels, spacing_mm=None if name == "flat" else (1.0, 1.0, 1.0)
            ),
            patch_size=patch,
        )
        paths[name] = folder / f"{name}.safetensors"
        write_bundle(paths[name], manifest, [build_model("resenc_unet", options).state_dict()])
    return paths


def about(topic: str, cases: Iterable[Case]) -> tuple[Case, ...]:
    """The same cases with their topic."""
    return tuple(replace(case, topic=topic) for case in cases)


def job_for(
    folder: Path,
    models: Models,
    *images: Path,
    model: str | Path = "volume",
    output: str = "labels.nrrd",
    **options: Any,
) -> Job:
    """`model` is one of `models`, or any other; the options are those of `MambaSegmentLib.segment`."""
    return Job(images, folder / output, str(models.get(str(model), model)), options=options)


def refused(name: str, make: Make, error: Errors, *says: str, **how: Any) -> Case:
    """One image for a model that takes one; `how` as for `job_for`."""
    return Case(name, lambda folder, models: job_for(folder, models, make(folder), **how), error, says)


def works(name: str, make: Make, *says: str, **how: Any) -> Case:
    """As `refused`, but for an image that is only odd."""
    return refused(name, make, None, *says, **how)
