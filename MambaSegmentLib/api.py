"""The library in three lines: load a model, segment, look at the labels."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, ImageError
from .extras import NOTHING, Extras, with_statistics
from .inputs import collected_warnings, ready_for_model
from .manifest import Manifest
from .progress import CancelToken, Progress, ProgressCallback
from .provenance import write_sidecar
from .roi import Roi, parse_roi
from .segments import segments_named
from .volume import Volume

if TYPE_CHECKING:
    from .dicom_seg import SourceSeries
    from .inference.predictor import Predictor, SegmentationResult

Image = Volume | str | Path
Images = Image | Sequence[Image] | Mapping[str, Image]
Series = str | Sequence[str] | None


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
        cancel = cancel or CancelToken()
        cancel.raise_if_cancelled()
        listed = in_channel_order(images, self.manifest)
        wanted = series_of_channels(series, len(listed))
        started = time.perf_counter()
        with collected_warnings() as warnings:
            flat = len(self.manifest.patch_size) == 2
            volumes = [
                _as_volume(image, uid, flat, number, len(listed), progress)
                for number, (image, uid) in enumerate(zip(listed, wanted, strict=True))
            ]
            names = [_name(image, number, len(listed)) for number, image in enumerate(listed)]
            ready = ready_for_model(volumes, names, strict=strict, allow_nonfinite=allow_nonfinite)
            del volumes  # what was resampled is not needed as it was
            read_s = time.perf_counter() - started
            region = parse_roi(roi) if isinstance(roi, str) else roi
            values = None if labels is None else [s.value for s in segments_named(self.manifest.segments, labels)]
            result = self._predict(
                ready,
                extras,
                box=None if region is None else region.box(ready[0]),
                labels=values,
                memory_limit_bytes=memory_limit_bytes,
                progress=progress,
                cancel=cancel,
            )
        timings = {"load_model": self.load_s, "read": read_s, **result.timings}
        return replace(result, timings=timings, warnings=tuple(warnings))

    def _predict(self, volumes: list[Volume], extras: Extras, **how: Any) -> "SegmentationResult":
        """`Predictor.segment`, and what is measured and written besides."""
        from .inference.score_files import score_files

        with score_files(extras, volumes[0], self.manifest) as scores:
            result = self.predictor.segment(volumes, listener=scores.listener, **how)
            result = replace(result, measures=scores.finish(result.labels))
        return with_statistics(result, volumes[0], extras)


def load_model(
    name_or_path: str | Path, device: str = "auto", *, step: float | None = None, quality: str = "best"
) -> Model:
    """Load a model from a file or by its name in the store.

    Args:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        step: distance of tiles as a fraction of the patch; None takes the model's.
        quality: "best" averages over mirrored copies where the model allows it, "balanced" over two, "fast" takes one
            pass; see `quality.py`.
    Raises:
        BundleError: unknown, damaged or not usable. ConfigError, ResourceError: no such device.
    """
    from .store import find_model

    started = time.perf_counter()
    path = find_model(name_or_path)
    from .bundle import read_bundle
    from .inference.predictor import Predictor

    bundle = read_bundle(path)
    predictor = Predictor(bundle, device, step=step, quality=quality)
    options = {"step": step, "quality": quality}
    return Model(path, bundle.manifest, predictor, time.perf_counter() - started, options)


def segment(
    images: Images,
    *,
    model: str | Path | Model,
    output: str | Path | None = None,
    device: str = "auto",
    quality: str = "best",
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
            `Model.segment`.
        model: a file, a name in the store, or a loaded Model.
        output: `.seg.nrrd`, `.nrrd`, `.nii.gz`, `.nii`, `.mha`, or `.dcm` where the first image is the folder of a
            DICOM series; checked before work starts.
        extras: what to measure and write besides; checked before work starts.
        device, quality: as for `load_model`; a loaded Model keeps its own.
    Returns:
        A SegmentationResult.
    """
    given = [image for image in _listed(images) if not isinstance(image, Volume)]
    if output is not None:
        check_output(output, given)
    extras.check(None if output is None else Path(output), given)
    loaded = model if isinstance(model, Model) else load_model(model, device, quality=quality)
    listed = in_channel_order(images, loaded.manifest)
    of_first = series_of_channels(series, len(listed))[0]
    source = _dicom_source(output, listed[0], of_first)
    result = loaded.segment(
        images,
        series=series,
        roi=roi,
        labels=labels,
        memory_limit_bytes=memory_limit_bytes,
        strict=strict,
        allow_nonfinite=allow_nonfinite,
        extras=extras,
        progress=progress,
        cancel=cancel,
    )
    if output is not None:
        with collected_warnings() as warnings:
            seconds = _write(result, Path(output), loaded.manifest, source, progress)
        timings = {**result.timings, "write": seconds}
        result = replace(result, timings=timings, warnings=(*result.warnings, *warnings))
    if extras.sidecar is not None:
        options = {"strict": strict, "allow_nonfinite": allow_nonfinite, "series": of_first}
        write_sidecar(extras, loaded, listed, output, options, result)
    return result


