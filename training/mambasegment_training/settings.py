"""Every choice of a training run and every default, once; `config.py` reads them from a file and from `--set`."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from MambaSegmentLib.errors import ConfigError


@dataclass(frozen=True)
class NetworkConfig:
    """An architecture by the name and options of `MambaSegmentLib.models.build_model`.

    in_channels and num_classes come from the prepared data and need not be given.
    """

    name: str = "lightm_unet"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PretrainedConfig:
    """Weights to start from: the VMamba-Tiny file, for the networks built from its blocks, or a model of ours."""

    file: str | None = None  # .pth or .safetensors
    bundle: str | None = None  # a model file to go on from (fine-tuning); its network and channels must be the run's
    encoder_only: bool = False  # leave Mamba-UNet's decoder as it starts, which its authors initialise from it as well
    freeze_epochs: int | None = None  # hold the encoder still for so long; None: as published, 10 in the Swin-UMambas

    def __post_init__(self) -> None:
        require(
            self.file is None or self.bundle is None,
            "pretrained.bundle",
            self.bundle,
            "none beside pretrained.file: a training starts from one of them",
        )
        epochs_fit = self.freeze_epochs is None or self.freeze_epochs >= 0
        require(epochs_fit, "pretrained.freeze_epochs", self.freeze_epochs, "0 or more, or none")


@dataclass(frozen=True)
class DataConfig:
    """What one training step sees."""

    # voxels (K, J, I), or (J, I) for a network of two dimensions, which sees slices across K; None: as planned
    patch_size: tuple[int, ...] | None = None
    batch_size: int = 2
    accumulate: int = (
        1  # batches whose gradients are averaged for one step: a larger batch in the memory of a small one
    )
    # of a batch, computed together; None: all on a GPU, and on a CPU as few as keep it busy, where the loss is a mean
    # over the images: the same gradient in less memory
    images_at_once: int | None = None
    foreground_fraction: float = 0.5  # of the patches hold a voxel of a label drawn evenly from those present
    # where a case lies along an axis on which it is smaller than the patch; prediction centres it, but a network that
    # only ever sees it there learns places by heart
    small_cases: Literal["centred", "anywhere"] = "centred"
    memory_limit_gib: float = 8.0  # prepared data up to this size is kept in memory, larger data is mapped
    # processes that make batches ahead, the same batches; 0: none, where the network computes on a GPU a thread does;
    # None: 0 on a CPU, and up to 8 for each GPU
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.patch_size is not None:
            require(
                len(self.patch_size) in (2, 3) and min(self.patch_size) > 0,
                "data.patch_size",
                self.patch_size,
                "three positive sizes (K, J, I), or two (J, I) of a slice",
            )
        require(self.batch_size > 0, "data.batch_size", self.batch_size, "at least 1")
        require(self.accumulate > 0, "data.accumulate", self.accumulate, "at least 1")
        at_once_fit = self.images_at_once is None or self.images_at_once > 0
        require(at_once_fit, "data.images_at_once", self.images_at_once, "at least 1, or none")
        workers_fit = self.workers is None or self.workers >= 0
        require(workers_fit, "data.workers", self.workers, "0 or more, or none")
        require(0 <= self.foreground_fraction <= 1, "data.foreground_fraction", self.foreground_fraction, "0 to 1")
        require(self.memory_limit_gib >= 0, "data.memory_limit_gib", self.memory_limit_gib, "0 or more")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training sample; the defaults are those of nnU-Net, with rotations of at most 30 degrees."""

    enabled: bool = True
    # change whole batches on the device of the network, which spares the CPU; the same distributions, other numbers
    on_device: bool = False
    # axes of the patch along which the anatomy may be mirrored: K=0, J=1, I=2; of a slice J=0, I=1
    mirror_axes: tuple[int, ...] = ()
    rotation_probability: float = 0.2
    rotation_degrees: float = 30.0
    scaling_probability: float = 0.2
    scaling: tuple[float, float] = (0.7, 1.4)
    elastic_probability: float = 0.0
    elastic_scale: tuple[float, float] = (0.1, 0.25)  # smoothness of the field, fraction of the patch edge
    elastic_magnitude_voxels: tuple[float, float] = (1.0, 3.0)
    noise_probability: float = 0.1
    noise_variance: tuple[float, float] = (0.0, 0.1)
    blur_probability: float = 0.2
    blur_sigma_voxels: tuple[float, float] = (0.5, 1.0)
    brightness_probability: float = 0.15
    brightness: tuple[float, float] = (0.75, 1.25)
    contrast_probability: float = 0.15
    contrast: tuple[float, float] = (0.75, 1.25)
    low_resolution_probability: float = 0.25
    low_resolution: tuple[float, float] = (0.5, 1.0)
    gamma_probability: float = 0.3
    inverted_gamma_probability: float = 0.1
    gamma: tuple[float, float] = (0.7, 1.5)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if entry.name.endswith("_probability"):
                require(0 <= value <= 1, f"augment.{entry.name}", value, "0 to 1")
            elif isinstance(value, tuple) and entry.name != "mirror_axes":
                require(len(value) == 2 and 0 <= value[0] <= value[1], f"augment.{entry.name}", value, "[low, high]")
        axes_fit = set(self.mirror_axes) <= {0, 1, 2} and len(set(self.mirror_axes)) == len(self.mirror_axes)
        require(axes_fit, "augment.mirror_axes", self.mirror_axes, "different axes of 0, 1, 2")
        require(0 <= self.rotation_degrees <= 180, "augment.rotation_degrees", self.rotation_degrees, "0 to 180")
        require(self.scaling[0] > 0, "augment.scaling", self.scaling, "factors above 0")


