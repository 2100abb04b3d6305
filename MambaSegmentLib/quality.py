"""How much work a prediction may take, by name.

best: the answers for the image and its mirror images along the model's mirror axes are averaged. A scan reads an image
in one order; mirrored, it reads it in another. Each axis doubles the time. A model's
quality_modes say what it brings.
fast: one pass.
"""

from collections.abc import Sequence

from .errors import ConfigError

QUALITIES = ("best", "fast")


def mirror_axes_for(quality: str, mirror_axes: Sequence[int]) -> tuple[int, ...]:
    """Those of a model's mirror axes that are used.

    Raises:
        ConfigError: no quality of this name.
    """
    if quality not in QUALITIES:
        raise ConfigError(f"quality {quality!r} is unknown; expected {' or '.join(QUALITIES)}")
    return tuple(mirror_axes) if quality == "best" else ()
