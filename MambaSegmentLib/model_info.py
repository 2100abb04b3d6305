"""What `models info` tells: a model's description with what its network costs, as JSON and for a person."""

import dataclasses
import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .bundle import fold_count, read_manifest
from .errors import ConfigError, MambaSegmentError
from .manifest import Manifest

_WIDTH = 80
_INDENT, _COLUMN = 2, 15
_LONG_RECORDS = ("recipe", "software", "bins", "bins_before", "checkpoints")  # for programs, in the JSON alone


def info_of_model(path: Path, *, with_counts: bool = True) -> dict[str, Any]:
    """The description of a model file, its size and folds, and the counts of its network for one patch.

    Returns:
        JSON-ready. `counts` is None, and `counts_problem` says why, where the network cannot be looked at.
    Raises:
        BundleError: as `read_manifest`.
    """
    manifest = read_manifest(path)
    counts, problem = _counts_of(manifest) if with_counts else (None, "not asked for")
    return {
        "path": str(path),
        **manifest.to_json(),
        "sha256": manifest.sha256,
        "folds": fold_count(path),
        "file_bytes": path.stat().st_size,
        "counts": counts,
        "counts_problem": problem,
    }


def info_of_architecture(name: str, options: Mapping[str, Any], patch_size: Sequence[int] | None) -> dict[str, Any]:
    """The counts of an architecture: its canonical options with `options` in their places.

    Args:
        patch_size: None for the canonical one.
    Raises:
        ConfigError: an architecture or option that is not known. ShapeError: a patch that the network cannot take.
    """
    from .models.canonical import canonical
    from .models.counts import count_architecture

    network = canonical(name)
    merged = {**network.options, **options}
    patch = tuple(patch_size or network.spatial)
    if not isinstance(merged["in_channels"], int):
        raise ConfigError(f"in_channels is {merged['in_channels']!r}; expected a whole number")
    counts = count_architecture(name, merged, (1, merged["in_channels"], *patch))
    return {
        "architecture": {"name": name, "options": _with_defaults(name, merged)},
        "patch_size": list(patch),
        "counts": counts.to_json(),
        "counts_problem": None,
    }


def options_of(assignments: Sequence[str]) -> dict[str, Any]:
    """`["in_channels=3", "mixer=spm"]` as options; values are JSON, or else texts.

    Raises:
        ConfigError: a text without "=".
    """
    options = {}
    for text in assignments:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise ConfigError(f"--option {text!r}: expected NAME=VALUE, such as in_channels=3")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def as_text(info: Mapping[str, Any]) -> str:
    """The same for a person, in lines of at most 80 columns where words allow."""
    sections = {
        "Network": list(_network_lines(info)),
        "Input": list(_input_lines(info)),
        "Labels": list(_label_lines(info)),
        "Cost": list(_cost_lines(info.get("measured") or {})),
        "Training": list(_training_lines(info.get("training") or {})),
        "Use": list(_use_lines(info)),
    }
    lines = list(_title_lines(info))
    for title, section in sections.items():
        if section:
            lines += ["", title, *section]
    return "\n".join(lines)


