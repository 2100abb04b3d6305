"""How labels came about, as a JSON file beside them: model, inputs, options, versions, timings.

Inputs and outputs are named without their folders, which may name a patient, and no header of theirs is copied.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .calibration import temperature
from .extras import Extras, segment_rows
from .files import atomic_path
from .manifest import Manifest
from .volume import Volume

if TYPE_CHECKING:
    from .case import UsedModel
    from .inference.predictor import SegmentationResult

_NOTICE = "For research use only: not a medical device."
_PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "numba", "triton", "highdicom")


def write_sidecar(
    extras: Extras,
    models: "Sequence[UsedModel]",
    images: Mapping[str, Any],
    output: str | Path | None,
    options: Mapping[str, Any],
    result: "SegmentationResult",
) -> None:
    """Write `extras.sidecar`.

    Args:
        models: that made the labels, those of the highest priority last.
        images: Volumes or paths by channel.
        options: of the case, those of the models are with them.
    Raises:
        ImageError: the place cannot be written. ResourceError: the disk is full.
    """
    if extras.sidecar is None:
        return
    files = [*([Path(output)] if output is not None else []), *extras.files]
    document = {
        "notice": _NOTICE,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **_about_all(models, options, extras),
        "inputs": [
            {"channel": channel, "file": None if isinstance(image, Volume) else Path(image).absolute().name}
            for channel, image in images.items()
        ],
        "files": [path.name for path in files if path != extras.sidecar],
        "grid": _grid(result.labels),
        "segments": segment_rows(result),
        "warnings": [_without_folders(text, list(images.values())) for text in result.warnings],
        "timings_s": result.timings,
        "software": software(),
    }
    with atomic_path(extras.sidecar) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def software() -> dict[str, str]:
    """Versions of what computes; a package that is not installed is left out."""
    found = {"mambasegment": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _about_all(models: "Sequence[UsedModel]", options: Mapping[str, Any], extras: Extras) -> dict[str, Any]:
    if len(models) == 1:
        (model,) = models
        return {"model": _about(model.manifest, extras), "options": {**model.options, **options}}
    described = [{**_about(model.manifest, extras), "options": dict(model.options)} for model in models]
    return {"models": described, "options": dict(options)}


def _about(facts: Manifest, extras: Extras) -> dict[str, Any]:
    return {
        "name": facts.name,
        "version": facts.version,
        "sha256": facts.sha256,
        "architecture": facts.architecture_name,
        "license": facts.license,
        "citation": facts.citation,
        "temperature": temperature(facts, extras.calibrations),
    }


def _grid(labels: Volume) -> dict[str, Any]:
    return {
        "size_ijk": list(labels.array.shape[::-1]),
        "spacing_mm": list(labels.spacing_mm),
        "origin_mm": list(labels.origin_mm),
        "direction": list(labels.direction),
    }


def _without_folders(text: str, images: Sequence[Any]) -> str:
    for image in images:
        if not isinstance(image, Volume):
            text = text.replace(str(image), Path(image).absolute().name)
    return text
