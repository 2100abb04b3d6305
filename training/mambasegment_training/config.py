"""Every choice of a training run and every default, once; a TOML file or `--set` holds only the differences."""

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from MambaSegmentLib.errors import ConfigError


@dataclass(frozen=True)
class NetworkConfig:
    """An architecture by the name and options of `MambaSegmentLib.models.build_model`.

    in_channels and num_classes come from the prepared data and need not be given.
    """

    name: str = "lightm_unet"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PretrainedConfig:
    """ImageNet weights to start from: the VMamba-Tiny file, for the networks built from its blocks."""

    file: str | None = None  # .pth or .safetensors
    encoder_only: bool = False  # leave Mamba-UNet's decoder as it starts, which its authors initialise from it as well
    freeze_epochs: int | None = None  # hold the encoder still for so long; None: as published, 10 in the Swin-UMambas

    def __post_init__(self) -> None:
        epochs_fit = self.freeze_epochs is None or self.freeze_epochs >= 0
        _require(epochs_fit, "pretrained.freeze_epochs", self.freeze_epochs, "0 or more, or none")


@dataclass(frozen=True)
class DataConfig:
    """What one training step sees."""

    # voxels (K, J, I), or (J, I) for a network of two dimensions, which sees slices across K; None: as planned
    patch_size: tuple[int, ...] | None = None
    batch_size: int = 2
    foreground_fraction: float = 0.5  # of the patches hold a voxel of a label drawn evenly from those present
    # where a case lies along an axis on which it is smaller than the patch; prediction centres it, but a network that
    # only ever sees it there learns places by heart
    small_cases: Literal["centred", "anywhere"] = "centred"
    memory_limit_gib: float = 8.0  # prepared data up to this size is kept in memory, larger data is mapped

    def __post_init__(self) -> None:
        if self.patch_size is not None:
            _require(
                len(self.patch_size) in (2, 3) and min(self.patch_size) > 0,
                "data.patch_size",
                self.patch_size,
                "three positive sizes (K, J, I), or two (J, I) of a slice",
            )
        _require(self.batch_size > 0, "data.batch_size", self.batch_size, "at least 1")
        _require(0 <= self.foreground_fraction <= 1, "data.foreground_fraction", self.foreground_fraction, "0 to 1")
        _require(self.memory_limit_gib >= 0, "data.memory_limit_gib", self.memory_limit_gib, "0 or more")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training sample; the defaults are those of nnU-Net, with rotations of at most 30 degrees."""

    enabled: bool = True
    # axes of the patch along which the anatomy may be mirrored: K=0, J=1, I=2; of a slice J=0, I=1
    mirror_axes: tuple[int, ...] = ()
    rotation_probability: float = 0.2
    rotation_degrees: float = 30.0
    scaling_probability: float = 0.2
    scaling: tuple[float, float] = (0.7, 1.4)
    elastic_probability: float = 0.0
    elastic_scale: tuple[float, float] = (0.1, 0.25)  # smoothness of the field, fraction of the patch edge
    elastic_magnitude_voxels: tuple[float, float] = (1.0, 3.0)
    noise_probability: float = 0.1
    noise_variance: tuple[float, float] = (0.0, 0.1)
    blur_probability: float = 0.2
    blur_sigma_voxels: tuple[float, float] = (0.5, 1.0)
    brightness_probability: float = 0.15
    brightness: tuple[float, float] = (0.75, 1.25)
    contrast_probability: float = 0.15
    contrast: tuple[float, float] = (0.75, 1.25)
    low_resolution_probability: float = 0.25
    low_resolution: tuple[float, float] = (0.5, 1.0)
    gamma_probability: float = 0.3
    inverted_gamma_probability: float = 0.1
    gamma: tuple[float, float] = (0.7, 1.5)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if entry.name.endswith("_probability"):
                _require(0 <= value <= 1, f"augment.{entry.name}", value, "0 to 1")
            elif isinstance(value, tuple) and entry.name != "mirror_axes":
                _require(len(value) == 2 and 0 <= value[0] <= value[1], f"augment.{entry.name}", value, "[low, high]")
        axes_fit = set(self.mirror_axes) <= {0, 1, 2} and len(set(self.mirror_axes)) == len(self.mirror_axes)
        _require(axes_fit, "augment.mirror_axes", self.mirror_axes, "different axes of 0, 1, 2")
        _require(0 <= self.rotation_degrees <= 180, "augment.rotation_degrees", self.rotation_degrees, "0 to 180")
        _require(self.scaling[0] > 0, "augment.scaling", self.scaling, "factors above 0")


@dataclass(frozen=True)
class LossConfig:
    """A loss by the name and options of `mambasegment_training.losses.build_loss`."""

    name: str = "dice_ce"
    regions_per_axis: tuple[int, ...] | None = None
    batch_dice: bool = False
    deep_supervision_weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, or SGD with Nesterov momentum."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    momentum: float = 0.99  # SGD only
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW only
    gradient_clip: float | None = 12.0  # largest norm of all gradients together; None: no clipping

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "above 0")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        _require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "0 to below 1")
        _require(all(0 <= beta < 1 for beta in self.betas), "optimizer.betas", self.betas, "0 to below 1")
        clip_fits = self.gradient_clip is None or self.gradient_clip > 0
        _require(clip_fits, "optimizer.gradient_clip", self.gradient_clip, "above 0, or none")


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate falls from its peak to `final_fraction` of it."""

    name: Literal["poly", "cosine", "constant"] = "poly"
    power: float = 0.9  # poly only
    warmup_steps: int = 0
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        _require(self.power > 0, "schedule.power", self.power, "above 0")
        _require(self.warmup_steps >= 0, "schedule.warmup_steps", self.warmup_steps, "0 or more")
        _require(0 <= self.final_fraction <= 1, "schedule.final_fraction", self.final_fraction, "0 to 1")


