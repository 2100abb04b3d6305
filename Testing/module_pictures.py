"""`python -m Testing.module_pictures` draws docs/pictures/panel/*.png anew.

The tests of the panel's looks take the pictures, of a phantom only; this puts those that the documentation shows beside
each other where that helps, and makes them small.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "docs" / "pictures" / "panel"
TESTS = ["Testing/module/test_panel_pictures.py", "Testing/module/test_review_pictures.py"]
LARGEST_BYTES = 150_000
COLORS = 256  # of a palette
GAP_PX = 8
# What is shown: pictures of the tests, from left to right; those of an inner tuple above each other.
PICTURES: dict[str, tuple[str | tuple[str, ...], ...]] = {
    "first_use": ("panel-first-use-usual",),
    "ready": ("panel-ready-usual",),
    "running": ("panel-running-usual",),
    "done": ("panel-done-usual", ("view-slice", "view-3d")),
    "error": ("panel-error-usual",),
    "review": ("review-flagged-light", "review-slice-compared"),
    "batch": ("panel-batch-running-usual", "panel-batch-done-usual"),
    "narrow_and_dark": ("panel-done-light", "panel-done-dark"),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MAMBASEGMENT_PICTURES": folder}
        subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], check=True, cwd=REPOSITORY, env=environment)
        FOLDER.mkdir(parents=True, exist_ok=True)
        for name, parts in PICTURES.items():
            columns = [_stacked(Path(folder), part) for part in parts]
            _save(_beside(columns), FOLDER / f"{name}.png")


def _stacked(folder: Path, part: str | tuple[str, ...]) -> Image.Image:
    names = (part,) if isinstance(part, str) else part
    pictures = [Image.open(folder / f"{name}.png").convert("RGB") for name in names]
    tops = [sum(one.height + GAP_PX for one in pictures[:number]) for number in range(len(pictures))]
    return _together(pictures, [(0, top) for top in tops])


def _beside(columns: list[Image.Image]) -> Image.Image:
    lefts = [sum(one.width + GAP_PX for one in columns[:number]) for number in range(len(columns))]
    return _together(columns, [(left, 0) for left in lefts])


def _together(pictures: list[Image.Image], places: list[tuple[int, int]]) -> Image.Image:
    ends = [(left + one.width, top + one.height) for one, (left, top) in zip(pictures, places, strict=True)]
    whole = Image.new("RGB", (max(right for right, _ in ends), max(bottom for _, bottom in ends)), "white")
    for one, place in zip(pictures, places, strict=True):
        whole.paste(one, place)
    return whole


def _save(picture: Image.Image, path: Path) -> None:
    """Raises: ValueError, when it stays larger than a page should load."""
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; at most {LARGEST_BYTES} are meant")
    print(path.relative_to(REPOSITORY), path.stat().st_size)


if __name__ == "__main__":
    main()
