"""Trainings as the authors' programs leave them: their names of our tensors, their plans, their folders.

The names are worked out here a second time, from ours to theirs, so that a mistake in the library's tables shows.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from MambaSegmentLib.models import build_model

from .formula_weights import formula_tensor

_LIBRARY_BLOCK = re.compile(r"((?:convs\.0|conv[12]|skip\.\d|transconv)\.)(conv|norm)\.(weight|bias)$")


def _plain(rest: str) -> str:
    """conv1.weight -> conv1.conv.weight, norm1.weight -> conv1.norm.weight: blocks of the library they use."""
    return re.sub(r"^(conv|norm)([12])\.", r"conv\2.\1.", rest)


def _umamba(name: str) -> str:
    part, _, rest = name.partition(".")
    if part in ("stem", "stages"):
        head, index, rest = re.fullmatch(r"((?:stem|stages\.\d+)\.)(\d+)\.(.*)", name).groups()
        block = rest.replace("shortcut.", "conv3.") if index == "0" else _plain(rest)
        return f"encoder.{head}{index}.{block}"
    if part == "mixers":
        return f"encoder.mamba_layers.{rest}"
    if part == "bottleneck":
        return f"mamba_layer.{rest}"
    level, kind, rest = re.fullmatch(r"decoder\.(\d+)\.(\w+)\.(.*)", name).groups()
    if kind == "blocks":
        index, _, rest = rest.partition(".")
        return f"decoder.stages.{level}.{index}." + (
            rest.replace("shortcut.", "conv3.") if index == "0" else _plain(rest)
        )
    return f"decoder.upsample_layers.{level}.conv.{rest}" if kind == "reduce" else f"decoder.seg_layers.{level}.{rest}"


def _clinix(name: str) -> str:
    part, _, rest = name.partition(".")
    if part == "stem":
        return f"encoder.stem.convs.0.{rest}"
    if part == "stages":
        stage, _, rest = rest.partition(".")
        # the first stage alone keeps the size; its width does too, so that it has no shortcut with weights
        return f"encoder.stages.{stage}.blocks.0.{_plain(rest).replace('shortcut.', 'skip.1.')}"
    if part == "last_hgcn_norm":
        return {"weight": "encoder.LayerNorm.gamma", "bias": "encoder.LayerNorm.beta"}[rest]
    if part == "bottleneck":
        return f"decoder.Init_Residual.{_plain(rest)}"
    if part == "mixers":
        stage, _, rest = rest.partition(".")
        rest = re.sub(r"^scale$", "gamma1", rest)
        rest = re.sub(r"^norm([12])\.weight$", r"lynorm\1.gamma", rest)
        rest = re.sub(r"^norm([12])\.bias$", r"lynorm\1.beta", rest)
        rest = re.sub(r"^reduce\.", "transconv.conv.", rest)
        rest = re.sub(r"^conv([12])\.", r"conv\1.conv.", rest)
        rest = rest.replace("interaction.neighbours.", "hgConvs.dwconv.").replace(
            "interaction.widen.", "hgConvs.reconv."
        )
        return f"encoder.encoder_layers.{stage}.{rest.replace('interaction.', 'hgConvs.')}"
    level, kind, rest = re.fullmatch(r"decoder\.(\d+)\.(\w+)\.(.*)", name).groups()
    return {
        "refine_skip": f"decoder.residual_blocks.{level}.{_plain(rest)}",
        "blocks": f"decoder.stages.{level}.{rest.replace('shortcut.', 'conv3.')}",
        "reduce": f"decoder.upsample_layers.{level}.conv.{rest}",
        "head": f"decoder.seg_layers.{level}.{rest}",
    }[kind]


def _lightm(name: str) -> str:
    name = re.sub(r"^stem\.depthwise\.", "convInit.0.conv.", name)
    name = re.sub(r"^stem\.pointwise\.", "convInit.1.conv.", name)
    name = re.sub(r"^head_norm\.", "conv_final.0.", name)
    name = re.sub(r"^head\.depthwise\.", "conv_final.2.0.conv.", name)
    name = re.sub(r"^head\.pointwise\.", "conv_final.2.1.conv.", name)
    name = re.sub(r"^decoder\.(\d+)\.reduce\.", r"up_samples.\1.0.conv.", name)
    name = re.sub(r"^decoder\.(\d+)\.blocks\.(\d+)\.conv\.depthwise\.", r"up_layers.\1.\2.conv.0.conv.", name)
    name = re.sub(r"^decoder\.(\d+)\.blocks\.(\d+)\.conv\.pointwise\.", r"up_layers.\1.\2.conv.1.conv.", name)
    name = re.sub(r"^decoder\.(\d+)\.blocks\.", r"up_layers.\1.", name)
    name = re.sub(r"\.mixer([12])\.", r".conv\1.", name)
    name = re.sub(r"^encoder\.(\d+)\.0\.mixer\.", r"down_layers.\1.0.0.", name)
    name = re.sub(r"^encoder\.0\.(\d+)\.", lambda found: f"down_layers.0.{int(found[1]) + 1}.", name)
    return re.sub(r"^encoder\.", "down_layers.", name)


def _vss(name: str) -> str:
    """The parts that the three 2D networks share; VSS blocks alone have a norm beside their scan."""
    name = re.sub(r"^((?:encoder\.stages|decoder\.\d+\.blocks)\.(?:\d+\.)+)norm\.", r"\1ln_1.", name)
    return name.replace(".ss2d.", ".self_attention.")


def _vss_encoder(name: str, prefix: str) -> str:
    name = re.sub(r"^encoder\.stages\.(\d+)\.", rf"{prefix}layers.\1.blocks.", name)
    return re.sub(r"^encoder\.patch_embed\.", f"{prefix}patch_embed.", name)


def _mamba_unet(name: str) -> str:
    name = _vss_encoder(_vss(name), "")
    name = re.sub(r"^encoder\.mergings\.(\d+)\.", r"layers.\1.downsample.", name)
    name = re.sub(r"^decoder\.0\.expand\.", "layers_up.0.", name)
    name = re.sub(r"^decoder\.(\d+)\.expand\.", r"layers_up.\1.upsample.", name)
    name = re.sub(r"^decoder\.(\d+)\.blocks\.", lambda found: f"layers_up.{int(found[1]) + 1}.blocks.", name)
    name = re.sub(r"^decoder\.(\d+)\.fuse\.", lambda found: f"concat_back_dim.{int(found[1]) + 1}.", name)
    name = re.sub(r"^enlarge\.", "up.", name)
    return "mamba_unet." + re.sub(r"^head\.", "output.", name)


def _swin(name: str) -> str:
    name = _vss_encoder(_vss(name), "vssm_encoder.") if name.startswith("encoder.") else name
    name = re.sub(r"^encoder\.mergings\.", "vssm_encoder.downsamples.", name)
    name = re.sub(r"^skips\.(\d)\.", lambda found: f"encoder{int(found[1]) + 1}.layer.", name)
    name = re.sub(r"^last\.", "decoder1.layer.", name)
    name = re.sub(r"^decoder\.(\d)\.enlarge\.", lambda found: f"decoder{int(found[1]) + 2}.transp_conv.conv.", name)
    name = re.sub(r"^decoder\.(\d)\.block\.", lambda found: f"decoder{int(found[1]) + 2}.conv_block.", name)
    name = re.sub(r"^((?:en|de)coder\d\.(?:layer|conv_block)\.)shortcut\.", r"\1conv3.conv.", name)
    name = re.sub(r"^((?:en|de)coder\d\.(?:layer|conv_block)\.conv[12])\.", r"\1.conv.", name)
    return re.sub(r"^heads\.(\d)\.", r"out_layers.\1.conv.conv.", name)


def _swin_d(name: str) -> str:
    name = _vss_encoder(_vss(name), "vssm_encoder.")
    name = re.sub(r"^encoder\.mergings\.", "vssm_encoder.downsamples.", name)
    name = re.sub(r"^enlarge\.", "decoder.expand_layers.3.", name)
    name = re.sub(r"^decoder\.(\d)\.expand\.", r"decoder.expand_layers.\1.", name)
    name = re.sub(r"^decoder\.(\d)\.fuse\.", r"decoder.concat_back_dim.\1.", name)
    name = re.sub(r"^decoder\.(\d)\.blocks\.", r"decoder.stages.\1.blocks.", name)
    return re.sub(r"^heads\.", "decoder.seg_layers.", name)


AUTHORS_NAMES: dict[str, Callable[[str], str]] = {
    "lightm_unet": _lightm,
    "mamba_unet": _mamba_unet,
    "mambaclinix": _clinix,
    "swin_umamba": _swin,
    "swin_umamba_d": _swin_d,
    "umamba_bot": _umamba,
    "umamba_enc": _umamba,
    "plain_conv_unet": lambda name: name,
    "residual_encoder_unet": lambda name: name,
}


def aliases_of(name: str) -> list[str]:
    """Further names under which the authors' state dict holds a tensor of the residual U-Nets."""
    names = [name]
    if found := _LIBRARY_BLOCK.search(name):
        number = {"conv": 0, "norm": 1}[found[2]]
        names.append(f"{name[: found.start()]}{found[1]}all_modules.{number}.{found[3]}")
    names += [f"decoder.{one}" for one in names if one.startswith("encoder.")]
    return names[1:]


