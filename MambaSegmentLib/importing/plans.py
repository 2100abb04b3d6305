"""nnU-Net's plans.json, in the format before 2.3 that the forks write, and in the one since.

Source: the files themselves, and the documentation of nnU-Net's plans (documentation/explanation_plans_files.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BundleError
from .json_file import entry

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class NetworkPlan:
    """The U-Net of a configuration, one entry per stage from full resolution down.

    Attributes:
        class_name: "PlainConvUNet", "ResidualEncoderUNet" or another one.
        encoder_blocks, decoder_blocks: convolutions, or residual blocks, of each stage and of each decoder level.
        arguments: of the newer format, as they are; empty for the older one.
    """

    class_name: str
    features: Sizes
    kernels: tuple[Sizes, ...]
    strides: tuple[Sizes, ...]
    encoder_blocks: Sizes
    decoder_blocks: Sizes
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """One configuration of a plans.json, what it inherits included.

    Attributes:
        content: of the configuration.
        plans: the whole file.
    """

    name: str
    content: Mapping[str, Any]
    plans: Mapping[str, Any]

    @property
    def patch_size(self) -> Sizes:
        sizes = entry(self.content, "patch_size", list, self.where)
        if len(sizes) not in (2, 3) or not all(type(size) is int and size > 0 for size in sizes):
            raise BundleError(f"{self.where}: patch_size is {sizes}; expected two or three positive whole numbers")
        return tuple(sizes)

    @property
    def where(self) -> str:
        return f"the configuration {self.name!r} of plans.json"

    @property
    def network(self) -> NetworkPlan:
        """Raises: BundleError, where the plan does not describe a U-Net."""
        if isinstance(self.content.get("architecture"), Mapping):
            return self._newer(self.content["architecture"])
        return self._older()

    def _older(self) -> NetworkPlan:
        content, where = self.content, self.where
        kernels = entry(content, "conv_kernel_sizes", list, where)
        base = entry(content, "UNet_base_num_features", int, where)
        largest = entry(content, "unet_max_num_features", int, where)
        return NetworkPlan(
            class_name=str(content.get("UNet_class_name", "")),
            features=tuple(min(base * 2**stage, largest) for stage in range(len(kernels))),
            kernels=_rows(kernels, where),
            strides=_rows(entry(content, "pool_op_kernel_sizes", list, where), where),
            encoder_blocks=_numbers(entry(content, "n_conv_per_stage_encoder", list, where), where),
            decoder_blocks=_numbers(entry(content, "n_conv_per_stage_decoder", list, where), where),
            arguments={},
        )

    def _newer(self, architecture: Mapping[str, Any]) -> NetworkPlan:
        where = f"the architecture of {self.where}"
        given = entry(architecture, "arch_kwargs", Mapping, where)
        blocks = "n_blocks_per_stage" if "n_blocks_per_stage" in given else "n_conv_per_stage"
        return NetworkPlan(
            class_name=str(architecture.get("network_class_name", "")).rsplit(".", 1)[-1],
            features=_numbers(entry(given, "features_per_stage", list, where), where),
            kernels=_rows(entry(given, "kernel_sizes", list, where), where),
            strides=_rows(entry(given, "strides", list, where), where),
            encoder_blocks=_numbers(entry(given, blocks, list, where), where),
            decoder_blocks=_numbers(entry(given, "n_conv_per_stage_decoder", list, where), where),
            arguments=given,
        )


def resolve(plans: Mapping[str, Any], name: str) -> Plan:
    """A configuration by its name; what it inherits is overridden by what it says itself.

    Raises:
        BundleError: no such configuration, or one that inherits from itself.
    """
    configurations = entry(plans, "configurations", Mapping, "plans.json")
    content: dict[str, Any] = {}
    seen: list[str] = []
    current: Any = name
    while current is not None:
        if current in seen:
            raise BundleError(f"plans.json: {' inherits from '.join([*seen, current])}, a circle")
        if not isinstance(configurations.get(current), Mapping):
            raise BundleError(
                f"plans.json has no configuration {current!r}; it has {', '.join(map(str, configurations)) or 'none'}"
            )
        seen.append(current)
        content = {**configurations[current], **content}
        current = configurations[current].get("inherits_from")
    return Plan(name, content, plans)


def _rows(value: Sequence[Any], where: str) -> tuple[Sizes, ...]:
    if not all(isinstance(row, list) for row in value):
        raise BundleError(f"{where}: {value!r:.200} should hold a list of numbers for each stage")
    return tuple(_numbers(row, where) for row in value)


def _numbers(value: Sequence[Any], where: str) -> Sizes:
    if not all(type(number) is int and 0 < number < 1 << 20 for number in value):
        raise BundleError(f"{where}: {value!r:.200} should hold positive whole numbers")
    return tuple(value)
