"""The networks at the sizes their papers and the authors' code give them: what tables, pictures and benchmarks show."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..errors import ConfigError


@dataclass(frozen=True)
class Canonical:
    """One network with the input its numbers are for.

    Attributes:
        architecture, options: the arguments of `build_model`.
        spatial: the size of the input in voxels, (K, J, I) or (H, W).
        title: as the papers call it.
    """

    architecture: str
    title: str
    spatial: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """A batch of one."""
        return (1, self.options["in_channels"], *self.spatial)


def _residual(stages: int, largest: int, spatial: tuple[int, ...], classes: int) -> dict[str, Any]:
    """As nnU-Net plans it: widths doubled from 32 to `largest`, 3-kernels, halved between stages."""
    return {
        "spatial_dims": len(spatial),
        "in_channels": 1,
        "num_classes": classes,
        "features_per_stage": tuple(min(32 * 2**stage, largest) for stage in range(stages)),
        "kernel_sizes": 3,
        "strides": (1, *[2] * (stages - 1)),
    }


_CUBE, _CLINIX_PATCH, _SQUARE = (128, 128, 128), (96, 160, 160), (320, 320)
_U_3D, _U_2D = _residual(6, 320, _CUBE, classes=3), _residual(7, 512, _SQUARE, classes=14)
_VSS = {"in_channels": 1, "num_classes": 14}

CANONICAL: tuple[Canonical, ...] = (
    Canonical("lightm_unet", "LightM-UNet 3D", _CUBE, {"spatial_dims": 3, "in_channels": 1, "num_classes": 3}),
    Canonical("lightm_unet", "LightM-UNet 2D", (512, 512), {"spatial_dims": 2, "in_channels": 1, "num_classes": 2}),
    Canonical("mamba_unet", "Mamba-UNet", (224, 224), {"in_channels": 1, "num_classes": 4}),
    Canonical("swin_umamba", "Swin-UMamba", _SQUARE, _VSS),
    Canonical("swin_umamba_d", "Swin-UMamba†", _SQUARE, _VSS),
    Canonical("mambaclinix", "MambaClinix", _CLINIX_PATCH, _residual(6, 320, _CLINIX_PATCH, classes=2)),
    Canonical("umamba_bot", "U-Mamba_Bot 3D", _CUBE, _U_3D),
    Canonical("umamba_bot", "U-Mamba_Bot 2D", _SQUARE, _U_2D),
    Canonical("umamba_enc", "U-Mamba_Enc 3D", _CUBE, {**_U_3D, "input_size": _CUBE}),
    Canonical("umamba_enc", "U-Mamba_Enc 2D", _SQUARE, {**_U_2D, "input_size": _SQUARE}),
    Canonical("resenc_unet", "Residual U-Net 3D", _CUBE, _U_3D),
    Canonical("resenc_unet", "Residual U-Net 2D", _SQUARE, _U_2D),
)


def canonical(architecture: str) -> Canonical:
    """The first of `CANONICAL` of that architecture.

    Raises:
        ConfigError: no such architecture.
    """
    for network in CANONICAL:
        if network.architecture == architecture:
            return network
    known = ", ".join(sorted({network.architecture for network in CANONICAL}))
    raise ConfigError(f"unknown architecture {architecture!r}; known: {known}")
