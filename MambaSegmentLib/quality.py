"""How much work a prediction may take, by name.

best: all folds; the answers for the image and its mirror images along every choice of the model's mirror axes are
averaged, so that each axis doubles the time.
balanced: all folds; the image and the one copy that is mirrored along all those axes together: two passes, or one where
the model has no such axes.
fast: one pass of the first fold, over tiles that overlap by a quarter at most.

The other two lay tiles at the model's own step; an overlap or folds that are asked for replace those of the quality. A
scan reads an image in one order; mirrored, it reads it in another, which is why copies bring more to these networks
than to others. What each quality costs in Dice is in a model's quality_modes, where it was measured.
"""

import re
from collections.abc import Sequence
from typing import TypeVar

from .errors import ConfigError

_T = TypeVar("_T")

QUALITIES = ("best", "balanced", "fast")
PRECISIONS = ("auto", "float32", "bfloat16")  # of the network's arithmetic, see inference/arithmetic.py

_FAST_STEP = 0.75  # of the patch: two thirds of the tiles along each axis beside nnU-Net's 0.5

Mirrorings = tuple[tuple[int, ...], ...]


def check_quality(quality: str) -> str:
    """Raises: ConfigError, no quality of this name."""
    if quality not in QUALITIES:
        raise ConfigError(f"quality {quality!r} is unknown; expected {', '.join(QUALITIES[:-1])} or {QUALITIES[-1]}")
    return quality


def check_precision(precision: str) -> str:
    """Raises: ConfigError, no precision of this name."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r} is unknown; expected {', '.join(PRECISIONS[:-1])} or bfloat16")
    return precision


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


def step_for(quality: str, step: float) -> float:
    """Distance of tiles as a fraction of the patch, where the model's own is `step`."""
    return max(step, _FAST_STEP) if check_quality(quality) == "fast" else step


def folds_for(quality: str, folds: int, wanted: Sequence[int] | None = None) -> tuple[int, ...]:
    """The numbers of the folds that are averaged, of a model that has `folds`.

    Args:
        wanted: those asked for; None takes those of the quality.
    Raises:
        ConfigError: no quality of this name, or a fold that the model does not have.
    """
    check_quality(quality)
    if wanted is None:
        return (0,) if quality == "fast" else tuple(range(folds))
    missing = [fold for fold in wanted if fold not in range(folds)]
    if missing or not wanted or len(set(wanted)) != len(wanted):
        has = "fold 0 alone" if folds == 1 else f"the folds 0 to {folds - 1}"
        asked = ", ".join(map(str, wanted)) or "none"
        raise ConfigError(f"folds {asked} were asked for, and the model has {has}; name some of these, each once")
    return tuple(wanted)


def check_members(
    quality: str, wanted: Sequence[int] | None, folds: int, mirror_axes: Sequence[int], *, several: bool
) -> None:
    """Refuse folds that a model does not have and, where `several` answers must be compared, a single one.

    Raises:
        ConfigError.
    """
    members = len(folds_for(quality, folds, wanted)) * len(mirrorings_for(quality, mirror_axes))
    if several and members < 2:
        raise ConfigError(
            f"disagreement needs several answers, and at quality {quality!r} the model gives one; choose a higher "
            "quality or more folds if the model has them, or --uncertainty, which one answer will do for"
        )


def one_for_each(name: str, given: Sequence[_T], count: int) -> list[_T]:
    """A value for each of several models, from one for all of them or one for each.

    Raises:
        ConfigError: another number of values.
    """
    if len(given) == 1:
        return list(given) * count
    if len(given) != count:
        raise ConfigError(f"{len(given)} values of {name} for {count} model(s); give one for all, or one for each")
    return list(given)


def folds_from_text(text: str | None) -> tuple[int, ...] | None:
    """ "0,2" as numbers; None, which takes those of the quality, for None.

    Raises:
        ConfigError: no list of numbers.
    """
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,3}(,\d{1,3})*", text.replace(" ", "")):
        raise ConfigError(f"folds {text!r} cannot be understood; expected numbers such as 0 or 0,2")
    return tuple(int(part) for part in text.split(","))
