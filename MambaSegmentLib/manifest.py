"""What a model file says about itself: the JSON text under the metadata key `mambasegment`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .errors import BundleError, ConfigError
from .preprocessing_spec import PreprocessingSpec
from .segments import SegmentInfo, check_unique_values

SCHEMA_VERSION = 1
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_TEXTS = ("version", "description", "license", "citation", "intended_use", "limitations")
_OBJECTS = ("quality_modes", "calibration", "review", "training", "measured")


@dataclass(frozen=True)
class Channel:
    """One input image of a model: what the user is asked for ("T1") and its DICOM modality ("MR")."""

    name: str
    modality: str = ""


@dataclass(frozen=True)
class Region:
    """One output of a network whose outputs overlap, such as the whole tumour with the core in it.

    Attributes:
        labels: the label values of the training data that it unites.
        value: what it is painted with in the label map, over the regions before it.
    """

    name: str
    labels: tuple[int, ...]
    value: int

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigError(f"a region is named {self.name!r}; it needs a text")
        if not self.labels or not all(_is_int(label) and label >= 0 for label in self.labels):
            raise ConfigError(f"the region {self.name!r} unites the labels {self.labels}; expected whole numbers")

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "labels": list(self.labels), "value": self.value}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Region":
        return cls(document["name"], tuple(document["labels"]), document["value"])


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A model's description. Sizes and axes are those of the prepared array, (K, J, I) unless the axes were permuted.

    Attributes:
        name: also the file's name in the model store, so no path separators.
        architecture_name, architecture_options: the arguments of `models.build_model`.
        channels: input images, in the order the network takes them.
        segments: the foreground classes in the network's order: class 0 is the background, class n is
            `segments[n - 1]`, whose `value` goes into the label map. Key `labels` in JSON. With `regions`, the values
            that the label map can hold.
        preprocessing: done before the network, undone after it.
        patch_size: voxels that the network takes at once; two numbers for a network that works slice by slice
            along the first axis.
        step: distance of neighbouring tiles as a fraction of the patch.
        mirror_axes: axes of the patch along which predictions may be mirrored and averaged.
        regions: outputs of the network that overlap, in its order; none of them is the background. Empty for a
            network with one class for each label.
        ignore_label: value of voxels that the training left out; no output has it.
        quality_modes, calibration, review, training, measured: JSON values, as in the file.
        sha256: the checksum of a file that was read; None otherwise.
        unknown: keys of a file that this version does not know, at any depth; they are written back.
    Raises:
        ConfigError: a value that makes no sense.
    """

    name: str
    architecture_name: str
    architecture_options: Mapping[str, Any]
    channels: tuple[Channel, ...]
    segments: tuple[SegmentInfo, ...]
    preprocessing: PreprocessingSpec
    patch_size: tuple[int, ...]
    version: str = "1"
    description: str = ""
    step: float = 0.5
    mirror_axes: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    ignore_label: int | None = None
    quality_modes: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    review: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    license: str = ""
    citation: str = ""
    intended_use: str = ""
    limitations: str = ""
    schema_version: int = SCHEMA_VERSION
    sha256: str | None = None
    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or any(mark in self.name for mark in '/\\:*?"<>|'):
            raise ConfigError(f'a model is named {self.name!r}; expected a text without any of / \\ : * ? " < > |')
        for key in _TEXTS:
            if not isinstance(getattr(self, key), str):
                raise ConfigError(f"{key} must be a text; got {getattr(self, key)!r}")
        if not self.segments:
            raise ConfigError("a model needs at least one label besides the background")
        check_unique_values(self.segments)
        if len(self.channels) != len(self.preprocessing.normalization):
            raise ConfigError(
                f"{len(self.channels)} channels, but {len(self.preprocessing.normalization)} normalizations; "
                "each channel needs one"
            )
        self._check_regions()
        self._check_tiling()

    @property
    def class_values(self) -> tuple[int, ...]:
        """The label value of each output of the network, in its order."""
        if self.regions:
            return tuple(region.value for region in self.regions)
        return (0, *(segment.value for segment in self.segments))

    def _check_regions(self) -> None:
        known = {segment.value for segment in self.segments}
        for region in self.regions:
            if region.value not in known:
                raise ConfigError(f"the region {region.name!r} is painted with {region.value!r}, which no label has")
        if self.ignore_label is not None and (not _is_int(self.ignore_label) or self.ignore_label in known):
            raise ConfigError(f"ignore_label {self.ignore_label!r} must be a whole number that no label has")

    def _check_tiling(self) -> None:
        sizes = self.patch_size
        if len(sizes) not in (2, 3) or not all(_is_int(size) and size > 0 for size in sizes):
            raise ConfigError(f"patch_size {sizes} must hold two or three positive whole numbers")
        if not isinstance(self.step, int | float) or not 0 < self.step <= 1:
            raise ConfigError(f"step {self.step!r} must be a fraction of the patch, above 0 and at most 1")
        axes = self.mirror_axes
        if not all(_is_int(axis) and 0 <= axis < len(sizes) for axis in axes) or len(set(axes)) != len(axes):
            raise ConfigError(f"mirror_axes {axes} must be different axes from 0 to {len(sizes) - 1}")

    def to_json(self) -> dict[str, Any]:
        """The metadata object, without `sha256`, unknown keys in their places."""
        known = {
            "schema_version": self.schema_version,
            "name": self.name,
            "architecture": {"name": self.architecture_name, "options": _plain(self.architecture_options)},
            "channels": [{"name": channel.name, "modality": channel.modality} for channel in self.channels],
            "labels": [segment.to_json() for segment in self.segments],
            "preprocessing": self.preprocessing.to_json(),
            "patch_size": list(self.patch_size),
            "step": self.step,
            "mirror_axes": list(self.mirror_axes),
            **{key: getattr(self, key) for key in _TEXTS},
            **{key: _plain(getattr(self, key)) for key in _OBJECTS},
            **({"regions": [region.to_json() for region in self.regions]} if self.regions else {}),
            **({} if self.ignore_label is None else {"ignore_label": self.ignore_label}),
        }
        return _merged(known, self.unknown)

    @classmethod
    def from_json(cls, document: Any, sha256: str | None = None) -> "Manifest":
        """Read a metadata object.

        Raises:
            BundleError: written by a newer version, or a key is missing or makes no sense.
        """
        if not isinstance(document, Mapping):
            raise BundleError(f"its description is a {type(document).__name__}, not a JSON object")
        _check_schema(document.get("schema_version"))
        try:
            manifest = cls(**_fields(document), sha256=sha256 or document.get("sha256"))
            unknown = _leftover({key: document[key] for key in document if key != "sha256"}, manifest.to_json())
        except KeyError as problem:
            raise BundleError(f"its description lacks {problem}") from problem
        except (ConfigError, AttributeError, TypeError) as problem:
            raise BundleError(f"its description makes no sense: {problem}") from problem
        object.__setattr__(manifest, "unknown", unknown)
        return manifest


