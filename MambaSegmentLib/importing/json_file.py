"""JSON files of other programs: small, and of the expected kind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BundleError

_LARGEST_BYTES = 1 << 26


def read_json_object(path: Path) -> dict[str, Any]:
    """Raises: BundleError, for a missing file, an absurdly large one, or no JSON object."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise BundleError(f"{path} has more than {_LARGEST_BYTES} bytes, which no such file needs")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise BundleError(f"{path} is missing; a results folder of nnU-Net has one, copy it too") from problem
    except OSError as problem:
        raise BundleError(f"{path} cannot be read: {problem.strerror or problem}") from problem
    except (ValueError, RecursionError) as problem:
        raise BundleError(f"{path} is no JSON ({problem}); fetch it again") from problem
    if not isinstance(content, dict):
        raise BundleError(f"{path} holds a {type(content).__name__}; expected a JSON object")
    return content


def entry(content: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`content[key]`.

    Raises:
        BundleError: missing, or of another kind.
    """
    if key not in content:
        raise BundleError(f"{where} lacks {key!r}")
    value = content[key]
    if not isinstance(value, kind):
        raise BundleError(f"{where}: {key} is {value!r:.200}, which is not of the expected kind")
    return value
