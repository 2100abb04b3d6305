"""A recipe put into a plan of stock nnU-Net, which `MambaSegmentTrainer` then follows.

    mambatrain nnunet-plans $nnUNet_preprocessed/Dataset004_X/nnUNetPlans.json --config recipe.toml
    nnUNetv2_train 4 3d_fullres 0 -tr MambaSegmentTrainer -p MambaSegmentPlans

The configuration keeps its data, so nothing is preprocessed anew; it gets the recipe's network, patch and batch, and
the recipe itself under the key `mambasegment`. Augmentation, clipping (at 12) and precision are nnU-Net's.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.importing.plans import Plan, resolve
from MambaSegmentLib.models import build_model
from MambaSegmentLib.models.for_nnunet import architecture_entry
from MambaSegmentLib.models.planned_patch import enlarged_patch, with_input_size
from MambaSegmentLib.models.registry import architecture_named

from .config import TrainingConfig, config_from_json
from .storage import read_json, write_json

KEY = "mambasegment"
DEFAULT_NAME = "MambaSegmentPlans"
_ANY = 1  # channels and classes, which change neither stages nor sizes and which nnU-Net gives when it builds


def write_plans(
    source: Path, config: TrainingConfig, *, configuration: str = "3d_fullres", name: str = DEFAULT_NAME
) -> Path:
    """Write NAME.json beside a plan of nnU-Net's.

    Raises:
        ConfigError: no such plan or configuration, a network that does not fit it, or settings that nnU-Net has no
            place for.
    """
    plans = read_json(source, "run nnUNetv2_plan_and_preprocess first")
    if not isinstance(plans, Mapping) or "configurations" not in plans:
        raise ConfigError(f"{source} has no 'configurations'; expected plans of nnU-Net")
    target = source.with_name(f"{name}.json")
    if target == source:
        raise ConfigError(f"{source} would be lost; choose another --name than {name!r}")
    write_json(target, with_recipe(plans, config, configuration, name))
    return target


def with_recipe(plans: Mapping[str, Any], config: TrainingConfig, configuration: str, name: str) -> dict[str, Any]:
    """A plan of one configuration that trains by a recipe."""
    _refuse_what_has_no_place(config)
    plan = resolve(plans, configuration)
    options, patch = _network(plan, config)
    content = {key: value for key, value in plan.content.items() if key != "inherits_from"}
    content |= {
        "architecture": architecture_entry(config.network.name, options),
        "patch_size": list(patch),
        "batch_size": config.data.batch_size,
        KEY: {"recipe": config.to_json()},
    }
    return {**plans, "plans_name": name, "configurations": {configuration: content}}


def recipe_of(configuration: Mapping[str, Any]) -> TrainingConfig:
    """The recipe in a configuration of a plan.

    Raises:
        ConfigError: it has none.
    """
    content = configuration.get(KEY)
    if not isinstance(content, Mapping) or not isinstance(content.get("recipe"), Mapping):
        raise ConfigError("the plans hold no recipe for MambaSegmentTrainer; make them with `mambatrain nnunet-plans`")
    return config_from_json(content["recipe"])


def _network(plan: Plan, config: TrainingConfig) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Options of `build_model`, and the patch: chosen, or planned and enlarged."""
    name, planned = config.network.name, plan.patch_size
    known = {field.name for field in fields(architecture_named(name).config)}
    from_plan: dict[str, Any] = {"spatial_dims": len(planned)}
    if "strides" in known and "strides" not in config.network.options:
        stages = plan.network
        from_plan |= {
            "features_per_stage": list(stages.features),
            "kernel_sizes": [list(row) for row in stages.kernels],
            "strides": [list(row) for row in stages.strides],
            "encoder_blocks": list(stages.encoder_blocks),
            "decoder_blocks": list(stages.decoder_blocks),
        }
        if not name.endswith("conv_unet") and not name.startswith("residual_"):  # the others have their own numbers
            del from_plan["encoder_blocks"], from_plan["decoder_blocks"]
    options = {key: value for key, value in from_plan.items() if key in known} | config.network.options
    options |= {"in_channels": _ANY, "num_classes": _ANY + 1}
    options = with_input_size(name, options, planned, config.data.patch_size)
    with torch.device("meta"):
        network: Any = build_model(name, options)
    patch = tuple(config.data.patch_size or enlarged_patch(network, planned))
    if len(patch) != len(planned) or network.config.spatial_dims != len(planned):
        raise ConfigError(
            f"{plan.where} has patches of {len(planned)} dimensions, and {name} here takes "
            f"{network.config.spatial_dims}; choose another configuration"
        )
    network.check_input(torch.empty(1, _ANY, *patch, device="meta"))
    return options, patch


def _refuse_what_has_no_place(config: TrainingConfig) -> None:
    """Better than a training that follows half of a recipe without a word."""
    if config.pretrained.file is not None:
        raise ConfigError("pretrained.file has no place in nnU-Net; give the weights to nnUNetv2_train yourself")
    if config.ema_decay is not None:
        raise ConfigError("ema_decay has no place in nnU-Net's loop; set it to none")