def _with_defaults(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an architecture with the values that were not given, as JSON has them."""
    from .models import ARCHITECTURES

    config = ARCHITECTURES[name].config
    own = {field.name for field in dataclasses.fields(config)}
    complete = dataclasses.asdict(config(**{key: value for key, value in options.items() if key in own}))
    return json.loads(json.dumps({**options, **complete}))


def _counts_of(manifest: Manifest) -> tuple[dict[str, Any] | None, str | None]:
    try:
        from .models.counts import count_architecture

        shape = (1, len(manifest.channels), *manifest.patch_size)
        return count_architecture(manifest.architecture_name, manifest.architecture_options, shape).to_json(), None
    except ImportError as problem:
        return None, f"PyTorch cannot be imported: {problem}"
    except (MambaSegmentError, TypeError) as problem:  # TypeError: options of a kind that no network takes
        return None, str(problem)


def _title_lines(info: Mapping[str, Any]) -> Iterator[str]:
    if "name" not in info:
        yield f"{info['architecture']['name']} (no weights)"
        return
    yield f"{info['name']}, version {info['version']}"
    if info["description"]:
        yield from _wrapped(info["description"], " " * _INDENT)
    yield " " * _INDENT + info["path"]
    yield f"{' ' * _INDENT}sha256 {info['sha256']}"


def _network_lines(info: Mapping[str, Any]) -> Iterator[str]:
    architecture, counts = info["architecture"], info["counts"]
    yield from _entry("architecture", architecture["name"])
    yield from _entry("options", ", ".join(f"{key} {_plain(value)}" for key, value in architecture["options"].items()))
    if "folds" in info:
        networks = "1 network" if info["folds"] == 1 else f"{info['folds']} networks, averaged"
        yield from _entry("weights", f"{networks}, {_bytes(info['file_bytes'])} on disk")
    if counts is None:
        yield from _entry("counts", f"none: {info['counts_problem']}")
        return
    work, memory = counts["multiply_adds"], counts["activation_memory_bytes"]
    parts = ("convolution", "linear", "scan", "normalisation")
    yield from _entry("parameters", f"{_amount(counts['parameters'])} ({counts['parameters']})")
    yield from _entry(
        "multiply-adds",
        f"{_amount(work['total'])} for a patch of {_sizes(counts['input_shape'][2:])}: "
        + ", ".join(f"{part} {_amount(work[part])}" for part in parts),
    )
    yield from _entry(
        "memory",
        f"{_bytes(memory['inference'])} of activations for that patch, {_bytes(memory['training'])} in training "
        "(one sample, single precision)",
    )


def _input_lines(info: Mapping[str, Any]) -> Iterator[str]:
    if "channels" not in info:
        return
    channels = [
        f"{channel['name']} ({channel['modality']})" if channel["modality"] else channel["name"]
        for channel in info["channels"]
    ]
    preparation = info["preprocessing"]
    spacing = preparation.get("spacing_mm")
    yield from _entry("channels", ", ".join(channels))
    yield from _entry("patch", f"{_sizes(info['patch_size'])} voxels, every {info['step']:g} of it")
    yield from _entry("voxels", "as they are" if spacing is None else f"{_sizes(spacing, 'as it is')} mm")
    if preparation.get("size") is not None:
        yield from _entry("size", f"images are made {_sizes(preparation['size'], 'as many')} voxels")
    yield from _entry("orientation", preparation.get("orientation", ""))
    yield from _entry("intensities", "; ".join(_plain(entry) for entry in preparation.get("normalization", [])))
    yield from _entry("crop", preparation.get("crop", ""))
    if info["mirror_axes"]:
        yield from _entry("mirrored", f"along {_plain(info['mirror_axes'])} at best quality")
    for name, mode in info["quality_modes"].items():
        yield from _entry(f"quality {name}", _plain(mode))
    calibration = {key: value for key, value in (info.get("calibration") or {}).items() if key not in _LONG_RECORDS}
    yield from _entry("calibration", _plain(calibration))


def _label_lines(info: Mapping[str, Any]) -> Iterator[str]:
    labels = info.get("labels", [])
    width = max((len(label["name"]) for label in labels), default=0)
    for label in labels:
        terms = label.get("terminology") or {}
        code = terms.get("type") or {}
        modifier = (terms.get("modifier") or {}).get("meaning", "")
        meaning = f"{code.get('scheme', '')} {code.get('value', '')} {code.get('meaning', '')} {modifier}".strip()
        yield _clean(f"{' ' * _INDENT}{label['value']:>5}  {label['name']:<{width}}  {meaning}").rstrip()
    if info.get("regions"):
        yield from _entry("regions", _plain(info["regions"]))
    if info.get("ignore_label") is not None:
        yield from _entry("ignored", str(info["ignore_label"]))


def _cost_lines(measured: Mapping[str, Any]) -> Iterator[str]:
    """As `mambatrain export` measured it, by device and size; anything else on one line."""
    for device, rows in measured.items():
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) and "size" in row for row in rows):
            yield from _entry(str(device), _plain(rows))
            continue
        for row in rows:
            yield from _entry(
                str(device),
                f"{_sizes(row['size'])} voxels in {_plain(row.get('seconds'))} s with {_bytes(row['memory_bytes'])} "
                f"({row.get('hardware', '')}, PyTorch {row.get('torch', '?')}), {row.get('note', '')}",
            )


def _training_lines(training: Mapping[str, Any]) -> Iterator[str]:
    for key, value in training.items():
        if key == "metrics" and isinstance(value, Mapping):
            for name, metric in value.items():
                yield from _metric_lines(name.replace("_", " "), metric)
        elif key not in _LONG_RECORDS:
            yield from _entry(key.replace("_", " "), _plain(value))


def _metric_lines(name: str, metric: Any) -> Iterator[str]:
    """A metric as our training writes it, with its value for each label; anything else on one line."""
    labels = metric.get("labels") if isinstance(metric, Mapping) else None
    if not isinstance(labels, list) or not all(isinstance(label, Mapping) for label in labels):
        yield from _entry(name, _plain(metric))
        return
    yield from _entry(name, _plain({key: value for key, value in metric.items() if key != "labels"}))
    for label in labels:
        others = {key: value for key, value in label.items() if key != "name"}
        yield from _entry("", f"{label.get('name', '?')}: {_plain(others)}")


def _use_lines(info: Mapping[str, Any]) -> Iterator[str]:
    for name, key in (("for", "intended_use"), ("limits", "limitations"), ("license", "license"), ("cite", "citation")):
        for index, paragraph in enumerate(str(info.get(key, "")).splitlines()):
            yield from _entry(name if index == 0 else "", paragraph)


def _entry(name: str, value: str) -> Iterator[str]:
    """One line with its name in a column, or several; nothing for an empty value."""
    if value:
        first = f"{' ' * _INDENT}{name:<{_COLUMN - 1}} "
        yield from _wrapped(value, first, " " * (_INDENT + _COLUMN))


def _wrapped(text: str, first: str, others: str | None = None) -> list[str]:
    following = first if others is None else others
    return textwrap.wrap(_clean(text), _WIDTH, initial_indent=first, subsequent_indent=following)


def _clean(text: str) -> str:
    """Without what would steer a terminal: the texts are those of a file from anywhere."""
    return "".join(character if character.isprintable() else " " for character in text)


def _plain(value: Any) -> str:
    """A JSON value in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_plain(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return "[" + " ".join(_plain(entry) for entry in value) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sizes(sizes: Sequence[Any], nothing: str = "") -> str:
    return " x ".join(nothing if size is None else f"{size:g}" for size in sizes)


def _amount(number: int) -> str:
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{_three_digits(number / factor)} {unit}"
    return str(number)


def _bytes(number: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{_three_digits(number / factor)} {unit}"
    return f"{number} bytes"


def _three_digits(value: float) -> str:
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"
