"""Real volumes of every awkward geometry, from file to labels: an imported model against nnU-Net's own reader,
preprocessor and predictor with the same weights."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import MambaSegmentLib as ms
from MambaSegmentLib.bundle import read_manifest
from MambaSegmentLib.cli import main
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.preprocess import preprocess
from Testing.library.importing.test_stock_nnunet import (
    REGIONS,
    SIZES,
    Stock,
    newer_configuration,
    predicted_by_nnunet,
    use_single_precision,
    written,
)

pytest.importorskip("nnunetv2", reason="needs nnU-Net, which only the tests compare with")
pytest.importorskip("dynamic_network_architectures", reason="needs the package that builds nnU-Net's networks")

STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
NETWORK = {"spatial_dims": 3, "strides": STRIDES, **SIZES, "encoder_blocks": [2, 1, 1]}
TORCH = {
    f"resampling_fn_{what}{suffix}": value
    for what in ("data", "seg", "probabilities")
    for suffix, value in (("", "resample_torch_fornnunet"), ("_kwargs", {"is_seg": what == "seg"}))
}
CT = {
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 90.0, "std": 130.0, "percentile_00_5": -150.0, "percentile_99_5": 400.0}
    }
}


@dataclass(frozen=True)
class Real:
    """A file, and what a plan does to it."""

    file: str
    spacing_mm: list[float]
    patch: list[int]
    changes: dict[str, Any]
    stock: dict[str, Any]


VOLUMES = {
    "CT torso, both axes turned": Real(
        "ct_torso/ct_full.nii.gz", [7.0, 6.0, 6.5], [32, 48, 48],
        {"normalization_schemes": ["CTNormalization"]}, {"plans": CT},
    ),
    "CT torso by torch, regions": Real(
        "ct_torso/ct_slab.nii.gz", [4.0, 5.0, 5.5], [16, 48, 48],
        {"normalization_schemes": ["CTNormalization"], **TORCH}, {"plans": CT, "dataset": REGIONS},
    ),
    "MR oblique, thick slices by torch, two folds": Real(
        "mr_flair_oblique/flair_oblique_anisotropic.nii.gz", [4.5, 3.0, 3.0], [24, 64, 64], TORCH, {"folds": (0, 1)},
    ),
    "MR oblique, thick slices, mirrored": Real(
        "spinalcord_mr/t2star_oblique_anisotropic.nii.gz", [7.5, 1.9, 2.1], [8, 64, 64], {}, {"mirror_axes": (1,)},
    ),
    "MR with permuted axes, transposed": Real(
        "spinalcord_mr/t2_sagittal_permuted_axes.nii.gz", [1.3, 1.6, 1.4], [32, 32, 32],
        {"normalization_schemes": ["RescaleTo01Normalization"]},
        {"plans": {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}},
    ),
    "tumour MR, 6.5 mm slices, ignore label": Real(
        "mr_brain_tumor/image.nrrd", [5.0, 2.6, 2.6], [24, 64, 64], {},
        {"dataset": {"labels": {"background": 0, "one": 1, "two": 2, "ignore": 3}}},
    ),
    "masked brain MR": Real(
        "mr_brain_oblique_multichannel/T1.nii.gz", [4.0, 3.0, 3.2], [24, 48, 48], {"use_mask_for_norm": [True]}, {},
    ),
}  # fmt: skip


def read_by_nnunet(file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    return SimpleITKIO().read_images([str(file)])


def prepared_by_nnunet(folder: Path, array: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    plans = PlansManager(str(folder / "plans.json"))
    configuration = plans.get_configuration(folder.name.split("__")[-1])
    return DefaultPreprocessor(verbose=False).run_case_npy(
        array.copy(), None, dict(properties), plans, configuration, {}
    )[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", VOLUMES)
def test_prepared_and_labelled_as_by_nnunet(name, shared, tmp_path, monkeypatch):
    real = VOLUMES[name]
    file = shared / "data" / real.file
    configuration = newer_configuration("PlainConvUNet", "n_conv_per_stage", [2, 1, 1], spacing=real.spacing_mm)
    configuration |= {"patch_size": real.patch, **real.changes}
    array, properties = read_by_nnunet(file)
    stock = Stock("plain_conv_unet", configuration, NETWORK, spacing_mm=tuple(properties["spacing"]), **real.stock)
    folder, output = written(tmp_path, stock), tmp_path / "m.safetensors"
    assert main(["models", "import", str(folder), "-o", str(output), "--quiet"]) == 0

    ours = preprocess([read_volume(file)], read_manifest(output).preprocessing).array
    np.testing.assert_allclose(ours, prepared_by_nnunet(folder, array, properties), atol=1e-4)
    result = ms.segment(file, model=output, device="cpu")
    with monkeypatch.context() as changed:
        use_single_precision(changed)
        expected = predicted_by_nnunet(folder, stock, array[0])
    assert len(np.unique(expected)) > 2
    assert result.labels.same_grid(read_volume(file))
    assert np.mean(result.labels.array == expected) >= 0.9999
