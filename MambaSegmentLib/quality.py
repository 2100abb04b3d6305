"""How much work a prediction may take, by name.

best: all folds; the answers for the image and its mirror images along every choice of the model's mirror axes are
averaged, so that each axis doubles the time.
balanced: all folds; the image and the one copy that is mirrored along all those axes together: two passes, or one where
the model has no such axes.
fast: one pass of the first fold.

All three lay tiles at the model's own step, so that what a model's quality_modes say about them stays true; an overlap
is an option of its own. A scan reads an image in one order; mirrored, it reads it in another, which is why copies bring
more to these networks than to others. What each quality costs in Dice is in a model's quality_modes, where it was
measured.
"""

from collections.abc import Sequence

from .errors import ConfigError

QUALITIES = ("best", "balanced", "fast")

Mirrorings = tuple[tuple[int, ...], ...]


def check_quality(quality: str) -> str:
    """Raises: ConfigError, no quality of this name."""
    if quality not in QUALITIES:
        raise ConfigError(f"quality {quality!r} is unknown; expected {', '.join(QUALITIES[:-1])} or {QUALITIES[-1]}")
    return quality


def mirrorings_for(quality: str, mirror_axes: Sequence[int]) -> Mirrorings:
    """The axes of each mirrored copy whose answers are averaged; () is the image itself.

    Raises:
        ConfigError: no quality of this name.
    """
    if check_quality(quality) == "best":
        return all_mirrorings(mirror_axes)
    return ((), tuple(mirror_axes)) if quality == "balanced" and mirror_axes else ((),)


def all_mirrorings(axes: Sequence[int]) -> Mirrorings:
    """All choices of axes, none included: (0, 1) -> ((), (0,), (1,), (0, 1))."""
    choices: list[tuple[int, ...]] = [()]
    for axis in axes:
        choices += [(*choice, axis) for choice in choices]
    return tuple(choices)


def folds_for(quality: str, folds: int) -> int:
    """How many of a model's folds are averaged. Raises: ConfigError, no quality of this name."""
    return 1 if check_quality(quality) == "fast" else folds
