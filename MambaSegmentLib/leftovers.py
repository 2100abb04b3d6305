"""What a killed process leaves beside the file that it was writing."""

import glob
import shutil
from pathlib import Path


def remove_leftovers(target: Path) -> None:
    """Delete the temporary folders of `files.atomic_path` for this target; nobody may be writing it meanwhile."""
    for folder in target.parent.glob(f".{glob.escape(target.name)}.partial-*"):
        shutil.rmtree(folder, ignore_errors=True)
