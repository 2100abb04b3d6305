"""Which network a file is of, and with which options: by its trainer's name, or by the names of its weights.

Source: the trainers of the authors' repositories; where one of them overrides what a plan says, so does this.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import BundleError
from ..models.for_nnunet import NETWORK
from ..models.published import without_wrappers
from ..models.registry import architecture_named
from .json_file import entry
from .plans import NetworkPlan, Plan
from .sizes import SIZES_FROM_WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

_STOCK = ("plain_conv_unet", "residual_encoder_unet")
TRAINERS = {
    "nnUNetTrainerLightMUNet": "lightm_unet",
    "nnUNetTrainerMambaClinix": "mambaclinix",
    "nnUNetTrainerMambaClinixTRS": "mambaclinix",
    "nnUNetTrainerMambaClinixTRS_500epochs": "mambaclinix",
    "nnUNetTrainerUMambaBot": "umamba_bot",
    "nnUNetTrainerUMambaEnc": "umamba_enc",
    "nnUNetTrainerUMambaEncNoAMP": "umamba_enc",
    "nnUNetTrainerSwinUMamba": "swin_umamba",
    "nnUNetTrainerSwinUMambaScratch": "swin_umamba",
    "nnUNetTrainerSwinUMambaD": "swin_umamba_d",
    "nnUNetTrainerSwinUMambaDScratch": "swin_umamba_d",
}
# the first that occurs among the names decides; each is a pattern of a name
_MARKERS = (
    (r"convInit\.(0\.)?conv\.weight", "lightm_unet"),
    (r"encoder\.encoder_layers\.\d+\.(hgConvs\.proj_in\.weight|mamba\.A_log)", "mambaclinix"),
    (r"mamba_layer\.mamba\.A_log", "umamba_bot"),
    (r"encoder\.mamba_layers\.\d+\.mamba\.A_log", "umamba_enc"),
    (r"vssm_encoder\..*", "swin_umamba"),
    (r"(mamba_unet\.)?layers_up\.\d+\..*", "mamba_unet"),
    (r"encoder\.stages\.\d+\.\d+\.convs\.\d+\.conv\.weight", "plain_conv_unet"),
    (r"encoder\.stages\.\d+\.blocks\.\d+\.conv1\.conv\.weight", "residual_encoder_unet"),
    (r"decoder\.upsample_layers\.\d+\.conv\.weight", "resenc_unet"),
)


def architecture_of(trainer: str | None, weights: Iterable[str]) -> str:
    """The name of `build_model`.

    Args:
        trainer: the class that trained the network, if the file says; one that is not known may be a user's own.
        weights: the authors' names.
    Raises:
        BundleError: neither says.
    """
    names = [without_wrappers(name) for name in weights]
    if any(name.startswith("decoder.transpconvs.") for name in names) and any("mamba" in name for name in names):
        raise BundleError(
            "these weights are of U-Mamba before 2024-03-27, or of the copy in LightM-UNet's repository, which is "
            "another network (transposed convolutions in the decoder); train it again with the later version"
        )
    if trainer in TRAINERS:
        return TRAINERS[trainer]
    for pattern, architecture in _MARKERS:
        if any(re.fullmatch(pattern, name) for name in names):
            if architecture == "swin_umamba" and "decoder.seg_layers.0.weight" in names:
                return "swin_umamba_d"
            return architecture
    shown = ", ".join(names[:4]) or "none"
    who = f"the trainer {trainer!r} is not known and " if trainer else ""
    raise BundleError(
        f"{who}the names of the weights ({shown} …) are those of no network of ours; if it is one, name it with "
        "--architecture"
    )


@dataclass(frozen=True)
class OwnNetwork:
    """A network of ours that stock nnU-Net trained or a run was exported as: see models/for_nnunet.py."""

    name: str
    options: Mapping[str, Any]


def own_network(plan: Plan) -> OwnNetwork | None:
    """The network that a plan names by our builder, whose weights then have our names; None for all others.

    Raises:
        BundleError: without its name and options.
    """
    content = plan.content.get("architecture")
    if not isinstance(content, Mapping) or content.get("network_class_name") != NETWORK:
        return None
    where = f"the architecture of {plan.where}"
    given = entry(content, "arch_kwargs", Mapping, where)
    return OwnNetwork(entry(given, "name", str, where), entry(given, "options", Mapping, where))


def options_of(
    architecture: str,
    *,
    in_channels: int,
    num_classes: int,
    patch_size: tuple[int, ...],
    weights: "Mapping[str, Tensor]",
    plan: Plan | None,
) -> dict[str, Any]:
    """Options of `build_model`.

    Args:
        num_classes: outputs, the background included where there is one.
        plan: of nnU-Net, for the networks that are built from it.
    Raises:
        BundleError: what the network needs to know is not there.
    """
    common = {"in_channels": in_channels, "num_classes": num_classes}
    bare = {without_wrappers(name): tensor for name, tensor in weights.items()}
    if architecture in SIZES_FROM_WEIGHTS:
        try:
            sizes = SIZES_FROM_WEIGHTS[architecture](bare)
        except (KeyError, IndexError, ValueError) as problem:
            raise BundleError(f"the weights are no complete {architecture}: {problem} is missing") from problem
        dims = {"spatial_dims": len(patch_size)} if architecture == "lightm_unet" else {}
        _check_dimensions(architecture, patch_size)
        return {**common, **dims, **sizes}
    architecture_named(architecture)  # a name of the user's may be wrong, which is said before anything is missing
    if plan is None:
        raise BundleError(
            f"weights do not tell the strides of {architecture}; import the results folder or nnU-Net's checkpoint, "
            "which hold the plan, or give --plans and --configuration"
        )
    return {**common, "spatial_dims": len(patch_size), **_planned(architecture, plan.network, patch_size)}


def _check_dimensions(architecture: str, patch_size: tuple[int, ...]) -> None:
    if architecture != "lightm_unet" and len(patch_size) != 2:
        raise BundleError(f"{architecture} is a 2D network, but the patch is {patch_size}; import a 2d configuration")


def _planned(architecture: str, plan: NetworkPlan, patch_size: tuple[int, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "features_per_stage": list(plan.features),
        "kernel_sizes": [list(sizes) for sizes in plan.kernels],
        "strides": [list(sizes) for sizes in plan.strides],
    }
    if architecture == "mambaclinix":
        return options | {"stage_mixers": _clinix_mixers(plan)}
    if architecture in _STOCK:
        _check_stock(plan)
        return options | {"encoder_blocks": list(plan.encoder_blocks), "decoder_blocks": list(plan.decoder_blocks)}
    stages = len(plan.features)
    options |= {
        "encoder_blocks": _single_from(plan.encoder_blocks, math.ceil(stages / 2)),
        "decoder_blocks": _single_from(plan.decoder_blocks, math.ceil((stages - 1) / 2 + 0.5)),
    }
    return options | ({"input_size": list(patch_size)} if architecture == "umamba_enc" else {})


def _single_from(blocks: tuple[int, ...], start: int) -> list[int]:
    """U-Mamba has one block in each stage from `start` on, whatever the plan says."""
    return [1 if index >= start else count for index, count in enumerate(blocks)]


def _clinix_mixers(plan: NetworkPlan) -> list[str]:
    """Two convolutions in the plan mean HGCN, one means Mamba; the deeper half is Mamba anyway."""
    blocks = _single_from(plan.encoder_blocks, math.ceil(len(plan.features) / 2))
    if not set(blocks) <= {1, 2}:
        raise BundleError(f"MambaClinix cannot be built from a plan with {blocks} convolutions per stage; only 1 and 2")
    return ["hgcn" if count == 2 else "mamba" for count in blocks]


def _check_stock(plan: NetworkPlan) -> None:
    """Refuse arguments of a newer plan that would make another network than ours of that name."""
    given = plan.arguments
    known = {
        *("n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_conv_per_stage"),
        *("n_blocks_per_stage", "n_conv_per_stage_decoder", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op"),
        *("dropout_op_kwargs", "nonlin", "nonlin_kwargs"),
    }
    odd = sorted(set(given) - known)
    if given:
        affine = given.get("norm_op_kwargs") or {}
        odd += [name for name in ("dropout_op",) if given.get(name) is not None]
        odd += [] if given.get("conv_bias") is True else ["conv_bias"]
        odd += [] if "InstanceNorm" in str(given.get("norm_op")) and affine.get("affine") is True else ["norm_op"]
        odd += [] if affine.get("eps", 1e-5) == 1e-5 else ["norm_op_kwargs"]
        odd += [] if str(given.get("nonlin")).endswith("LeakyReLU") else ["nonlin"]
    if odd:
        raise BundleError(f"the plan's network has its own {', '.join(odd)}, which cannot be imported")
