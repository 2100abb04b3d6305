"""What a run is made of, built from its settings and its data: cases, network, loss, optimiser."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.manifest import Region
from MambaSegmentLib.models import encoder_to_freeze
from MambaSegmentLib.progress import CancelToken

from .average import WeightAverage
from .checkpoint import TrainingState
from .config import TrainingConfig
from .data import CaseStore
from .deep_supervision import finest_output, give_all_outputs, output_weights
from .images_at_once import images_at_once
from .losses import build_loss
from .network import HeldStill, build_network, patch_size_of
from .optimizer import build_optimizer
from .prepare import PreparedDataset
from .pretrained import Start, freeze_epochs_of, start_from
from .ranks import Ranks
from .region_grid import regions_per_axis
from .sampler import Sampler
from .split import Split
from .step import Stepper
from .validate import Scores, validate


@dataclass(frozen=True)
class RunParts:
    """The parts of a run.

    Attributes:
        start: what the weights came from, where they are not random.
        names: of what is scored: value of a label or region -> name.
    """

    dataset: PreparedDataset
    config: TrainingConfig
    ranks: Ranks
    device: torch.device
    patch_size: tuple[int, ...]
    start: Start | None
    state: TrainingState
    stepper: Stepper
    sampler: Sampler
    validation_cases: CaseStore
    names: dict[int, str]

    def start_record(self) -> dict[str, Any] | None:
        """The content of pretrained.json."""
        return None if self.start is None else self.start.to_json()

    def validate(self, cancel: CancelToken) -> Scores:
        """Dice of each validation case and label, or region, with the network's weights of now."""
        with finest_output(self.state.network):
            return validate(
                self.state.network,
                self.validation_cases,
                list(self.dataset.labels),
                self.patch_size,
                self.device,
                ignore_label=self.dataset.ignore_label,
                regions=self.dataset.regions,
                tile_step=self.config.validation.tile_step,
                ranks=self.ranks,
                cancel=cancel,
            )


def build_parts(
    dataset: PreparedDataset, config: TrainingConfig, device: str, ranks: Ranks, *, fresh: bool = True
) -> RunParts:
    """Put a run together.

    Args:
        device: "auto", or what torch.device takes.
        fresh: the weights begin as configured; a run that goes on from a state needs no file for that.
    Raises:
        as `fit`.
    """
    chosen = ranks.device(device)
    precision = _precision(config, chosen)
    split = split_of(dataset, config.fold)
    network = build_network(dataset, config)
    patch_size = patch_size_of(network, dataset, config)
    deep = wants_all_outputs(config)
    loss = loss_of(config, network, patch_size, dataset.preprocessing.spacing_mm, dataset.ignore_label, dataset.regions)
    start = start_from(network, config.pretrained, dataset) if fresh else None
    network = network.to(chosen)
    if deep:
        give_all_outputs(network)
    average = None if config.ema_decay is None else WeightAverage(network, config.ema_decay)
    state = TrainingState(network, build_optimizer(config.optimizer, network, ranks), average)
    at_once = images_at_once(config, network, loss, patch_size, chosen)
    held = _held_still(network, config)
    limit = config.data.memory_limit_gib * 2**30
    training, validation = (
        CaseStore(dataset.folder / "cases", side, limit) for side in (split.train, split.validation)
    )
    return RunParts(
        dataset,
        config,
        ranks,
        chosen,
        patch_size,
        start,
        state,
        Stepper(state, loss, held, config, chosen, ranks, precision=precision, at_once=at_once),
        Sampler(training, config, patch_size, ranks.rank, ranks.size),
        validation,
        {region.value: region.name for region in dataset.regions} or dict(dataset.labels),
    )


def wants_all_outputs(config: TrainingConfig) -> bool:
    """Whether the loss looks at every resolution that the network gives."""
    return config.loss.deep_supervision or config.loss.deep_supervision_weights is not None


def loss_of(
    config: TrainingConfig,
    network: nn.Module,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float | None] | None,
    ignore_label: int | None,
    regions: Sequence[Region] = (),
) -> nn.Module:
    """The loss as configured, for patches of that size on a grid of that spacing."""
    weights = output_weights(network, config.loss.deep_supervision_weights) if wants_all_outputs(config) else None
    return build_loss(
        config.loss.name,
        regions_per_axis=regions_per_axis(config.loss, patch_size, spacing_mm),
        ignore_label=ignore_label,
        deep_supervision_weights=weights,
        label_regions=[region.labels for region in regions],
        **_loss_options(config),
    )


def split_of(dataset: PreparedDataset, fold: int | str) -> Split:
    """The cases of a fold; of "all" every case trains, and those of the first fold's validation are watched as well.

    Raises:
        ConfigError: no such fold.
    """
    if fold == "all":
        first = dataset.folds[0]
        return Split(tuple(sorted({*first.train, *first.validation})), first.validation)
    if not isinstance(fold, int) or fold >= len(dataset.folds):
        last = len(dataset.folds) - 1
        raise ConfigError(f"fold {fold} does not exist: {dataset.folder} has the folds 0 to {last}, and all")
    return dataset.folds[fold]


def _loss_options(config: TrainingConfig) -> dict[str, Any]:
    names = ("batch_dice", "dice_background", "dice_squared", "scale", "region_weights", "region_a", "region_b")
    return {name: getattr(config.loss, name) for name in (*names, "alpha", "beta", "focal_gamma")}


def _precision(config: TrainingConfig, device: torch.device) -> str:
    if config.precision != "auto":
        return config.precision
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def _held_still(network: nn.Module, config: TrainingConfig) -> HeldStill:
    """The pretrained encoder in the first epochs; nothing where there is none."""
    epochs = freeze_epochs_of(network, config.pretrained)
    return HeldStill(network, encoder_to_freeze(network) if epochs else [], epochs * config.steps_per_epoch)
