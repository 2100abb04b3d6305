"""Arrays and JSON on disk: no pickle, and each file whole or absent."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.files import atomic_path


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented UTF-8 JSON; NaN is refused, since it is no JSON."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_path(path, ConfigError) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, advice: str) -> Any:
    """Read a JSON file.

    Args:
        advice: what the user can do when the file is missing or damaged; ends the error's text.
    Raises:
        ConfigError: the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; {advice}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}; {advice}") from error


def write_array(path: Path, array: np.ndarray) -> None:
    """Write `array` as .npy."""
    with atomic_path(path, ConfigError) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def read_array(path: Path, *, in_memory: bool) -> np.ndarray:
    """Read a .npy file, into memory or mapped read-only.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    try:
        return np.load(path, mmap_mode=None if in_memory else "r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"cannot read {path}: {error}; run `mambatrain prepare` again") from error
