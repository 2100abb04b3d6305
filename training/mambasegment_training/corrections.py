"""Voxels that a reviewer corrected weigh more: a part of the patches that hold a label are centred on them.

A data set made by `mambatrain collect` has a folder correctionsTr/ with a mask for each case that was corrected. In the
prepared foreground these voxels are a label of their own beside the others, of which a patch's centre is drawn evenly:
with two labels, a third of such patches show what the model did wrong, none of it at the price of another loss.
"""

from pathlib import Path

import numpy as np

from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.label_maps import preprocess_labels
from MambaSegmentLib.preprocess import Prepared
from MambaSegmentLib.volume import Volume

from .case_files import RawCase

FOLDER = "correctionsTr"
CORRECTED = -1  # in the place of a label's value


def corrections_file(case: RawCase) -> Path | None:
    """The mask of a case; None where nothing was corrected, or nobody noted it."""
    path = case.labels.parent.parent / FOLDER / f"{case.identifier}.nii.gz"
    return path if path.is_file() else None


def corrected_voxels(case: RawCase, image: Volume, prepared: Prepared, most: int, seed: int) -> np.ndarray:
    """Where a prepared case was corrected.

    Args:
        image: of the first channel, as stored.
        most: voxels that are kept, drawn without repetition.
    Returns:
        int32, shape (M, 4): CORRECTED, k, j, i.
    """
    path = corrections_file(case)
    if path is None:
        return np.empty((0, 4), np.int32)
    mask = preprocess_labels(image.with_array((read_volume(path).array > 0).astype(np.uint8)), prepared)
    places = np.argwhere(mask > 0)
    if len(places) > most:
        kept = np.random.default_rng((seed, most)).choice(len(places), most, replace=False)
        places = places[np.sort(kept)]
    return np.column_stack([np.full(len(places), CORRECTED), places]).astype(np.int32)