@dataclass(frozen=True)
class ValidationConfig:
    """When whole validation volumes are segmented, and how."""

    every_epochs: int = 5
    tile_step: float = 0.5  # of the patch edge, for volumes larger than the patch

    def __post_init__(self) -> None:
        _require(self.every_epochs > 0, "validation.every_epochs", self.every_epochs, "at least 1")
        _require(0 < self.tile_step <= 1, "validation.tile_step", self.tile_step, "above 0 to 1")


@dataclass(frozen=True)
class TrainingConfig:
    """One experiment.

    `card` is what the exported model tells about itself; `card.py` documents and checks its keys.
    """

    seed: int = 20240917
    epochs: int = 200
    steps_per_epoch: int = 100
    ema_decay: float | None = None  # average of the weights over about 1 / (1 - decay) steps; None: no average
    precision: Literal["float32", "bfloat16"] = "float32"
    activation_checkpointing: bool = False  # a fraction of the memory for another forward pass; same results to the bit
    deterministic: bool = True
    cpu_threads: int | None = None  # of PyTorch; part of the recipe, since sums depend on it; None: PyTorch's choice
    network: NetworkConfig = field(default_factory=NetworkConfig)
    pretrained: PretrainedConfig = field(default_factory=PretrainedConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    card: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        _require(self.epochs > 0, "epochs", self.epochs, "at least 1")
        _require(self.steps_per_epoch > 0, "steps_per_epoch", self.steps_per_epoch, "at least 1")
        threads_fit = self.cpu_threads is None or self.cpu_threads > 0
        _require(threads_fit, "cpu_threads", self.cpu_threads, "at least 1, or none")
        decay_fits = self.ema_decay is None or 0 < self.ema_decay < 1
        _require(decay_fits, "ema_decay", self.ema_decay, "between 0 and 1, or none")

    def to_json(self) -> dict[str, Any]:
        """All choices as plain JSON values; `config_from_json` reads them back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # tuples become lists


def load_config(path: Path | None, assignments: Sequence[str] = ()) -> TrainingConfig:
    """The defaults, changed by a TOML file, changed by `key=value` texts such as "optimizer.learning_rate=3e-4".

    Raises:
        ConfigError: unreadable file, unknown key, or a value of the wrong type or range.
    """
    content = {} if path is None else read_toml(path)
    for assignment in assignments:
        _assign(content, assignment)
    return config_from_json(content)


def read_toml(path: Path) -> dict[str, Any]:
    """Raises: ConfigError, when the file cannot be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error


def config_from_json(content: Mapping[str, Any]) -> TrainingConfig:
    """Build the configuration from nested plain values; what is absent keeps its default."""
    return _build(TrainingConfig, content, "")


def _assign(content: dict[str, Any], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {assignment!r}: expected key=value, such as optimizer.learning_rate=3e-4")
    *sections, name = key.strip().split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ConfigError(f"--set {assignment!r}: {section!r} is a value, not a section")
    content[name] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    if text.lower() == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word: quotes around a name are a nuisance in a shell


def _build(kind: type, content: Mapping[str, Any], prefix: str) -> Any:
    entries = {entry.name: entry for entry in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(content) - set(entries))
    if unknown:
        raise ConfigError(
            f"unknown setting {prefix}{unknown[0]}; known: {', '.join(prefix + name for name in entries)}"
        )
    values = {name: _convert(hints[name], value, prefix + name) for name, value in content.items()}
    return kind(**values)


def _convert(hint: Any, value: Any, name: str) -> Any:
    """Check a plain value against a field's type, and turn lists into tuples and integers into floats."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        _require(isinstance(value, Mapping), name, value, "a section")
        return _build(hint, value, f"{name}.")
    if origin is Literal:
        _require(value in arguments, name, value, "one of " + ", ".join(map(str, arguments)))
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (kind,) = (argument for argument in arguments if argument is not type(None))
        return _convert(kind, value, name)
    if origin is tuple:
        _require(isinstance(value, Sequence) and not isinstance(value, str), name, value, "a list")
        _require(arguments[-1] is Ellipsis or len(arguments) == len(value), name, value, f"{len(arguments)} values")
        return tuple(_convert(arguments[0], item, name) for item in value)
    if origin is dict:
        _require(isinstance(value, Mapping), name, value, "a section")
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _require(type(value) is hint, name, value, f"of type {getattr(hint, '__name__', hint)}")
    return value


def _require(condition: bool, name: str, value: Any, expected: str) -> None:
    if not condition:
        raise ConfigError(f"setting {name} is {value!r}; expected {expected}")
