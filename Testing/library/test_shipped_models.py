"""The models that come with the extension, on the real images that chose their weights."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MambaSegmentLib.api import Model, load_model
from MambaSegmentLib.volume import Volume

OBLIQUE = (0.0, 0.0, 1.0, 0.8, 0.6, 0.0, -0.6, 0.8, 0.0)  # columns: I, J and K in LPS; slices lie along the left


@pytest.fixture(scope="module")
def cardiac() -> Model:
    return load_model("cardiac-lv", device="cpu")


def pictures(shared: Path, *patients: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Slices of these patients and their masks, each (J, I)."""
    images = sorted(path for name in patients for path in (shared / "data/cardiac_cine_2d/images").glob(f"{name}-IM*"))
    masks = [path.parent.parent / "labels" / path.name for path in images]
    return [(grey(image), grey(mask) > 0) for image, mask in zip(images, masks, strict=True)]


def grey(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[..., 0]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_the_left_ventricle_of_patients_it_did_not_learn_from(cardiac, shared):
    """The two validation patients of fold 1; the card tells the same mean."""
    found = [
        dice(cardiac.segment(Volume(image[None])).labels.array[0] == 1, mask)
        for image, mask in pictures(shared, "SC-HF-I-01", "SC-HYP-01")
    ]
    assert len(found) == 30
    told = cardiac.manifest.training["metrics"]["dice"]["mean"]
    assert np.mean(found) == pytest.approx(told, abs=0.02)  # resampled to 128 x 128 there, in its own pixels here


def test_slices_are_taken_as_they_were_scanned(cardiac, shared):
    """A stack of short axes lies at any angle: turned to the body's axes it would be cut across its slices.

    Intensities are normalised over the stack, so that labels of a slice alone differ by a few voxels of the edge.
    """
    slices = np.stack([image for image, _ in pictures(shared, "SC-HYP-01")[:3]])
    stack = Volume(slices, spacing_mm=(1.4, 1.4, 8.0), direction=OBLIQUE)
    labels = cardiac.segment(stack).labels
    assert labels.direction == OBLIQUE
    for slice_, of_slice in zip(slices, labels.array, strict=True):
        alone = cardiac.segment(Volume(slice_[None])).labels.array[0]
        assert dice(of_slice == 1, alone == 1) > 0.95