def canonical_json(value: Any) -> bytes:
    """The one text of a JSON value that checksums are taken of.

    Sorted keys, no spaces (separators "," and ":"), non-ASCII characters as they are, UTF-8; floats in Python's
    shortest form.

    Raises:
        ConfigError: NaN, infinity or anything else that JSON cannot hold.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as problem:
        raise ConfigError(f"a model's description must consist of what JSON can hold: {problem}") from problem


def _check_schema(version: Any) -> None:
    if not _is_int(version) or version < 1:
        raise BundleError(f"its schema_version is {version!r}; expected a whole number from 1 to {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"it was written by a newer version (schema_version {version}; this version reads up to {SCHEMA_VERSION}). "
            "Update MambaSegment"
        )


def _fields(document: Mapping[str, Any]) -> dict[str, Any]:
    architecture = document["architecture"]
    optional = {key: document[key] for key in (*_TEXTS, "step", "ignore_label") if key in document}
    for key in _OBJECTS:
        value = document.get(key) or {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} must be a JSON object; got {value!r}")
        optional[key] = value
    return {
        "schema_version": document["schema_version"],
        "name": document["name"],
        "architecture_name": architecture["name"],
        "architecture_options": dict(architecture["options"]),
        "channels": tuple(Channel(entry["name"], entry.get("modality", "")) for entry in document["channels"]),
        "segments": tuple(SegmentInfo.from_json(entry) for entry in document["labels"]),
        "preprocessing": PreprocessingSpec.from_json(document["preprocessing"]),
        "patch_size": tuple(document["patch_size"]),
        "mirror_axes": tuple(document.get("mirror_axes", ())),
        "regions": tuple(Region.from_json(entry) for entry in document.get("regions") or ()),
        **optional,
    }


def _leftover(document: Any, known: Any) -> dict[Any, Any]:
    """The parts of `document` that `known` lacks; list positions become keys, so that `_merged` finds them again."""
    missing = {}
    for key, value in _items(document):
        try:
            counterpart = known[key]
        except (KeyError, IndexError, TypeError):
            missing[key] = value
            continue
        inner = _leftover(value, counterpart)
        if inner:
            missing[key] = inner
    return missing


def _merged(known: Any, unknown: Mapping[Any, Any]) -> Any:
    """`known` with what `_leftover` set aside; where the two disagree about the kind of a value, `known` stays."""
    for key, value in unknown.items():
        if isinstance(known, dict) and key not in known:
            known[key] = value
        elif isinstance(value, Mapping) and (isinstance(known, dict) or key < len(known)):
            known[key] = _merged(known[key], value)
    return known


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    # Lists of objects only: the items of other lists are values, not places for further keys.
    if isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value):
        return list(enumerate(value))
    return []


def _plain(value: Any) -> Any:
    """Mappings and tuples as the dicts and lists that JSON knows, copied."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
