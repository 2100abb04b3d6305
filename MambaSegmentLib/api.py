"""The library in three lines: load a model, segment, look at the labels."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .case import (
    Image,
    Images,
    ModelSource,
    Series,
    Wanted,
    check_extras,
    images_by_channel,
    listed_images,
    segment_case,
    series_of_channels,
)
from .errors import ConfigError, ImageError
from .extras import NOTHING, Extras
from .inputs import collected_warnings
from .manifest import Manifest
from .merging import merge_segments
from .progress import CancelToken, Progress, ProgressCallback
from .provenance import write_sidecar
from .quality import check_members, one_for_each
from .roi import Roi
from .segments import segments_named
from .volume import Volume

if TYPE_CHECKING:
    from .dicom_seg import SourceSeries
    from .inference.predictor import Predictor, SegmentationResult

OneOrEach = str | Sequence[str]
FoldsOfOneOrEach = Sequence[int] | Sequence[Sequence[int] | None] | None


@dataclass(frozen=True, eq=False)
class Model:
    """A model on a device, ready for any number of cases; made by `load_model`.

    Attributes:
        path: the file it came from.
        load_s: seconds that loading took.
        options: of `load_model`, for the record.
    """

    path: Path
    manifest: Manifest
    predictor: "Predictor"
    load_s: float
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """How it computes, for the record."""
        used = {"device": str(self.predictor.device), "folds": list(self.predictor.folds)}
        return {**used, **self.options, "step": self.predictor.step, "precision": self.predictor.precision}

    def segment(
        self,
        images: Images,
        *,
        series: Series = None,
        roi: Roi | str | None = None,
        labels: Sequence[str] | None = None,
        memory_limit_bytes: int | None = None,
        strict: bool = False,
        allow_nonfinite: bool = False,
        extras: Extras = NOTHING,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> "SegmentationResult":
        """Segment one case.

        Args:
            images: a Volume or a path (file, or folder of a DICOM series); for several channels a list of them in
                the model's order, or a mapping from channel names.
            series: where a folder holds several DICOM series, the Series Instance UID of the one to take; for several
                channels a list in the model's order, with "" for those that need none.
            roi: the region whose labels are wanted, as in `roi.py`, a text or an object; outside it all is background.
                Inside, the labels are those of the image cut to the region with some context, see `docs/engine.md`.
            labels: names of the segments that are wanted; the others become background. None wants all.
            memory_limit_bytes: the most that this process shall hold; None takes what is free. Where a case needs
                more, it is computed in a thriftier way, which `warnings` tell.
            strict: refuse channels that do not lie on the grid of the first one, rather than resample them.
            allow_nonfinite: go on with voxels that are NaN or infinite, set to the smallest finite value of the image.
            extras: what to measure and write besides, all but `sidecar`.
            progress: called with a Progress, in this thread.
            cancel: may be set from any thread.
        Returns:
            A SegmentationResult: `labels` (a Volume on the grid of the first image), `segments`, `timings`,
            `warnings`, `measures`.
        Raises:
            MambaSegmentError: whatever of `errors.py` went wrong.
        """
        how = (series, roi, labels, memory_limit_bytes, strict, allow_nonfinite, extras, progress, cancel)
        result, _ = segment_case([ModelSource(self.manifest, lambda: self)], images, Wanted(*how))
        return result


AnyModel = str | Path | Model | ModelSource


def load_model(
    name_or_path: str | Path,
    device: str = "auto",
    *,
    step: float | None = None,
    quality: str = "best",
    folds: Sequence[int] | None = None,
    precision: str = "auto",
) -> Model:
    """Load a model from a file or by its name in the store.

    Args:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        step: distance of tiles as a fraction of the patch; None takes the model's, or the quality's.
        quality: "best" averages over mirrored copies where the model allows it, "balanced" over two, "fast" takes one
            pass; see `quality.py`.
        folds: numbers of the model's folds to average; None takes those of the quality.
        precision: "float32", "bfloat16", or "auto", which takes bfloat16 on a GPU where the model stands it.
    Raises:
        BundleError: unknown, damaged or not usable. ConfigError, ResourceError: no such device, fold or precision.
    """
    from .store import find_model

    started = time.perf_counter()
    path = find_model(name_or_path)
    from .bundle import read_bundle
    from .inference.predictor import Predictor

    bundle = read_bundle(path)
    predictor = Predictor(bundle, device, step=step, quality=quality, folds=folds, precision=precision)
    return Model(path, bundle.manifest, predictor, time.perf_counter() - started, {"quality": quality})


def segment(
    images: Images,
    *,
    model: AnyModel | None = None,
    models: Sequence[AnyModel] | None = None,
    output: str | Path | None = None,
    device: str = "auto",
    step: float | None = None,
    quality: OneOrEach = "best",
    folds: FoldsOfOneOrEach = None,
    precision: str = "auto",
    series: Series = None,
    roi: Roi | str | None = None,
    labels: Sequence[str] | None = None,
    memory_limit_bytes: int | None = None,
    strict: bool = False,
    allow_nonfinite: bool = False,
    extras: Extras = NOTHING,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> "SegmentationResult":
    """Segment one case in one line, and write the labels if `output` is given.

    Args:
        images, series, roi, labels, memory_limit_bytes, strict, allow_nonfinite, progress, cancel: as for
            `Model.segment`; where models take different images, a mapping from channel names.
        model: a file, a name in the store, a loaded Model, or a ModelSource that gives one when its turn comes.
        models: several of these instead, for one result: a later one is painted over those before it. Values and names
            that are taken are changed (`merging.py`), and `measures` says which model a segment is from.
        output: `.seg.nrrd`, `.nrrd`, `.nii.gz`, `.nii`, `.mha`, or `.dcm` where the first image is the folder of a
            DICOM series; checked before work starts.
        extras: what to measure and write besides; checked before work starts.
        device, step, quality, folds, precision: as for `load_model`; a loaded Model keeps its own. Quality and folds
            may be lists with one entry for each of `models`.
    Returns:
        A SegmentationResult.
    """
    chosen = _chosen(model, models)
    given = [image for image in listed_images(images) if not isinstance(image, Volume)]
    if output is not None:
        check_output(output, given)
    extras.check(None if output is None else Path(output), given)
    efforts = _efforts(quality, folds, len(chosen))
    sources = [_source(one, device, step, *effort, precision) for one, effort in zip(chosen, efforts, strict=True)]
    manifests = [source.manifest for source in sources]
    by_channel = images_by_channel(images, manifests)
    of_first = series_of_channels(series, len(by_channel))[0]
    dicom = _dicom_source(output, next(iter(by_channel.values())), of_first)
    how = (series, roi, labels, memory_limit_bytes, strict, allow_nonfinite, extras, progress, cancel)
    result, used = segment_case(sources, by_channel, Wanted(*how))
    if output is not None:
        with collected_warnings() as warnings:
            seconds = _write(result, Path(output), manifests, dicom, progress)
        timings = {**result.timings, "write": seconds}
        result = replace(result, timings=timings, warnings=(*result.warnings, *warnings))
    if extras.sidecar is not None:
        options = {"strict": strict, "allow_nonfinite": allow_nonfinite, "series": of_first}
        write_sidecar(extras, used, by_channel, output, options, result)
    return result


def check_case(
    images: "list[Path] | dict[str, Path]",
    output: Path,
    models: str | Path | Sequence[str | Path],
    series: Series = None,
    labels: Sequence[str] | None = None,
    extras: Extras = NOTHING,
    quality: OneOrEach = "best",
    folds: FoldsOfOneOrEach = None,
) -> None:
    """Refuse what cannot succeed before torch is imported, a model is loaded or anything is computed.

    Raises:
        ImageError: an image that is missing, or an output that cannot be written or is one of the images.
        BundleError: no such model. ConfigError: channels, labels or folds that are not the models'.
    """
    from .bundle import fold_count, read_manifest
    from .image_io import exists
    from .store import find_model

    paths = list(images.values()) if isinstance(images, dict) else images
    check_output(output, paths)
    extras.check(output, paths)
    for path in paths:
        if not exists(path):
            raise ImageError(f"{path} does not exist; check the path")
    files = [find_model(one) for one in ([models] if isinstance(models, str | Path) else models)]
    manifests = [read_manifest(file) for file in files]
    by_channel = images_by_channel(dict(images) if isinstance(images, dict) else list(images), manifests)
    _check_dicom_source(output, next(iter(by_channel.values())))
    series_of_channels(series, len(by_channel))
    check_extras(manifests, extras)
    segments_named(merge_segments(manifests).segments, labels or ())
    for file, manifest, effort in zip(files, manifests, _efforts(quality, folds, len(files)), strict=True):
        check_members(*effort, fold_count(file), manifest.mirror_axes, several=extras.disagreement is not None)


def _chosen(model: "AnyModel | None", models: "Sequence[AnyModel] | None") -> "list[AnyModel]":
    if (model is None) == (not models):
        raise ConfigError("give either one model, or several as a list in models")
    return [model] if model is not None else list(models or ())


def _efforts(quality: OneOrEach, folds: Any, count: int) -> list[tuple[str, Sequence[int] | None]]:
    """Quality and folds of each model."""
    numbers = folds is None or all(isinstance(fold, int) for fold in folds)
    of_each = one_for_each("folds", [folds] if numbers else list(folds), count)
    qualities = one_for_each("quality", [quality] if isinstance(quality, str) else list(quality), count)
    return list(zip(qualities, of_each, strict=True))


def _source(
    model: "AnyModel",
    device: str,
    step: float | None,
    quality: str,
    folds: Sequence[int] | None,
    precision: str,
) -> ModelSource:
    if isinstance(model, ModelSource):
        return model
    if isinstance(model, Model):
        return ModelSource(model.manifest, lambda: model)
    from .bundle import read_manifest
    from .store import find_model

    path = find_model(model)

    def load() -> Model:
        return load_model(path, device, step=step, quality=quality, folds=folds, precision=precision)

    return ModelSource(read_manifest(path), load)


def check_output(output: str | Path, images: Sequence[str | Path]) -> None:
    """Refuse an output that could not be written after the work, or that would replace an image.

    Raises:
        ImageError. ConfigError: DICOM SEG without the packages for it.
    """
    from .dicom_seg import check_available, is_dicom_seg
    from .image_io import check_writable, exists
    from .segmentation_io import SUPPORTED_ENDINGS

    check_writable(Path(output), (*SUPPORTED_ENDINGS, ".dcm"))
    if is_dicom_seg(output):
        check_available()
    output = Path(output)
    for path in map(Path, images):
        if exists(output) and exists(path) and path.samefile(output):
            raise ImageError(f"the output {output} is an input image, which would be lost; choose another name")


def _check_dicom_source(output: str | Path | None, image: Image) -> None:
    from .dicom_seg import is_dicom_seg

    if output is not None and is_dicom_seg(output) and (isinstance(image, Volume) or not Path(image).is_dir()):
        raise ImageError(
            f"a DICOM segmentation refers to the slices of a DICOM series, but the first image is "
            f"{'no file' if isinstance(image, Volume) else image}; give the folder of the series, or name the output "
            ".seg.nrrd or .nii.gz"
        )


def _dicom_source(output: str | Path | None, image: Image, series: str) -> "SourceSeries | None":
    """The series that a DICOM segmentation refers to; read before the work, so that what is wrong shows at once."""
    from .dicom_seg import is_dicom_seg, read_source

    _check_dicom_source(output, image)
    if output is None or not is_dicom_seg(output) or isinstance(image, Volume):
        return None
    return read_source(Path(image), series or None)


def _write(
    result: "SegmentationResult",
    output: Path,
    manifests: Sequence[Manifest],
    source: "SourceSeries | None",
    progress: ProgressCallback | None,
) -> float:
    from .dicom_seg import write_dicom_seg
    from .segmentation_io import write_segmentation

    started = time.perf_counter()
    if progress is not None:
        progress(Progress("write", 0, 1))
    if source is None:
        write_segmentation(result.labels, result.segments, output)
    else:
        owners = merge_segments(manifests).owners
        others = {value: manifests[number] for value, number in owners.items() if number}
        write_dicom_seg(result.labels, result.segments, output, source, manifests[0], others)
    if progress is not None:
        progress(Progress("write", 1, 1, 0.0))
    return time.perf_counter() - started