def a_network(architecture: str, options: Mapping[str, Any], salt: str = "") -> nn.Module:
    """A network of ours with weights that follow from the names of the authors."""
    net = build_model(architecture, dict(options))
    rename = AUTHORS_NAMES[architecture]
    weights = {
        name: formula_tensor(salt + rename(name), tuple(t.shape)).to(t.dtype) for name, t in net.state_dict().items()
    }
    net.load_state_dict({name: weights[name] for name in net.state_dict()})
    return net.eval()


def authors_state_dict(architecture: str, net: nn.Module) -> dict[str, Tensor]:
    """Its weights by all of the authors' names, second names sharing their memory as in a training."""
    rename = AUTHORS_NAMES[architecture]
    state: dict[str, Tensor] = {}
    for name, tensor in net.state_dict().items():
        state[rename(name)] = tensor
        if architecture in ("mambaclinix", "umamba_bot", "umamba_enc"):
            state |= dict.fromkeys(aliases_of(rename(name)), tensor)
    return state


def older_configuration(patch: list[int], strides: list[list[int]], **changes: Any) -> dict[str, Any]:
    """As the forks' planner writes it."""
    stages = len(strides)
    dims = len(patch)
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    return {
        "data_identifier": "nnUNetPlans_x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch,
        "spacing": [1.0] * dims,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 8,
        "n_conv_per_stage_encoder": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "num_pool_per_axis": [stages - 1] * dims,
        "pool_op_kernel_sizes": strides,
        "conv_kernel_sizes": [[3] * dims] * stages,
        "unet_max_num_features": 16,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "batch_dice": False,
        **changes,
    }