@dataclass(frozen=True)
class LossConfig:
    """A loss by the name and options of `mambasegment_training.losses.build_loss`."""

    name: str = "dice_ce"
    # the grid of the region term: so many sub-regions an axis, or as many as give them about this edge in the patch
    regions_per_axis: tuple[int, ...] | None = None
    region_edge_voxels: float | None = None
    region_edge_mm: float | None = None
    region_weights: Literal["adaptive", "fixed"] = "adaptive"  # fixed: alpha and beta as they are
    region_a: float = 0.3  # adaptive: the weights lie between a and a + b
    region_b: float = 0.4
    alpha: float = 0.3  # fixed: of false positives
    beta: float = 0.7  # fixed: of false negatives
    focal_gamma: float = 2.0  # of the focal losses
    batch_dice: bool = False
    dice_background: bool = False  # class 0 takes part in the Dice
    dice_squared: bool = False  # squares in the Dice's denominator, as Milletari et al. 2016
    scale: float = 1.0  # the whole value times this; of consequence to SGD
    # compare every output of the network, of which all but the largest serve the training alone
    deep_supervision: bool = False
    deep_supervision_weights: tuple[float, ...] | None = None  # largest output first; None: 1, 1/2, 1/4 ..., the last 0

    def __post_init__(self) -> None:
        grids = (self.regions_per_axis, self.region_edge_voxels, self.region_edge_mm)
        one_grid = sum(grid is not None for grid in grids) <= 1
        expected = "one of regions_per_axis, region_edge_voxels and region_edge_mm"
        require(one_grid, "loss", "two grids of regions", expected)
        for name in ("region_edge_voxels", "region_edge_mm"):
            edge = getattr(self, name)
            require(edge is None or edge > 0, f"loss.{name}", edge, "above 0, or none")
        require(self.scale > 0, "loss.scale", self.scale, "above 0")
        require(self.focal_gamma >= 0, "loss.focal_gamma", self.focal_gamma, "0 or more")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, Adam (whose decay is part of the gradient), or SGD."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    decay_all: bool = False  # scales, biases and A_log too, as the published trainings do
    momentum: float = 0.99  # SGD only
    nesterov: bool = True  # SGD only
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW and Adam only
    eps: float = 1e-8  # AdamW and Adam only
    gradient_clip: float | None = 12.0  # largest norm of all gradients together; None: no clipping
    shard: bool = False  # over several processes each keeps its share of the moments (ZeRO, stage 1)
    # steps in a row whose loss or gradient is no number: they are left out; after so many a training in bfloat16 goes
    # on in float32, and one in float32 ends
    bad_steps: int = 5

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "above 0")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "0 to below 1")
        require(all(0 <= beta < 1 for beta in self.betas), "optimizer.betas", self.betas, "0 to below 1")
        require(self.eps > 0, "optimizer.eps", self.eps, "above 0")
        clip_fits = self.gradient_clip is None or self.gradient_clip > 0
        require(clip_fits, "optimizer.gradient_clip", self.gradient_clip, "above 0, or none")
        require(self.bad_steps > 0, "optimizer.bad_steps", self.bad_steps, "at least 1")


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate falls from its peak to `final_fraction` of it."""

    name: Literal["poly", "cosine", "constant"] = "poly"
    power: float = 0.9  # poly only
    warmup_steps: int = 0
    final_fraction: float = 0.0
    epochs: int | None = (
        None  # that the fall takes, where the training ends before it does; None: those of the training
    )

    def __post_init__(self) -> None:
        require(self.power > 0, "schedule.power", self.power, "above 0")
        require(self.warmup_steps >= 0, "schedule.warmup_steps", self.warmup_steps, "0 or more")
        require(0 <= self.final_fraction <= 1, "schedule.final_fraction", self.final_fraction, "0 to 1")
        require(self.epochs is None or self.epochs > 0, "schedule.epochs", self.epochs, "at least 1, or none")


@dataclass(frozen=True)
class ValidationConfig:
    """When whole validation volumes are segmented, and how."""

    every_epochs: int = 5
    tile_step: float = 0.5  # of the patch edge, for volumes larger than the patch
    patience: int | None = None  # validations in a row without a new best after which the training ends; None: never

    def __post_init__(self) -> None:
        require(self.patience is None or self.patience > 0, "validation.patience", self.patience, "1 or more, or none")
        require(self.every_epochs > 0, "validation.every_epochs", self.every_epochs, "at least 1")
        require(0 < self.tile_step <= 1, "validation.tile_step", self.tile_step, "above 0 to 1")


@dataclass(frozen=True)
class WatchConfig:
    """Who else is told of the run, through their own libraries."""

    mlflow: bool = False
    wandb: bool = False
    project: str = "mambasegment"  # MLflow's experiment, Weights & Biases' project


@dataclass(frozen=True)
class TrainingConfig:
    """One experiment.

    `card` is what the exported model tells about itself; `card.py` documents and checks its keys.
    """

    seed: int = 20240917
    epochs: int = 200
    steps_per_epoch: int = 100
    fold: int | Literal["all"] = 0  # of the data set's folds; "all" trains on every case, and keeps the last weights
    ema_decay: float | None = None  # average of the weights over about 1 / (1 - decay) steps; None: no average
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on CUDA devices that have it
    # torch.compile: minutes before the first step; time some steps to see whether it pays. Where PyTorch finds no
    # compiler, the run says so and goes on uncompiled
    compile: bool = False
    activation_checkpointing: bool = False  # a fraction of the memory for another forward pass; same results to the bit
    deterministic: bool = True
    cpu_threads: int | None = None  # of PyTorch; part of the recipe, since sums depend on it; None: PyTorch's choice
    save_every_minutes: float = 15.0  # within long epochs; the state is saved at the end of each anyway
    network: NetworkConfig = field(default_factory=NetworkConfig)
    pretrained: PretrainedConfig = field(default_factory=PretrainedConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    card: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(self.fold == "all" or self.fold >= 0, "fold", self.fold, "0 or more, or all")
        require(self.save_every_minutes > 0, "save_every_minutes", self.save_every_minutes, "above 0")
        require(self.epochs > 0, "epochs", self.epochs, "at least 1")
        require(self.steps_per_epoch > 0, "steps_per_epoch", self.steps_per_epoch, "at least 1")
        threads_fit = self.cpu_threads is None or self.cpu_threads > 0
        require(threads_fit, "cpu_threads", self.cpu_threads, "at least 1, or none")
        decay_fits = self.ema_decay is None or 0 < self.ema_decay < 1
        require(decay_fits, "ema_decay", self.ema_decay, "between 0 and 1, or none")

    def to_json(self) -> dict[str, Any]:
        """All choices as plain JSON values; `config_from_json` reads them back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # tuples become lists


def require(condition: bool, name: str, value: Any, expected: str) -> None:
    """Raises: ConfigError, when a setting is not what it must be."""
    if not condition:
        raise ConfigError(f"setting {name} is {value!r}; expected {expected}")
