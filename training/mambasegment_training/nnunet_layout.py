"""A model as nnU-Net leaves its own: plans.json, dataset.json and fold_N/checkpoint_final.pth in one folder.

`nnUNetv2_predict_from_modelfolder -m FOLDER` and nnU-Net's predictor class read it: with nnU-Net's own networks
(`plain_conv_unet`, `residual_encoder_unet`) as it is, with ours where the package mambasegment is installed as well.
Source of the layout: nnU-Net's documentation of plans and of its dataset format, and what version 2.8.1 reads.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.files import atomic_path
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.manifest import Manifest
from MambaSegmentLib.models.for_nnunet import architecture_entry
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.orientation import AS_STORED
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec

from .export import make_draft
from .storage import write_json
from .trained_fold import TrainedFold, read_folds

_log = logging.getLogger(__name__)

_PLANS_NAME = "MambaSegmentPlans"
_TRAINER = "nnUNetTrainer"  # it builds whatever network a plan names
_SCHEMES = {
    "zscore": "ZScoreNormalization",
    "zscore_nonzero": "ZScoreNormalization",
    "ct": "CTNormalization",
    "rescale_0_1": "RescaleTo01Normalization",
    "rgb": "RGBTo01Normalization",
    "none": "NoNormalization",
}
_STOCK = {
    "plain_conv_unet": ("PlainConvUNet", "n_conv_per_stage"),
    "residual_encoder_unet": ("ResidualEncoderUNet", "n_blocks_per_stage"),
}
_READERS = {"RAS": "SimpleITKIOWithReorient", AS_STORED: "SimpleITKIO"}
_SPLINE = "resample_data_or_seg_to_shape"
_KEEP = "no_resampling_hack"


def export_nnunet(
    runs: Path | Sequence[Path],
    output: Path,
    *,
    half: bool = False,
    card_file: Path | None = None,
    date: str | None = None,
    device: str = "auto",
    with_cost: bool = True,
) -> Manifest:
    """Write runs as the folds of a trained model of nnU-Net.

    Args:
        output: a folder that does not exist yet, or is empty. plans.json is written last: without it, it is no model.
        half: refused: nnU-Net keeps weights in 32 bits.
        card_file, date, device, with_cost: as for `export`; the card lies beside as mambasegment.json.
    Raises:
        ConfigError: as `export`; half; runs whose images were made of one size. BundleError: as `export`, or a folder
            that is not empty.
    """
    if half:
        raise ConfigError("nnU-Net keeps weights in 32 bits; leave out --half")
    runs = [runs] if isinstance(runs, Path) else list(runs)
    _refuse_fixed_size(runs)
    _make_folder(output)
    draft = make_draft(runs, output.resolve().name, False, card_file, date, device, with_cost)
    manifest, folds = draft.manifest, draft.folds
    configuration = "2d" if len(manifest.patch_size) == 2 else "3d_fullres"
    plans, dataset = plans_of(manifest, folds[0], configuration), dataset_of(manifest, folds[0])
    for number, fold in enumerate(folds):
        checkpoint = _checkpoint(manifest, fold, number, configuration, plans, dataset)
        _write_checkpoint(output / f"fold_{number}" / "checkpoint_final.pth", checkpoint)
    write_json(output / "mambasegment.json", manifest.to_json())
    write_json(output / "dataset.json", dataset)
    write_json(output / "plans.json", plans)
    for note in notes_of(manifest, folds[0]):
        _log.warning("nnU-Net and this folder: %s", note)
    return manifest


def plans_of(manifest: Manifest, fold: TrainedFold, configuration: str) -> dict[str, Any]:
    """plans.json with one configuration."""
    spec = manifest.preprocessing
    axes = list(spec.axis_order)
    intensities = {str(index): _intensities(entry) for index, entry in enumerate(spec.normalization)}
    return {
        "dataset_name": manifest.name,
        "plans_name": _PLANS_NAME,
        "original_median_spacing_after_transp": list(spec.spacing_mm or (1.0, 1.0, 1.0)),
        "original_median_shape_after_transp": list(fold.dataset.patch_size),
        "image_reader_writer": _READERS.get(spec.orientation, _READERS[AS_STORED]),
        "transpose_forward": axes,
        "transpose_backward": [int(axis) for axis in np.argsort(axes)],
        "configurations": {configuration: _configuration(manifest, fold, configuration)},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": intensities,
    }


def dataset_of(manifest: Manifest, fold: TrainedFold) -> dict[str, Any]:
    """dataset.json."""
    names = {segment.value: segment.name for segment in manifest.segments}
    groups: list[tuple[str, Any]] = [(name, value) for value, name in sorted(names.items())]
    if manifest.regions:  # several values each, or nnU-Net would take them for labels
        groups = [(region.name, list(region.labels)) for region in manifest.regions]
    labels: dict[str, Any] = {"background": 0}
    for name, value in groups:
        labels[name if name not in (*labels, "ignore") else f"{name} {value}"] = value
    if manifest.ignore_label is not None:
        labels["ignore"] = manifest.ignore_label
    order = {"regions_class_order": [region.value for region in manifest.regions]} if manifest.regions else {}
    return {
        "channel_names": {str(index): channel.name for index, channel in enumerate(manifest.channels)},
        "labels": labels,
        **order,
        "numTraining": len(fold.split.train) + len(fold.split.validation),
        "file_ending": ".nii.gz",
    }


def notes_of(manifest: Manifest, fold: TrainedFold) -> list[str]:
    """What nnU-Net does otherwise than the training did, and when that matters; looks at the validation images."""
    spec = manifest.preprocessing
    notes = []
    if spec.orientation not in _READERS:
        notes.append(
            f"it takes images as they are stored, and this model was trained on images turned to {spec.orientation}; "
            "give it images stored that way"
        )
    if spec.crop == "none":
        rimmed = [case for case in fold.split.validation if _has_rim(fold.dataset.sources.get(case, ())[:-1])]
        if rimmed:
            notes.append(
                f"it cuts off what is 0 around an image, which this training did not: {len(rimmed)} of "
                f"{len(fold.split.validation)} validation images have such a rim, and their labels may differ"
            )
    if manifest.step != 0.5:
        notes.append(f"it lays tiles at half the patch unless told otherwise; say -step_size {manifest.step:g}")
    return notes


def _configuration(manifest: Manifest, fold: TrainedFold, name: str) -> dict[str, Any]:
    spec = manifest.preprocessing
    resampling = _resampling(spec)
    spacing = [float(value) for value in spec.spacing_mm or (1.0, 1.0, 1.0) if value is not None]
    return {
        "data_identifier": f"{_PLANS_NAME}_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": fold.record.config.data.batch_size,
        "patch_size": list(manifest.patch_size),
        "median_image_size_in_voxels": list(fold.dataset.patch_size),
        "spacing": spacing[-2:] if spec.spacing_mm is None and name == "2d" else spacing,
        "normalization_schemes": [_SCHEMES[entry.kind] for entry in spec.normalization],
        "use_mask_for_norm": [entry.kind == "zscore_nonzero" for entry in spec.normalization],
        **resampling,
        "batch_dice": fold.record.config.loss.batch_dice,
        "architecture": _architecture(manifest),
    }


def _resampling(spec: PreprocessingSpec) -> dict[str, Any]:
    """The three functions with their arguments; scores and labels go as `PreprocessingSpec` says."""
    functions = ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities")
    if spec.spacing_mm is None:
        return dict.fromkeys(functions, _KEEP) | {f"{key}_kwargs": {} for key in functions}
    scores = spec.score_orders or (min(spec.resampling_order, 1), spec.coarse_axis_order)
    return dict.fromkeys(functions, _SPLINE) | {
        "resampling_fn_data_kwargs": _orders(spec.resampling_order, spec.coarse_axis_order, labels=False),
        "resampling_fn_seg_kwargs": _orders(min(spec.resampling_order, 1), spec.coarse_axis_order, labels=True),
        "resampling_fn_probabilities_kwargs": _orders(*scores, labels=False),
    }


def _orders(order: int, coarse_order: int | None, *, labels: bool) -> dict[str, Any]:
    """None lets nnU-Net find the axis of thick slices, False treats all alike."""
    force = False if coarse_order is None else None
    return {"is_seg": labels, "order": order, "order_z": coarse_order or 0, "force_separate_z": force}


def _architecture(manifest: Manifest) -> dict[str, Any]:
    name, options = manifest.architecture_name, _plain(manifest.architecture_options)
    if name not in _STOCK:
        return architecture_entry(name, options)
    class_name, blocks = _STOCK[name]
    dims = len(manifest.patch_size)
    stages = len(options["features_per_stage"])
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{class_name}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": options["features_per_stage"],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": _rows(options["kernel_sizes"], stages, dims),
            "strides": _rows(options["strides"], stages, dims),
            blocks: options["encoder_blocks"],
            "n_conv_per_stage_decoder": options["decoder_blocks"],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _rows(value: Any, stages: int, dims: int) -> list[list[int]]:
    """A number for each stage and axis; one stands for all."""
    per_stage = [value] * stages if isinstance(value, int) else value
    return [[row] * dims if isinstance(row, int) else list(row) for row in per_stage]


def _checkpoint(
    manifest: Manifest,
    fold: TrainedFold,
    number: int,
    configuration: str,
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
) -> dict[str, Any]:
    """Plain values and tensors alone, so that PyTorch's restricted reader takes it as well."""
    return {
        "network_weights": {name: tensor.cpu() for name, tensor in fold.state_dict().items()},
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": fold.facts.get("mean_dice"),
        "current_epoch": fold.facts["epoch"],
        "init_args": {
            "plans": dict(plans),
            "configuration": configuration,
            "fold": number,
            "dataset_json": dict(dataset),
            "device": "cpu",
        },
        "trainer_name": _TRAINER,
        "inference_allowed_mirroring_axes": list(manifest.mirror_axes) or None,
    }


