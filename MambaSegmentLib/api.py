"""The library in three lines: load a model, segment, look at the labels."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError
from .manifest import Manifest
from .progress import CancelToken, Progress, ProgressCallback
from .volume import Volume

if TYPE_CHECKING:
    from .inference.predictor import Predictor, SegmentationResult

Image = Volume | str | Path
Images = Image | Sequence[Image] | Mapping[str, Image]


@dataclass(frozen=True, eq=False)
class Model:
    """A model on a device, ready for any number of cases; made by `load_model`.

    Attributes:
        path: the file it came from.
        load_s: seconds that loading took.
    """

    path: Path
    manifest: Manifest
    predictor: "Predictor"
    load_s: float

    def segment(
        self, images: Images, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
    ) -> "SegmentationResult":
        """Segment one case.

        Args:
            images: a Volume or a path (file, or folder of a DICOM series); for several channels a list of them in
                the model's order, or a mapping from channel names.
            progress: called with a Progress, in this thread.
            cancel: may be set from any thread.
        Returns:
            A SegmentationResult: `labels` (a Volume on the grid of the first image), `segments`, `timings`.
        Raises:
            MambaSegmentError: whatever of `errors.py` went wrong.
        """
        cancel = cancel or CancelToken()
        cancel.raise_if_cancelled()
        listed = in_channel_order(images, self.manifest)
        started = time.perf_counter()
        volumes = [_as_volume(image, number, len(listed), progress) for number, image in enumerate(listed)]
        read_s = time.perf_counter() - started
        result = self.predictor.segment(volumes, progress=progress, cancel=cancel)
        return replace(result, timings={"load_model": self.load_s, "read": read_s, **result.timings})


def load_model(
    name_or_path: str | Path, device: str = "auto", *, step: float | None = None, quality: str = "best"
) -> Model:
    """Load a model from a file or by its name in the store.

    Args:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        step: distance of tiles as a fraction of the patch; None takes the model's.
        quality: "best" averages over mirrored copies where the model allows it, "fast" takes one pass.
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
    return Model(path, bundle.manifest, predictor, time.perf_counter() - started)


def segment(
    images: Images,
    *,
    model: str | Path | Model,
    output: str | Path | None = None,
    device: str = "auto",
    quality: str = "best",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> "SegmentationResult":
    """Segment one case in one line, and write the labels if `output` is given.

    Args:
        images: as for `Model.segment`.
        model: a file, a name in the store, or a loaded Model.
        output: `.seg.nrrd`, `.nrrd`, `.nii.gz`, `.nii` or `.mha`; checked before work starts.
        device, quality: as for `load_model`; a loaded Model keeps its own.
    Returns:
        A SegmentationResult.
    """
    if output is not None:
        from .segmentation_io import check_output_path

        check_output_path(output)
    loaded = model if isinstance(model, Model) else load_model(model, device, quality=quality)
    result = loaded.segment(images, progress=progress, cancel=cancel)
    if output is None:
        return result
    return replace(result, timings={**result.timings, "write": _write(result, Path(output), progress)})


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
    listed: list[Image] = [images] if isinstance(images, Volume | str | Path) else list(images)
    if len(listed) != len(names):
        raise ConfigError(
            f"the model {manifest.name!r} takes {len(names)} image(s) ({', '.join(names)}, in this order); "
            f"{len(listed)} given"
        )
    return listed


def _as_volume(image: Image, number: int, total: int, progress: ProgressCallback | None) -> Volume:
    if isinstance(image, Volume):
        return image
    from .image_io import read_volume

    if progress is not None:
        progress(Progress("read", number, total))
    volume = read_volume(image)
    if progress is not None:
        progress(Progress("read", number + 1, total, 0.0 if number + 1 == total else None))
    return volume


def _write(result: "SegmentationResult", output: Path, progress: ProgressCallback | None) -> float:
    from .segmentation_io import write_segmentation

    started = time.perf_counter()
    if progress is not None:
        progress(Progress("write", 0, 1))
    write_segmentation(result.labels, result.segments, output)
    if progress is not None:
        progress(Progress("write", 1, 1, 0.0))
    return time.perf_counter() - started