def in_channel_order(images: Images, manifest: Manifest) -> list[Image]:
    """The images of a case as a list in the order of the model's channels.

    Raises:
        ConfigError: a channel that is missing, unknown or given in excess.
    """
    names = [channel.name for channel in manifest.channels]
    if isinstance(images, Mapping):
        if set(images) != set(names):
            raise ConfigError(
                f"the model {manifest.name!r} takes the channel(s) {', '.join(names)}; given: {', '.join(images)}"
            )
        return [images[name] for name in names]
    listed = _listed(images)
    if len(listed) != len(names):
        raise ConfigError(
            f"the model {manifest.name!r} takes {len(names)} image(s) ({', '.join(names)}, in this order); "
            f"{len(listed)} given"
        )
    return listed


def check_case(
    images: "list[Path] | dict[str, Path]",
    output: Path,
    model: str | Path,
    series: Series = None,
    labels: Sequence[str] | None = None,
    extras: Extras = NOTHING,
) -> None:
    """Refuse what cannot succeed before torch is imported, a model is loaded or anything is computed.

    Raises:
        ImageError: an image that is missing, or an output that cannot be written or is one of the images.
        BundleError: no such model. ConfigError: channels or labels that are not the model's.
    """
    from .bundle import read_manifest
    from .image_io import exists
    from .store import find_model

    paths = list(images.values()) if isinstance(images, dict) else images
    check_output(output, paths)
    extras.check(output, paths)
    for path in paths:
        if not exists(path):
            raise ImageError(f"{path} does not exist; check the path")
    manifest = read_manifest(find_model(model))
    listed = in_channel_order(dict(images) if isinstance(images, dict) else list(images), manifest)
    _check_dicom_source(output, listed[0])
    series_of_channels(series, len(listed))
    segments_named(manifest.segments, labels or ())


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


def series_of_channels(series: Series, channels: int) -> list[str]:
    """For each image the DICOM series that is wanted from it, or "".

    Raises:
        ConfigError: not as many as there are images.
    """
    listed = ([series] if isinstance(series, str) else list(series)) if series else [""] * channels
    if len(listed) != channels:
        raise ConfigError(
            f"{len(listed)} DICOM series were chosen for {channels} image(s); choose one for each of them"
        )
    return listed


def _listed(images: Images) -> list[Image]:
    if isinstance(images, Mapping):
        return list(images.values())
    return [images] if isinstance(images, Volume | str | Path) else list(images)


def _name(image: Image, number: int, total: int) -> str:
    if not isinstance(image, Volume):
        return str(image)
    return "the image" if total == 1 else f"image {number + 1}"


def _as_volume(
    image: Image, series: str, flat: bool, number: int, total: int, progress: ProgressCallback | None
) -> Volume:
    if isinstance(image, Volume):
        if series:
            raise ConfigError("a DICOM series was chosen from an image that is no folder but a Volume")
        return image
    from .image_io import read_volume

    if progress is not None:
        progress(Progress("read", number, total))
    volume = read_volume(image, series=series or None, flat=flat)
    if progress is not None:
        progress(Progress("read", number + 1, total, 0.0 if number + 1 == total else None))
    return volume


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
    manifest: Manifest,
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
        write_dicom_seg(result.labels, result.segments, output, source, manifest)
    if progress is not None:
        progress(Progress("write", 1, 1, 0.0))
    return time.perf_counter() - started
