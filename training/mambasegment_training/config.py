"""The settings of a run from a TOML file, `--set key=value` and JSON; `settings.py` has them and their defaults.

Unknown names are refused, with the nearest known one.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from MambaSegmentLib.errors import ConfigError

from .settings import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    PretrainedConfig,
    ScheduleConfig,
    TrainingConfig,
    ValidationConfig,
    WatchConfig,
    require,
)

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "PretrainedConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "ValidationConfig",
    "WatchConfig",
    "config_from_json",
    "load_config",
    "read_toml",
]


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
        raise ConfigError(_unknown(prefix + unknown[0], [prefix + name for name in entries]))
    values = {name: _convert(hints[name], value, prefix + name) for name, value in content.items()}
    return kind(**values)


def _unknown(name: str, beside: Sequence[str]) -> str:
    """The message about a setting that does not exist: its nearest name anywhere, and those of its section."""
    everywhere = {path.rpartition(".")[2]: path for path in reversed(_paths(TrainingConfig, ""))}
    near = difflib.get_close_matches(name, beside, n=1) or [
        everywhere[last] for last in difflib.get_close_matches(name.rpartition(".")[2], list(everywhere), n=1)
    ]
    meant = f" did you mean {near[0]}?" if near else ""
    return f"unknown setting {name};{meant} known: {', '.join(beside)}"


def _paths(kind: type, prefix: str) -> list[str]:
    """Dotted names of all settings."""
    hints, found = typing.get_type_hints(kind), []
    for entry in dataclasses.fields(kind):
        hint = hints[entry.name]
        nested = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        found += _paths(hint, f"{prefix}{entry.name}.") if nested else [prefix + entry.name]
    return found


def _convert(hint: Any, value: Any, name: str) -> Any:
    """Check a plain value against a field's type, and turn lists into tuples and integers into floats."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        require(isinstance(value, Mapping), name, value, "a section")
        return _build(hint, value, f"{name}.")
    if origin is Literal:
        require(value in arguments, name, value, "one of " + ", ".join(map(str, arguments)))
        return value
    if origin in (typing.Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not type(None)]
        # TOML has no word for nothing
        if len(kinds) < len(arguments) and (value is None or (value == "none" and str not in kinds)):
            return None
        words = [word for kind in kinds if typing.get_origin(kind) is Literal for word in typing.get_args(kind)]
        if value in words:
            return value
        kind = next(kind for kind in kinds if typing.get_origin(kind) is not Literal)
        return _convert(kind, value, name)
    if origin is tuple:
        require(isinstance(value, Sequence) and not isinstance(value, str), name, value, "a list")
        require(arguments[-1] is Ellipsis or len(arguments) == len(value), name, value, f"{len(arguments)} values")
        return tuple(_convert(arguments[0], item, name) for item in value)
    if origin is dict:
        require(isinstance(value, Mapping), name, value, "a section")
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    require(type(value) is hint, name, value, f"of type {getattr(hint, '__name__', hint)}")
    return value
