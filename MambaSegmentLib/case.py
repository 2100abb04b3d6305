"""One case from images to labels: read once, each model in turn, one result.

Several models are asked one after the other, each given back before the next one is loaded, unless the caller holds
them: one case takes the memory of the largest model, not of all.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .calibration import check_calibrations
from .errors import ConfigError
from .extras import Extras, with_statistics
from .inputs import collected_warnings, ready_for_model
from .manifest import Manifest
from .merging import MergedSegments, channels_of_all, merge_segments, model_names, paint
from .progress import CancelToken, Progress, ProgressCallback
from .roi import Roi, VoxelBox, parse_roi
from .segments import segments_named
from .volume import Volume

if TYPE_CHECKING:
    from .api import Model
    from .inference.predictor import SegmentationResult
    from .inference.score_files import ScoreFiles

Image = Volume | str | Path
Images = Image | Sequence[Image] | Mapping[str, Image]
Series = str | Sequence[str] | None


@dataclass(frozen=True)
class Wanted:
    """What is asked of a case; the arguments of `Model.segment`."""

    series: Series = None
    roi: Roi | str | None = None
    labels: Sequence[str] | None = None
    memory_limit_bytes: int | None = None
    strict: bool = False
    allow_nonfinite: bool = False
    extras: Extras = field(default_factory=Extras)
    progress: ProgressCallback | None = None
    cancel: CancelToken | None = None


@dataclass(frozen=True, eq=False)
class ModelSource:
    """A model of a case: loaded already, or to be loaded when its turn comes."""

    manifest: Manifest
    get: "Callable[[], Model]"


@dataclass(frozen=True)
class UsedModel:
    """A model that was asked, for the record."""

    manifest: Manifest
    options: Mapping[str, Any]


def segment_case(
    sources: Sequence[ModelSource], images: Images, wanted: Wanted
) -> "tuple[SegmentationResult, list[UsedModel]]":
    """Segment one case with models whose priority grows in the order given.

    Returns:
        The result, and the models that were asked: not those none of whose segments are wanted.
    Raises:
        MambaSegmentError: whatever of `errors.py` went wrong.
    """
    cancel = wanted.cancel or CancelToken()
    cancel.raise_if_cancelled()
    manifests = [source.manifest for source in sources]
    check_extras(manifests, wanted.extras)
    merged = merge_segments(manifests)
    by_channel = images_by_channel(images, manifests)
    names = None if wanted.labels is None else segments_named(merged.segments, wanted.labels)
    started = time.perf_counter()
    with collected_warnings() as warnings:
        flat = any(len(manifest.patch_size) == 2 for manifest in manifests)
        ready = _ready(by_channel, wanted, flat=flat)
        read_s = time.perf_counter() - started
        first = next(iter(ready.values()))
        region = parse_roi(wanted.roi) if isinstance(wanted.roi, str) else wanted.roi
        case = _Case(ready, None if region is None else region.box(first), cancel, wanted)
        found = _labels_of_all(sources, case, merged, None if names is None else {s.value for s in names})
        result = with_statistics(found.result, first, wanted.extras)
    timings = {"load_model": found.load_s, "read": read_s, **result.timings}
    return replace(result, timings=timings, warnings=tuple(warnings)), found.used


def images_by_channel(images: Images, manifests: Sequence[Manifest]) -> dict[str, Image]:
    """The images of a case by channel, in the order of the first model's, those of the others after them.

    Raises:
        ConfigError: a channel that is missing, unknown or given in excess; models with other channels than the first
            one, and images that are not named.
    """
    names = channels_of_all(manifests)
    models = " and ".join(f"{manifest.name!r}" for manifest in manifests)
    whose = f"the model {models} takes" if len(manifests) == 1 else f"the models {models} take"
    if isinstance(images, Mapping):
        if set(images) != set(names):
            raise ConfigError(f"{whose} the channel(s) {', '.join(names)}; given: {', '.join(images)}")
        return {name: images[name] for name in names}
    if any([channel.name for channel in manifest.channels] != names for manifest in manifests):
        each = "; ".join(f"{m.name!r} takes {', '.join(channel.name for channel in m.channels)}" for m in manifests)
        raise ConfigError(
            f"the models take different images ({each}), so each image must be named: --channel NAME=FILE, in Python "
            "a mapping from channels to images"
        )
    listed = listed_images(images)
    if len(listed) != len(names):
        raise ConfigError(f"{whose} {len(names)} image(s) ({', '.join(names)}, in this order); {len(listed)} given")
    return dict(zip(names, listed, strict=True))


def check_extras(manifests: Sequence[Manifest], extras: Extras) -> None:
    """Refuse what these models cannot give.

    Raises:
        ConfigError: probabilities of several models, a calibration of another model.
    """
    if extras.probabilities is not None and len(manifests) > 1:
        raise ConfigError(
            "probabilities are those of one model's classes, and several models were given; run each of them by itself"
        )
    check_calibrations(extras.calibrations, manifests)


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


def listed_images(images: Images) -> list[Image]:
    if isinstance(images, Mapping):
        return list(images.values())
    return [images] if isinstance(images, Volume | str | Path) else list(images)


@dataclass(frozen=True)
class _Case:
    ready: Mapping[str, Volume]
    box: VoxelBox | None
    cancel: CancelToken
    wanted: Wanted


@dataclass
class _Found:
    """The labels so far; those of the models to come are painted over them."""

    result: "SegmentationResult"
    used: list[UsedModel]
    load_s: float


def _labels_of_all(
    sources: Sequence[ModelSource], case: _Case, merged: MergedSegments, kept: set[int] | None
) -> _Found:
    from .inference.score_files import class_names, score_files

    asked = [number for number, values in enumerate(merged.values) if kept is None or kept & set(values.values())]
    classes = class_names(sources[0].manifest)
    with score_files(case.wanted.extras, next(iter(case.ready.values())), classes) as scores:
        found: _Found | None = None
        for number in asked:
            next_one = _labels_of_one(sources[number], case, scores, merged.values[number], kept, over=bool(found))
            found = next_one if found is None else _painted(found, next_one, merged.values[number])
        assert found is not None  # every model has a segment, and an unknown name was refused
        found.result = _described(found.result, sources, merged, kept, scores)
        if found.result.labels.array.dtype.itemsize == 1 and max(merged.owners) > 255:
            found.result = replace(found.result, labels=_wide(found.result.labels))
    return found


def _labels_of_one(
    source: ModelSource,
    case: _Case,
    scores: "ScoreFiles",
    values: Mapping[int, int],
    kept: set[int] | None,
    *,
    over: bool,
) -> _Found:
    """The labels of one model, in its own values."""
    model = source.get()
    writer = scores.of(model.manifest, case.wanted.extras, over=over)
    result = model.predictor.segment(
        [case.ready[channel.name] for channel in model.manifest.channels],
        box=case.box,
        labels=None if kept is None else [own for own, value in values.items() if value in kept],
        memory_limit_bytes=case.wanted.memory_limit_bytes,
        progress=case.wanted.progress,
        cancel=case.cancel,
        listener=writer.listener,
        disagreement=writer.disagreement,
    )
    writer.finish()
    return _Found(result, [UsedModel(model.manifest, model.facts)], model.load_s)


def _painted(found: _Found, over: _Found, values: Mapping[int, int]) -> _Found:
    below, above = found.result, over.result
    array = paint(below.labels.array, above.labels.array, values)
    timings = dict(below.timings)
    for stage, seconds in above.timings.items():
        timings[stage] = timings.get(stage, 0.0) + seconds
    result = replace(
        below,
        labels=below.labels.with_array(array),
        timings=timings,
        tiles=below.tiles + above.tiles,
        reused_tiles=below.reused_tiles + above.reused_tiles,
    )
    return _Found(result, [*found.used, *over.used], found.load_s + over.load_s)


def _described(
    result: "SegmentationResult",
    sources: Sequence[ModelSource],
    merged: MergedSegments,
    kept: set[int] | None,
    scores: "ScoreFiles",
) -> "SegmentationResult":
    """With the merged segments, and by label value the model of each and what the scores say of it."""
    segments = tuple(segment for segment in merged.segments if kept is None or segment.value in kept)
    measures: dict[int, dict[str, Any]] = {value: dict(means) for value, means in scores.means(result.labels).items()}
    if len(sources) > 1:
        names = model_names([source.manifest for source in sources])
        for segment in segments:
            measures[segment.value] = {**measures.get(segment.value, {}), "model": names[merged.owners[segment.value]]}
    return replace(result, segments=segments, measures=measures)


def _wide(labels: Volume) -> Volume:
    import numpy as np

    return labels.with_array(labels.array.astype(np.uint16))


def _ready(by_channel: Mapping[str, Image], wanted: Wanted, *, flat: bool) -> dict[str, Volume]:
    """The channels, read and on one grid."""
    listed = list(by_channel.values())
    of_images = series_of_channels(wanted.series, len(listed))
    volumes = [
        _as_volume(image, uid, flat, number, len(listed), wanted.progress)
        for number, (image, uid) in enumerate(zip(listed, of_images, strict=True))
    ]
    names = [_name(image, number, len(listed)) for number, image in enumerate(listed)]
    ready = ready_for_model(volumes, names, strict=wanted.strict, allow_nonfinite=wanted.allow_nonfinite)
    return dict(zip(by_channel, ready, strict=True))


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
