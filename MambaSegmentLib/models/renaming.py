"""From the authors' parameter names to ours."""

import re
from collections.abc import Callable

# (pattern, replacement or function of the match), applied one after the other
Renaming = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


def renamed(name: str, renaming: Renaming) -> str:
    """`name` after every substitution that applies."""
    for pattern, replacement in renaming:
        name = re.sub(pattern, replacement, name)
    return name
