"""A model's temperature: what its scores are divided by before they are taken for probabilities.

Networks are too sure of themselves as a rule. One number, fitted on cases that the training did not see, mends most of
that and changes no label: Guo et al. 2017, "On calibration of modern neural networks", arXiv:1706.04599. It is part of
the model file (`calibration` in the manifest), or lies in a JSON file of its own that names the model it belongs to:

    {"format": "mambasegment-calibration", "schema_version": 1, "model": {"name": ..., "sha256": ...},
     "calibration": {"temperature": 1.3, "cases": 10, "ece_before": ..., "ece_after": ..., "bins": [...]}}

Where it was fitted, `bins` says how often the model was right when it was so sure: `reliability.py` draws that.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import BundleError, ConfigError
from .files import atomic_path
from .manifest import Manifest

FORMAT, SCHEMA_VERSION = "mambasegment-calibration", 1
_LARGEST_FILE_BYTES = 1 << 20


def temperature(manifest: Manifest, files: Sequence[Path] = ()) -> float:
    """The temperature of a model: of its file among `files`, else its own, else 1.

    Raises:
        BundleError: its own is no positive number. ConfigError: a file that is none, or not this model's.
    """
    calibration: Mapping[str, Any] = manifest.calibration
    for file in files:
        document = read_calibration(file)
        if document["model"]["sha256"] == manifest.sha256:
            calibration = document["calibration"]
    value = calibration.get("temperature", 1.0)
    if not _is_temperature(value):
        raise BundleError(
            f"the calibration of {manifest.name!r} holds the temperature {value!r}; a number above 0 fits"
        )
    return float(value)


def check_calibrations(files: Sequence[Path], manifests: Sequence[Manifest]) -> None:
    """Refuse files that belong to none of the models that are used.

    Raises:
        ConfigError: such a file, or one that is no calibration, or two for one model.
    """
    seen: dict[str, Path] = {}
    for file in files:
        model = read_calibration(file)["model"]
        if model["sha256"] not in [manifest.sha256 for manifest in manifests]:
            names = ", ".join(f"{manifest.name} {manifest.version}" for manifest in manifests)
            raise ConfigError(
                f"the calibration {file} was fitted for another model ({model['name']}, sha256 "
                f"{model['sha256'][:12]}…), and {names} is used; fit one for this very file, or leave it out"
            )
        if model["sha256"] in seen:
            raise ConfigError(f"{seen[model['sha256']]} and {file} both calibrate {model['name']}; give one of them")
        seen[model["sha256"]] = file


def read_calibration(file: Path) -> dict[str, Any]:
    """A calibration file, checked.

    Raises:
        ConfigError: it cannot be read, or is none; the message says what is wrong with it.
    """
    try:
        if file.stat().st_size > _LARGEST_FILE_BYTES:
            raise ConfigError(f"{file} is no calibration: it is larger than {_LARGEST_FILE_BYTES} bytes")
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(f"the calibration {file} cannot be read: {problem.strerror or problem}") from problem
    except (ValueError, RecursionError) as problem:
        raise ConfigError(f"{file} is no calibration: it holds no JSON") from problem
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ConfigError(f'{file} is no calibration: expected a JSON object with "format": "{FORMAT}"')
    if document.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(f"{file} has schema_version {document.get('schema_version')!r}; this version reads 1")
    model, calibration = document.get("model"), document.get("calibration")
    if not isinstance(model, dict) or not all(isinstance(model.get(key), str) for key in ("name", "sha256")):
        raise ConfigError(f"{file} does not say whose calibration it is: expected model with name and sha256")
    if not isinstance(calibration, dict) or not _is_temperature(calibration.get("temperature")):
        raise ConfigError(f"{file} holds no temperature: expected calibration with a temperature above 0")
    return document


def write_calibration(file: Path, manifest: Manifest, calibration: Mapping[str, Any]) -> None:
    """Write a calibration of a model to a file of its own.

    Raises:
        ConfigError: the model's file was not read, so that its checksum is unknown. ImageError, ResourceError: the
            place cannot be written.
    """
    if manifest.sha256 is None:
        raise ConfigError(f"the model {manifest.name!r} has no checksum yet; write its file first")
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "model": {"name": manifest.name, "sha256": manifest.sha256},
        "calibration": dict(calibration),
    }
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _is_temperature(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 < value < math.inf