def newer_form(content: Mapping[str, Any], **architecture: Any) -> dict[str, Any]:
    """A configuration as nnU-Net has written it since 2.3, with `architecture` in place of the older keys."""
    older = ("UNet_class", "UNet_base", "unet_max", "n_conv", "num_pool", "pool_op", "conv_kernel")
    kept = {key: value for key, value in content.items() if not key.startswith(older)}
    return {**kept, "architecture": architecture}


def plans_of(configurations: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "dataset_name": "Dataset901_Made",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": dict(configurations),
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 10.0, "std": 4.0, "percentile_00_5": 1.0, "percentile_99_5": 20.0}
        },
        **changes,
    }


def dataset_of(**changes: Any) -> dict[str, Any]:
    return {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "left": 1, "right": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        **changes,
    }


def checkpoint_of(trainer: str, configuration: str, weights: Mapping[str, Tensor], **changes: Any) -> dict[str, Any]:
    """As nnU-Net's trainer saves it, numpy's scalars and the optimiser's tensors included."""
    return {
        "network_weights": dict(weights),
        "optimizer_state": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [np.float64(0.25), np.float32(0.5)],
            "dice_per_class_or_region": [[np.float64(0.5)]],
        },
        "_best_ema": np.float64(0.625),
        "current_epoch": 100,
        "init_args": {
            "plans": {},
            "configuration": configuration,
            "fold": 0,
            "dataset_json": {},
            "unpack_dataset": True,
            "device": torch.device("cpu"),
        },
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": None,
        **changes,
    }


def write_results(
    folder: Path,
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    checkpoints: Mapping[str, Mapping[str, Any]],
    which: str = "final",
) -> Path:
    """A results folder; `checkpoints` are by fold."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for fold, content in checkpoints.items():
        place = folder / f"fold_{fold}"
        place.mkdir(exist_ok=True)
        torch.save(dict(content), place / f"checkpoint_{which}.pth")
    return folder
