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
        options: strict, allow_nonfinite, series, roi, labels and quality as for `MambaSegmentLib.segment`;
            more_models, painted over `model`; folds as text; disagreement, probabilities and calibrations as for
            `Extras`.
    """

    images: tuple[Path, ...]
    output: Path
    model: str
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)


_TO_FILES = ("disagreement", "probabilities", "calibrations")


def python_arguments(job: Job) -> dict[str, Any]:
    """The job's options as `MambaSegmentLib.segment` takes them."""
    from MambaSegmentLib.extras import Extras
    from MambaSegmentLib.quality import folds_from_text

    options = {key: value for key, value in job.options.items() if key not in (*_TO_FILES, "more_models")}
    if "folds" in options:
        options["folds"] = folds_from_text(options["folds"])
    extras = Extras(**{key: job.options[key] for key in _TO_FILES if key in job.options})
    return {**options, "extras": extras}


def shell_words(job: Job) -> list[str]:
    """The job's options on the command line."""
    given = dict(job.options)
    words = [f"--{name.replace('_', '-')}" for name in ("strict", "allow_nonfinite") if given.pop(name, False)]
    series = given.pop("series", ())
    words += [word for uid in ([series] if isinstance(series, str) else series) for word in ("--series", uid)]
    words += [word for model in given.pop("more_models", ()) for word in ("-m", str(model))]
    words += [word for path in given.pop("calibrations", ()) for word in ("--calibration", str(path))]
    if "labels" in given:
        given["labels"] = ",".join(given["labels"])
    return words + [word for name, value in given.items() for word in (f"--{name}", str(value))]


def worker_options(job: Job) -> dict[str, Any]:
    """The job's options as `worker.protocol.Options` takes them; of several models the command itself tells."""
    given = {key: value for key, value in job.options.items() if key != "more_models"}
    for name in ("series", "labels", "calibrations"):
        if name in given:
            value = given[name]
            given[name] = (value,) if isinstance(value, str) else tuple(map(str, value))
    return {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}


def worker_model(job: Job) -> str | tuple[str, ...]:
    """The model of a `Segment` command, or several."""
    others = tuple(map(str, job.options.get("more_models", ())))
    return (job.model, *others) if others else job.model


@dataclass(frozen=True)
class Case:
    """One bad or odd input.

    Attributes:
        make: makes the files in an empty folder, and says what is asked for.
        error: what must be raised; None where the case must work.
        says: texts in the message, or in the warnings where it works.
        topic: "file", "channels", "shape", "values", "geometry", "size", "dicom", "output", "device", "model", "path",
            "option".
    """

    name: str
    make: Callable[[Path, Models], Job]
    error: Errors = None
    says: tuple[str, ...] = ()
    topic: str = ""


def write_models(folder: Path) -> dict[str, Path]:
    """Tiny real networks: "volume" (3-D, voxels of 1 mm), "other" (as that, with other weights), "two" (3-D, two
    channels), "flat" (2-D). Needs torch."""
    import torch

    from MambaSegmentLib.bundle import Channel, Manifest, write_bundle
    from MambaSegmentLib.models import build_model
    from MambaSegmentLib.normalization import Normalization
    from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
    from MambaSegmentLib.segments import SegmentInfo

    torch.manual_seed(0)
    paths = {}
    kinds = (("volume", 1, (8, 8, 8)), ("two", 2, (8, 8, 8)), ("flat", 1, (16, 16)), ("other", 1, (8, 8, 8)))
    for name, channels, patch in kinds:
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
