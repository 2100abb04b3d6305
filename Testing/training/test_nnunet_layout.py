"""A run as a folder of nnU-Net's: its own predictor and our importer read the same model from it."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mambasegment_training.checkpoint import save_weights
from mambasegment_training.cli import main as mambatrain
from mambasegment_training.config import config_from_json
from mambasegment_training.export import export
from mambasegment_training.fingerprint import Wishes
from mambasegment_training.network import build_network
from mambasegment_training.nnunet_layout import export_nnunet, notes_of
from mambasegment_training.prepare import open_work, prepare
from mambasegment_training.run_folder import BEST, start_run
from mambasegment_training.trained_fold import read_folds

from MambaSegmentLib.bundle import read_bundle, read_manifest
from MambaSegmentLib.cli import main
from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.volume import Volume

from .conftest import TINY, labelled_case, write_case

UNET = {"features_per_stage": [4, 8], "kernel_sizes": 3, "strides": [1, 2]}
NETWORKS = {
    "lightm_unet": TINY["network"]["options"],
    "umamba_bot": UNET,
    "plain_conv_unet": UNET | {"encoder_blocks": [1, 1], "decoder_blocks": [1]},
    "residual_encoder_unet": UNET
    | {"encoder_blocks": [1, 2], "decoder_blocks": [1], "strides": [[1, 1, 1], [1, 2, 2]]},
    "swin_umamba_d": {"dims": [8, 16], "encoder_depths": [1, 1], "decoder_depths": [1]},
}


def a_run(folder: Path, work: Path, name: str, seed: int = 1) -> Path:
    """A run folder whose weights are those before the first step, which is all that a layout needs."""
    flat = {"patch_size": [16, 16]} if name == "swin_umamba_d" else {}
    config = config_from_json(
        TINY
        | {"network": {"name": name, "options": NETWORKS[name]}, "data": {"batch_size": 1, **flat}, "seed": seed}
        | {"augment": {"mirror_axes": [1]}}
    )
    folder.mkdir(parents=True)
    start_run(folder, work, config)
    network = build_network(open_work(work), config)
    save_weights(folder / BEST, network.state_dict(), {"epoch": 1, "step": 1, "mean_dice": 0.5, "scores": {}})
    return folder


def labels_of_nnunet(folder: Path, image: np.ndarray, spacing_kji: list[float]) -> np.ndarray:
    """By its own predictor; image (C, K, J, I)."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as changed:
        warnings.simplefilter("ignore")
        changed.setattr(torch, "half", torch.float32)  # it adds tiles up in half precision
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), None)
        return predictor.predict_single_npy_array(image, {"spacing": spacing_kji})


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_nnunets_predictor_gives_the_labels_that_the_bundle_gives(prepared, tmp_path, name):
    pytest.importorskip("nnunetv2")
    run = a_run(tmp_path / "run", prepared.folder, name)
    export(run, tmp_path / "m.safetensors", device="cpu", with_cost=False)
    export_nnunet(run, tmp_path / "model", device="cpu", with_cost=False)
    image, _ = labelled_case(71, (20, 22, 18))  # larger than a patch, so that tiles are blended
    volume = Volume(image, spacing_mm=(1.0, 1.2, 0.9))
    ours = Predictor(read_bundle(tmp_path / "m.safetensors"), "cpu").segment([volume]).labels.array
    theirs = labels_of_nnunet(tmp_path / "model", image[None], [0.9, 1.2, 1.0])
    assert len(np.unique(ours)) > 1
    assert np.mean(ours == theirs) >= 0.9995


