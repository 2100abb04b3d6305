"""Stock nnU-Net's own networks: the imported model against nnU-Net's own predictor on the same folder."""

import functools
import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import MambaSegmentLib as ms
from MambaSegmentLib.bundle import read_bundle, read_manifest
from MambaSegmentLib.cli import main
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.models import build_model
from MambaSegmentLib.volume import Volume
from Testing.foreign_models import (
    a_network,
    authors_state_dict,
    checkpoint_of,
    dataset_of,
    newer_form,
    older_configuration,
    plans_of,
    write_results,
)

pytest.importorskip("nnunetv2", reason="needs nnU-Net, which only the tests compare with")
pytest.importorskip("dynamic_network_architectures", reason="needs the package that builds nnU-Net's networks")

STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
SIZES = {"features_per_stage": [6, 8, 8], "kernel_sizes": 3, "decoder_blocks": [1, 1]}
REGIONS = {"labels": {"background": 0, "all": [1, 2, 3], "core": [2, 3], "in": 3}, "regions_class_order": [1, 2, 3]}


def newer_configuration(class_name: str, blocks: str, counts: list[int], **changes: Any) -> dict[str, Any]:
    """A configuration as nnU-Net has planned it since 2.3."""
    return newer_form(
        older_configuration([4, 16, 16], STRIDES, **changes),
        network_class_name=f"dynamic_network_architectures.architectures.unet.{class_name}",
        arch_kwargs={
            "n_stages": 3,
            "features_per_stage": [6, 8, 8],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * 3,
            "strides": STRIDES,
            blocks: counts,
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        _kw_requires_import=["conv_op", "norm_op", "dropout_op", "nonlin"],
    )


PLAIN = newer_configuration("PlainConvUNet", "n_conv_per_stage", [2, 1, 1], spacing=[3.5, 0.9, 0.8])
RESIDUAL = newer_configuration("ResidualEncoderUNet", "n_blocks_per_stage", [1, 2, 1], spacing=[1.0, 1.2, 0.9])
OLDER_2D = older_configuration(
    [16, 16], [[1, 1], [2, 2], [2, 2]], spacing=[0.8, 1.1], use_mask_for_norm=[True], unet_max_num_features=8,
    UNet_base_num_features=6, n_conv_per_stage_encoder=[2, 2, 2], n_conv_per_stage_decoder=[1, 1],
)  # fmt: skip


@dataclass(frozen=True)
class Stock:
    """One training: the plan, and by our options the network that it means."""

    architecture: str
    configuration: dict[str, Any]
    options: dict[str, Any]
    mirror_axes: tuple[int, ...] | None = None
    folds: tuple[int, ...] = (0,)
    plans: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    spacing_mm: tuple[float, float, float] = (3.0, 1.1, 1.0)  # (K, J, I)


STOCKS = {
    "plain, thick slices, two folds, mirrored": Stock(
        "plain_conv_unet",
        PLAIN,
        {"spatial_dims": 3, "strides": STRIDES, **SIZES, "encoder_blocks": [2, 1, 1]},
        mirror_axes=(0, 1, 2),
        folds=(0, 1),
    ),
    "residual encoder, regions, transposed": Stock(
        "residual_encoder_unet",
        RESIDUAL,
        {"spatial_dims": 3, "strides": STRIDES, **SIZES, "encoder_blocks": [1, 2, 1]},
        plans={"transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]},
        dataset=REGIONS,
        spacing_mm=(1.1, 1.0, 1.3),
    ),
    "older plan, 2D, zeros around, masked": Stock(
        "plain_conv_unet",
        OLDER_2D,
        {"spatial_dims": 2, "strides": [1, 2, 2], **SIZES, "encoder_blocks": [2, 2, 2]},
        mirror_axes=(0, 1),
    ),
}


def written(folder, stock: Stock):
    name = "2d" if stock.options["spatial_dims"] == 2 else "3d_fullres"
    weights = {}
    for fold in stock.folds:
        network = a_network(stock.architecture, {"in_channels": 1, "num_classes": 3, **stock.options}, str(fold))
        state = authors_state_dict(stock.architecture, network)
        axes = {"inference_allowed_mirroring_axes": stock.mirror_axes}
        weights[str(fold)] = checkpoint_of("nnUNetTrainer", name, state, **axes)
    plans = plans_of({name: stock.configuration}, **stock.plans)
    return write_results(folder / f"nnUNetTrainer__nnUNetPlans__{name}", plans, dataset_of(**stock.dataset), weights)


def use_single_precision(changed: pytest.MonkeyPatch) -> None:
    """nnU-Net adds tiles up in half precision, which turns near ties; in single precision it compares sharply."""
    from nnunetv2.inference import predict_from_raw_data

    in_half = predict_from_raw_data.compute_gaussian
    in_single = functools.partial(in_half, dtype=torch.float32)
    in_single.cache_clear = in_half.cache_clear
    changed.setattr(predict_from_raw_data, "compute_gaussian", in_single)
    changed.setattr(torch, "half", torch.float32)


def predicted_by_nnunet(folder, stock: Stock, array: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(
            use_mirroring=True, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(str(folder), stock.folds, "checkpoint_final.pth")
        properties = {"spacing": list(stock.spacing_mm)}
        return predictor.predict_single_npy_array(array[None], properties, None, None, False)


@pytest.mark.slow
@pytest.mark.parametrize("name", STOCKS)
def test_labels_are_those_of_nnunets_own_predictor(name, tmp_path, monkeypatch):
    stock = STOCKS[name]
    folder = written(tmp_path, stock)
    output = tmp_path / "m.safetensors"
    assert main(["models", "import", str(folder), "-o", str(output), "--quiet"]) == 0
    assert read_manifest(output).architecture_name == stock.architecture

    generator = np.random.default_rng(3)
    array = np.cumsum(np.cumsum(generator.normal(0, 10, (9, 26, 30)), axis=1), axis=2).astype(np.float32) + 500
    array[:, :3] = array[:, :, -4:] = 0
    found = ms.segment(Volume(array, spacing_mm=stock.spacing_mm[::-1]), model=output, device="cpu").labels.array
    with monkeypatch.context() as changed:
        use_single_precision(changed)
        expected = predicted_by_nnunet(folder, stock, array)
    assert len(np.unique(expected)) > 2
    print(name, "labels equal", np.mean(found == expected))
    assert np.mean(found == expected) >= 0.9999


def test_a_plan_with_another_network_of_that_name_is_refused(tmp_path, capsys):
    stock = STOCKS["plain, thick slices, two folds, mirrored"]
    changed = {**PLAIN["architecture"]["arch_kwargs"], "dropout_op": "torch.nn.Dropout3d", "nonlin": "torch.nn.ReLU"}
    configuration = {**PLAIN, "architecture": {**PLAIN["architecture"], "arch_kwargs": changed}}
    folder = written(tmp_path, Stock(stock.architecture, configuration, stock.options))
    assert main(["models", "import", str(folder), "-o", str(tmp_path / "m.safetensors"), "--quiet"]) == 3
    assert "has its own dropout_op, nonlin" in capsys.readouterr().err


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    """The package is hidden, as where it is not installed."""
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures.unet", None)
    options = {"in_channels": 1, "num_classes": 3, "strides": STRIDES, **SIZES, "encoder_blocks": [1, 1, 1]}
    with pytest.raises(ConfigError, match="pip install --no-deps dynamic-network-architectures"):
        build_model("plain_conv_unet", options)


@pytest.mark.slow
def test_a_checkpoint_that_nnunets_own_trainer_saved(tmp_path, monkeypatch, capsys):
    """One step of a real trainer, saved by it: whatever it puts beside the weights must be let through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as module
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    data = tmp_path / "nnUNet_preprocessed" / "Dataset901_Made" / "nnUNetPlans_x"
    data.mkdir(parents=True)
    (data / "case.b2nd").touch()  # it looks for the kind of files alone
    plans = plans_of({"3d_fullres": {**PLAIN, "median_image_size_in_voxels": [8, 30, 30]}}, continue_training=False)
    trainer = module.nnUNetTrainer(plans, "3d_fullres", 2, dataset_of(), device=torch.device("cpu"))
    trainer.initialize()
    outputs = trainer.network(torch.randn(1, 1, 4, 16, 16))
    sum(output.square().mean() for output in outputs).backward()
    trainer.optimizer.step()
    trainer.logger.log("mean_fg_dice", np.float64(0.25), 0)
    trainer.logger.log("dice_per_class_or_region", [np.float32(0.25), np.float32(0.25)], 0)
    trainer.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))

    output = tmp_path / "m.safetensors"
    assert main(["models", "import", str(tmp_path / "checkpoint_final.pth"), "-o", str(output), "--quiet"]) == 0
    bundle = read_bundle(output)
    assert list(bundle.manifest.training["imported"]["folds"]) == ["2"]
    (network,) = bundle.build_networks()
    saved = trainer.network.state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in network.state_dict().items())
