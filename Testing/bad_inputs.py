"""Every bad input, and every odd one that must work, with the answer that the library, the shell, the worker and the
Slicer module owe it.

    for case in CASES:
        job = case.make(folder, models)     # files are made in the folder; `models` comes from write_models
        ...                                 # segment job.images into job.output
        # case.error is the class of the error, or None where it works;
        # each text of case.says is in the message, or in the warnings where it works

Nothing here needs torch but `write_models`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from MambaSegmentLib.bundle import read_manifest
from MambaSegmentLib.calibration import write_calibration
from MambaSegmentLib.errors import BundleError, ConfigError, ImageError, ResourceError
from Testing import bad_files as files
from Testing.bad_cases import Case, Errors, Job, Models, about, job_for, refused, write_models
from Testing.bad_images import IMAGES

__all__ = ["CASES", "Case", "Job", "Models", "write_models"]

# --- outputs, devices and models ------------------------------------------------------------------------------------


def _to(name: str, output: str, error: Errors, *says: str, prepare: Callable[[Path], object] | None = None) -> Case:
    def make(folder: Path, models: Models) -> Job:
        if prepare is not None:
            prepare(folder)
        return job_for(folder, models, files.write(folder / "x.nrrd"), output=output)

    return Case(name, make, error, says)


_OUTPUTS = [
    *(_to(f"labels{end}", f"labels{end}", None) for end in (".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha", ".NRRD")),
    _to("unknown ending of the output", "labels.jpg", ImageError, "labels.jpg", "ending", ".seg.nrrd, .nrrd, .nii.gz"),
    _to("no ending of the output", "labels", ImageError, "ending"),
    _to("nothing but an ending", ".nrrd", ImageError, "ending"),
    _to("missing output folder", "none/labels.nrrd", ImageError, "folder", "does not exist", "create it first"),
    _to("a file in place of the output folder", "file/labels.nrrd", ImageError, "file", "does not exist",
        prepare=lambda f: (f / "file").write_text("")),
    _to("a folder in place of the output", "labels.nrrd", ImageError, "it is a folder", "file name",
        prepare=lambda f: (f / "labels.nrrd").mkdir()),
    _to("the output is the input", "x.nrrd", ImageError, "is an input image", "another name"),
    _to("output name of 300 letters", "o" * 300 + ".nrrd", ImageError, "too long"),
    _to("output name of 250 letters", "o" * 245 + ".nrrd", None),
]  # fmt: skip


def _on(device: str, error: Errors, *says: str) -> Case:
    def make(folder: Path, models: Models) -> Job:
        return replace(job_for(folder, models, files.write(folder / "x.nrrd")), device=device)

    return Case(f"device {device[:20]}", make, error, says)


_DEVICES = [
    _on("gpu", ConfigError, "device 'gpu' is not known", "auto, cpu, cuda"),
    _on("cuda:99", ResourceError, "'cuda:99' is not there", "--device cpu"),
    _on("cuda:" + "9" * 5000, ConfigError, "is not known"),
    _on("cuda:²", ConfigError, "is not known"),
]


def _model(name: str, says: tuple[str, ...], make: Callable[[Path, Path], str | Path]) -> Case:
    """`make` is given the folder and a good model, and returns the bad one."""

    def job(folder: Path, models: Models) -> Job:
        return job_for(folder, {}, files.write(folder / "x.nrrd"), model=make(folder, models["volume"]))

    return Case(name, job, BundleError, says)


def _bad_model(name: str, change: Callable[[bytes], bytes], *says: str, file: str = "m.safetensors") -> Case:
    return _model(name, says, lambda folder, good: files.damaged_model(good, folder / file, change))


_MODELS = [
    _model("missing model", ("no model file", "check the path"), lambda f, good: f / "none.safetensors"),
    _model("model with an unknown name", ("'no-such-model'", "known:"), lambda f, good: "no-such-model"),
    _model("model name of 300 letters", ("no model file",), lambda f, good: "m" * 300),
    _model("a folder in place of the model", ("is a folder", "models import"), lambda f, good: f),
    _bad_model("empty model", lambda content: b"", "is empty", "fetch it again"),
    _bad_model("model of three bytes", lambda content: content[:3], "cut off"),
    _bad_model("truncated model", lambda content: content[:-100], "cut off or damaged", "fetch it again"),
    _bad_model("model with bytes too many", lambda content: content + b"x", "damaged"),
    _bad_model("model with a changed weight", files.flip_last_byte, "checksum", "changed or damaged"),
    _model("model with a changed description", ("checksum", "changed"),
           lambda f, good: files.retold_model(good, f / "m.safetensors", description="the best of all models")),
    _model("model of a newer version", ("newer version", "schema_version 99", "Update"),
           lambda f, good: files.retold_model(good, f / "m.safetensors", schema_version=99)),
    _bad_model("pickle renamed .safetensors", lambda content: b"\x80\x02}q\0." + bytes(99), "PyTorch file",
               "models import"),
    _bad_model("zipped pickle renamed .safetensors", lambda content: b"PK\x03\x04" + bytes(99), "PyTorch file"),
    _bad_model("model named .pth", lambda content: content, "PyTorch file", file="m.pth"),
    _bad_model("header of absurd length", lambda content: b"\xff" * 7 + b"\x7f" + content[8:], "no safetensors file"),
    _bad_model("header that is no JSON", lambda content: content[:8] + b"x" * (len(content) - 8), "no JSON"),
    _bad_model("header that nests for ever", lambda content: (200000).to_bytes(8, "little") + b"[" * 200000, "no JSON"),
    _bad_model("safetensors of another program", files.without_description, "none of ours", "models import"),
    _bad_model("text in place of a model", lambda content: b"Dear reader,\n" * 99, "no safetensors file"),
]  # fmt: skip


# --- paths ----------------------------------------------------------------------------------------------------------


def _at(name: str, *parts: str, error: Errors = None, says: tuple[str, ...] = ()) -> Case:
    """Image, model and output in a folder of this name."""

    def make(folder: Path, models: Models) -> Job:
        deep = folder.joinpath(*parts[:-1])
        image = files.write(deep / parts[-1])
        model = files.damaged_model(models["volume"], deep / "m.safetensors", lambda content: content)
        return Job((image,), deep / "out put.seg.nrrd", str(model))

    return Case(name, make, error, says)


_PATHS = [
    _at("path with spaces", "a folder", " my image .nii.gz"),
    _at("path in Unicode", "Größe 海马 🧠", "Schädel é.nrrd"),
    _at("path with marks of patterns and shells", "a[1]*$HOME;'&", "x(1)#%.mha"),
    _at("path of 300 characters", *["deep" * 15] * 5, "x.nii.gz"),
    refused("name of 300 letters", lambda f: f / ("x" * 300 + ".nii.gz"), ImageError, "does not exist"),
]

# --- options --------------------------------------------------------------------------------------------------------


def _with(name: str, error: Errors, *says: str, **options: Any) -> Case:
    """An option may be a function, which makes its value from the folder and the models."""

    def make(folder: Path, models: Models) -> Job:
        made = {key: value(folder, models) if callable(value) else value for key, value in options.items()}
        return job_for(folder, models, files.write(folder / "x.nrrd"), **made)

    return Case(name, make, error, says)


def _calibration(whose: str) -> Callable[[Path, Models], tuple[Path, ...]]:
    def make(folder: Path, models: Models) -> tuple[Path, ...]:
        file = folder / "calibration.json"
        write_calibration(file, read_manifest(models[whose]), {"temperature": 1.5})
        return (file,)

    return make


def _no_calibration(folder: Path, models: Models) -> tuple[Path, ...]:
    (folder / "calibration.json").write_text("{}")
    return (folder / "calibration.json",)


_OPTIONS = [
    _with("region outside the image", ConfigError, "outside the image", roi="voxels:900:910,0:5,0:5"),
    _with("region of zero size", ConfigError, "holds nothing", roi="voxels:3:3,0:5,0:5"),
    _with("region that is no region", ConfigError, "cannot be understood", roi="here"),
    _with("region around a label of a missing file", ImageError, "none.nrrd", "does not exist",
          roi=lambda f, models: f"label:1:5:{f / 'none.nrrd'}"),
    _with("unknown label", ConfigError, "no label 'Tow'", "did you mean 'Two'?", labels=("Tow",)),
    _with("region and label", None, roi="voxels:0:4,0:4,0:4", labels=("two",)),
    _with("fold that is not in the model", ConfigError, "folds 0, 4", "fold 0 alone", folds="0,4"),
    _with("folds that are no numbers", ConfigError, "'all'", "0,2", folds="all"),
    _with("the only fold by its number", None, folds="0"),
    _with("disagreement of a single answer", ConfigError, "several answers", "--uncertainty",
          disagreement=lambda f, models: f / "d.nrrd"),
    _with("calibration of another model", ConfigError, "another model", "two", calibrations=_calibration("two")),
    _with("calibration that is none", ConfigError, "calibration.json", "is no calibration",
          calibrations=_no_calibration),
    _with("calibration of the model", None, calibrations=_calibration("volume")),
    _with("one model twice", ConfigError, "'volume'", "given twice", more_models=lambda f, models: (models["volume"],)),
    _with("models that take other images", ConfigError, "different images", "--channel NAME=FILE",
          more_models=lambda f, models: (models["two"],)),
    _with("a second model that is missing", BundleError, "no model file",
          more_models=lambda f, models: (f / "none.safetensors",)),
    _with("two models for one image", None, more_models=lambda f, models: (models["other"],)),
    _with("probabilities of two models", ConfigError, "several models",
          more_models=lambda f, models: (models["other"],), probabilities=lambda f, models: f / "p.nrrd"),
]  # fmt: skip

CASES: tuple[Case, ...] = (
    *IMAGES, *about("output", _OUTPUTS), *about("device", _DEVICES), *about("model", _MODELS), *about("path", _PATHS),
    *about("option", _OPTIONS),
)  # fmt: skip