@pytest.mark.parametrize("name", ["lightm_unet", "plain_conv_unet"])
def test_our_importer_reads_it_back(prepared, tmp_path, name):
    run = a_run(tmp_path / "run", prepared.folder, name)
    exported = export(run, tmp_path / "m.safetensors", device="cpu", with_cost=False)
    export_nnunet(run, tmp_path / "model", device="cpu", with_cost=False)
    assert main(["models", "import", str(tmp_path / "model"), "-o", str(tmp_path / "i.safetensors"), "--quiet"]) == 0
    imported = read_manifest(tmp_path / "i.safetensors")
    assert (imported.patch_size, imported.mirror_axes) == (exported.patch_size, exported.mirror_axes)
    assert [one.value for one in imported.segments] == [one.value for one in exported.segments]
    (first,), (second,) = (read_bundle(tmp_path / name).folds for name in ("m.safetensors", "i.safetensors"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    spec, back = exported.preprocessing, imported.preprocessing
    assert (spec.normalization, spec.spacing_mm) == (back.normalization, back.spacing_mm)
    assert (spec.resampling_order, spec.coarse_axis_order) == (back.resampling_order, back.coarse_axis_order)


def test_several_folds_with_an_ignore_label_through_the_command(tmp_path, capsys):
    raw = tmp_path / "raw"
    for number in range(4):
        image, labels = labelled_case(number)
        labels[0] = 3
        for kind, array, name in (("imagesTr", image, f"c{number}_0000"), ("labelsTr", labels, f"c{number}")):
            (raw / kind).mkdir(parents=True, exist_ok=True)
            write_volume(Volume(array), raw / kind / f"{name}.nii.gz")
    declared = {"background": 0, "grey": 1, "white": 2, "ignore": 3}
    (raw / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1"}, "labels": declared}))
    for number in (0, 1):
        work = tmp_path / f"work_{number}"
        prepare(raw, work, validation_cases=[f"c{number}"])
        a_run(tmp_path / "runs" / f"fold_{number}", work, "lightm_unet", seed=number)
    arguments = ["--layout", "nnunet", "--device", "cpu", "--no-cost"]
    assert mambatrain(["export", str(tmp_path / "runs"), "-o", str(tmp_path / "model"), *arguments]) == 0
    assert "on 2 validation cases" in capsys.readouterr().out
    dataset = json.loads((tmp_path / "model" / "dataset.json").read_text())
    assert (dataset["labels"], dataset["channel_names"]) == (declared, {"0": "T1"})
    assert len(list((tmp_path / "model").glob("fold_*/checkpoint_final.pth"))) == 2
    mambatrain(["export", str(tmp_path / "runs"), "-o", str(tmp_path / "m.safetensors"), *arguments[2:]])
    image, _ = labelled_case(9)
    ours = Predictor(read_bundle(tmp_path / "m.safetensors"), "cpu").segment([Volume(image)]).labels.array
    pytest.importorskip("nnunetv2")
    assert np.mean(ours == labels_of_nnunet(tmp_path / "model", image[None], [1.0, 1.0, 1.0])) >= 0.9995


def test_overlapping_regions(tmp_path):
    """The outputs are the whole and the core in it, one bit each; nnU-Net paints them as we do."""
    raw = tmp_path / "raw"
    for number in range(3):
        image, labels = labelled_case(number)
        for kind, array, name in (("imagesTr", image, f"c{number}_0000"), ("labelsTr", labels, f"c{number}")):
            (raw / kind).mkdir(parents=True, exist_ok=True)
            write_volume(Volume(array), raw / kind / f"{name}.nii.gz")
    declared = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
    (raw / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1"}} | declared))
    work = prepare(raw, tmp_path / "work", validation_cases=["c0"])
    run = a_run(tmp_path / "run", work.folder, "umamba_bot")
    manifest = export(run, tmp_path / "m.safetensors", device="cpu", with_cost=False)
    assert [(one.name, one.labels, one.value) for one in manifest.regions] == [("whole", (1, 2), 1), ("core", (2,), 2)]
    assert [entry["name"] for entry in manifest.training["metrics"]["dice"]["labels"]] == ["whole", "core"]
    export_nnunet(run, tmp_path / "model", device="cpu", with_cost=False)
    dataset = json.loads((tmp_path / "model" / "dataset.json").read_text())
    assert {key: dataset[key] for key in declared} == declared
    image, _ = labelled_case(9)
    ours = Predictor(read_bundle(tmp_path / "m.safetensors"), "cpu").segment([Volume(image)]).labels.array
    assert set(np.unique(ours)) == {0, 1, 2}
    pytest.importorskip("nnunetv2")
    assert np.mean(ours == labels_of_nnunet(tmp_path / "model", image[None], [1.0, 1.0, 1.0])) >= 0.9995


def test_ct_and_a_rim_of_zeros_are_told(tmp_path):
    for number in range(3):
        image, labels = labelled_case(number)
        image[:, :2] = 0
        write_case(tmp_path / "data", f"c{number}", image, labels, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    work = prepare(tmp_path / "data", tmp_path / "work", validation_cases=["c0"])
    run = a_run(tmp_path / "run", work.folder, "lightm_unet")
    manifest = export_nnunet(run, tmp_path / "model", device="cpu", with_cost=False)
    plans = json.loads((tmp_path / "model" / "plans.json").read_text())
    assert plans["image_reader_writer"] == "SimpleITKIOWithReorient"  # the data is stored in RAS
    (fold,) = read_folds([run])
    assert [note.partition(",")[0] for note in notes_of(manifest, fold)] == ["it cuts off what is 0 around an image"]


def test_places_and_options_that_cannot_be(prepared, tmp_path):
    run = a_run(tmp_path / "run", prepared.folder, "lightm_unet")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(BundleError, match="no empty folder"):
        export_nnunet(run, tmp_path / "full", device="cpu")
    with pytest.raises(BundleError, match="cannot make the folder"):
        export_nnunet(run, tmp_path / "absent" / "model", device="cpu")
    with pytest.raises(ConfigError, match="leave out --half"):
        export_nnunet(run, tmp_path / "model", half=True, device="cpu")
    shutil.copytree(run, tmp_path / "damaged")
    (tmp_path / "damaged" / BEST).write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="is damaged"):
        export_nnunet(tmp_path / "damaged", tmp_path / "model", device="cpu")
    assert not (tmp_path / "model" / "plans.json").exists()


def test_images_made_of_one_size_are_refused_before_anything_is_written(tmp_path, a_dataset):
    work = prepare(a_dataset(count=3), tmp_path / "work", wishes=Wishes(resize=(16, 16)))
    run = a_run(tmp_path / "run", work.folder, "swin_umamba_d")
    with pytest.raises(ConfigError, match=r"images made any x 16 x 16 voxels large .*leave out --layout nnunet"):
        export_nnunet(run, tmp_path / "model", device="cpu")
    assert not (tmp_path / "model").exists()


def test_a_rim_needs_its_images(tmp_path, a_dataset):
    work = prepare(a_dataset(count=3), tmp_path / "work")
    run = a_run(tmp_path / "run", work.folder, "lightm_unet")
    (fold,) = read_folds([run])
    manifest = export(run, tmp_path / "m.safetensors", device="cpu", with_cost=False)
    shutil.rmtree(tmp_path / "boxes")
    assert notes_of(manifest, fold) == [
        "it takes images as they are stored, and this model was trained on images turned to LPS; give it images stored "
        "that way"
    ]
