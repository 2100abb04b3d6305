"""ImageNet weights of VMamba-Tiny as the start of the networks that are built from its blocks.

Source of the weights: Liu et al. 2024, "VMamba", arXiv:2401.10166, first released format (January 2024). Which tensors
go where is as in the released code of Mamba-UNet and the Swin-UMambas, slips included: Mamba-UNet copies the encoder's
blocks into its decoder as well, which its paper does not say; Swin-UMamba takes the bias of the patch embedding's norm
and nothing else of the embedding, whose patch is smaller.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BundleError, ConfigError
from .published import can_be_weights, listed
from .renaming import Renaming, renamed

# our names -> VMamba's: the first pattern that matches; what none matches starts afresh
_ENCODER: Renaming = (
    (r"^encoder\.stages\.(\d+)\.(\d+)\.", r"layers.\1.blocks.\2."),
    (r"^encoder\.mergings\.(\d+)\.", r"layers.\1.downsample."),
)
_EMBEDDING: Renaming = ((r"^encoder\.patch_embed\.", "patch_embed."),)
_EMBEDDING_BIAS: Renaming = ((r"^encoder\.patch_embed\.norm\.bias$", "patch_embed.norm.bias"),)
_NORM: Renaming = ((r"^norm\.", "norm."),)
_FROZEN_EPOCHS = {"swin_umamba": 10, "swin_umamba_d": 10}
_INSIDE_BLOCKS: Renaming = (
    (r"(blocks\.\d+)\.norm\.", r"\1.ln_1."),
    (r"(blocks\.\d+)\.ss2d\.", r"\1.self_attention."),
)
# in names of the authors' segmentation networks, and of our own model and training files
_OF_SEGMENTATION = re.compile(
    r"(^|\.)(vssm_encoder|layers_up|seg_layers|network_weights|convInit)(\.|$)|^(fold_\d+|weights)/"
)


@dataclass(frozen=True)
class PretrainedReport:
    """What became of a pretrained file.

    Attributes:
        sources: our names of what was loaded -> the file's names.
        afresh: our names of the tensors that keep their starting values.
        not_used: the file's names that have no place in the network.
        parameters_loaded, parameters_total: numbers of the network's values.
    """

    sources: dict[str, str]
    afresh: tuple[str, ...]
    not_used: tuple[str, ...]
    parameters_loaded: int
    parameters_total: int

    def summary(self) -> str:
        """One line for a log."""
        return (
            f"{len(self.sources)} of {len(self.sources) + len(self.afresh)} tensors "
            f"({self.parameters_loaded / 1e6:.1f} of {self.parameters_total / 1e6:.1f} million parameters) pretrained; "
            f"{len(self.not_used)} of the file's tensors not used"
        )


def load_pretrained(net: nn.Module, checkpoint: Mapping[str, Any], *, encoder_only: bool = False) -> PretrainedReport:
    """Put VMamba-Tiny's weights into a network made by `build_model`, as its authors do.

    Args:
        net: "mamba_unet", "swin_umamba" or "swin_umamba_d"; widths as VMamba-Tiny's, stages at most as deep.
        checkpoint: the file's content: tensors by name, or a dict with them under "model".
        encoder_only: leave Mamba-UNet's decoder and the norm before it as they start, as its paper reads.
    Raises:
        ConfigError: a network without such an encoder.
        BundleError: another kind of file, or tensors missing or of another shape; nothing is loaded then.
    """
    if not isinstance(checkpoint, Mapping):
        raise BundleError(f"not a VMamba-Tiny file: it holds a {type(checkpoint).__name__}; expected tensors by name")
    tensors = checkpoint["model"] if isinstance(checkpoint.get("model"), Mapping) else checkpoint
    _refuse_other_files(tensors)
    state = net.state_dict()
    names = _names_for(net, encoder_only)
    sources = {name: theirs for name in state if (theirs := _source_of(name, names)) is not None}
    _check_tensors(net, tensors, sources)
    with torch.no_grad():
        for name, theirs in sources.items():
            state[name].copy_(tensors[theirs])  # the state's tensors are the network's own
    used = set(sources.values())
    return PretrainedReport(
        sources,
        tuple(name for name in state if name not in sources),
        tuple(name for name in tensors if name not in used),
        sum(state[name].numel() for name in sources),
        sum(tensor.numel() for tensor in state.values()),
    )


def _check_tensors(net: nn.Module, tensors: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """Raises BundleError unless every tensor that is wanted is there and can be used; each that is not is named."""
    state = net.state_dict()
    missing = [theirs for theirs in sources.values() if not _usable(tensors.get(theirs))]
    found = {name: tensors[theirs] for name, theirs in sources.items() if theirs not in missing}
    misshapen = [
        f"{sources[name]} {tuple(tensor.shape)} instead of {tuple(state[name].shape)}"
        for name, tensor in found.items()
        if tensor.shape != state[name].shape
    ]
    if missing or misshapen:
        raise BundleError(
            f"the pretrained file does not fit this {net.architecture_name}"
            f"{listed('missing', missing)}{listed('of another shape', misshapen)}; use VMamba-Tiny's widths "
            "(96, 192, 384, 768) and stages of at most 2, 2, 9 and 2 blocks"
        )
    broken = [sources[name] for name, tensor in found.items() if not tensor.is_meta and not tensor.isfinite().all()]
    if broken:
        raise BundleError(f"the pretrained file is damaged{listed('not a number or infinite', broken)}; fetch it again")


def _usable(value: Any) -> bool:
    return isinstance(value, Tensor) and can_be_weights(value)


def encoder_to_freeze(net: nn.Module) -> list[str]:
    """Names of the parameters that the Swin-UMambas hold still at first: the encoder past its embedding.

    With three input channels Swin-UMamba†'s embedding is pretrained too, but trains from the start all the same.
    """
    names = [name for name, _ in net.named_parameters()]
    return [name for name in names if name.startswith("encoder.") and "patch_embed" not in name]


def published_freeze_epochs(net: nn.Module) -> int:
    """For how many epochs the authors hold `encoder_to_freeze` still: 10 in the Swin-UMambas, 0 in Mamba-UNet."""
    return _FROZEN_EPOCHS.get(str(net.architecture_name), 0)


def _names_for(net: Any, encoder_only: bool) -> Renaming:
    """What of a network comes from VMamba."""
    channels = getattr(net.config, "in_channels", None)
    if net.architecture_name == "swin_umamba":
        return _ENCODER + _EMBEDDING_BIAS
    if net.architecture_name == "swin_umamba_d":
        return _ENCODER + (_EMBEDDING if channels == 3 else ())
    if net.architecture_name == "mamba_unet":
        encoder = _ENCODER + (_EMBEDDING if channels in (1, 3) else ())  # one channel is tiled to three
        return encoder if encoder_only else encoder + _NORM + _decoder_as_encoder(len(net.config.dims))
    raise ConfigError(
        f"{net.architecture_name} has no VMamba encoder; mamba_unet, swin_umamba and swin_umamba_d have one"
    )


def _decoder_as_encoder(stages: int) -> Renaming:
    """Each decoder level from the stage that it mirrors; levels count from the coarsest."""
    return tuple(
        (rf"^decoder\.{level}\.blocks\.(\d+)\.", rf"layers.{stages - 2 - level}.blocks.\1.")
        for level in range(stages - 1)
    )


def _source_of(name: str, names: Renaming) -> str | None:
    for pattern, replacement in names:
        if re.search(pattern, name):
            return renamed(re.sub(pattern, replacement, name), _INSIDE_BLOCKS)
    return None


def _refuse_other_files(tensors: Mapping[str, Any]) -> None:
    """Raises BundleError unless the names are those of VMamba's first format."""
    if "layers.0.blocks.0.self_attention.A_logs" in tensors and "layers_up.0.expand.weight" not in tensors:
        return
    if any(_OF_SEGMENTATION.search(str(name)) for name in tensors):
        raise BundleError(
            "these are weights of a segmentation network, not ImageNet weights; convert them with "
            "'mambasegment models import', or give the VMamba-Tiny file"
        )
    if any(re.match(r"(patch_embed\.[02]\.|classifier\.|layers\.\d+\.blocks\.\d+\.op\.)", str(key)) for key in tensors):
        raise BundleError(
            "this file is of a newer VMamba release, whose layers differ; the networks need the first format: "
            "vssmtiny_dp01_ckpt_epoch_292.pth (vmamba_tiny_e292.pth)"
        )
    shown = ", ".join(list(map(str, tensors))[:4]) or "nothing"
    raise BundleError(f"not a VMamba-Tiny file: it holds {shown}; expected layers.0.blocks.0.self_attention.A_logs …")