def _write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as problem:
        raise BundleError(f"cannot make {path.parent}: {problem.strerror or problem}") from problem
    with atomic_path(path, BundleError) as temporary:
        torch.save(dict(content), temporary)
        back = torch.load(temporary, weights_only=True)["network_weights"]
        weights = content["network_weights"]
        if back.keys() != weights.keys() or not all(torch.equal(back[name], weights[name]) for name in weights):
            raise BundleError(f"{path} does not read back as it was written; is the disk damaged?")


def _refuse_fixed_size(runs: Sequence[Path]) -> None:
    """nnU-Net's preprocessor knows voxel sizes alone, so that its predictor would show the network other images."""
    for fold in read_folds(runs):
        size = fold.dataset.preprocessing.size
        if size is not None:
            wanted = " x ".join("any" if count is None else str(count) for count in size)
            raise ConfigError(
                f"{fold.run} was trained on images made {wanted} voxels large (`prepare --resize`), and nnU-Net can "
                "only make voxels of one size; export a model file (leave out --layout nnunet), or train on data "
                "prepared without --resize"
            )


def _make_folder(output: Path) -> None:
    """Refuse a folder before minutes of measuring."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BundleError(f"{output} exists and is no empty folder; choose another one for the model")
    try:
        output.mkdir(exist_ok=True)
    except OSError as problem:
        raise BundleError(f"cannot make the folder {output}: {problem.strerror or problem}") from problem


def _has_rim(images: Sequence[Path]) -> bool:
    """Whether some outermost slice is 0 in all channels; False for images that have gone."""
    if not images or not all(path.is_file() for path in images):
        return False
    occupied = np.any([read_volume(path).array != 0 for path in images], axis=0)
    return not all(occupied.take(place, axis).any() for axis in range(3) for place in (0, -1))


def _intensities(entry: Normalization) -> dict[str, Any]:
    """Of a channel's labelled voxels, as far as the model knows them; nnU-Net asks for an entry for each channel."""
    if entry.kind != "ct":
        return {}
    return {
        "percentile_00_5": entry.lower,
        "percentile_99_5": entry.upper,
        "mean": entry.mean,
        "std": entry.std,
    }


def _plain(value: Any) -> Any:
    """Lists for tuples, so that the checkpoint holds what JSON does."""
    return json.loads(json.dumps(value))
