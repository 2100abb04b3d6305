"""What memory a training step takes, told before the first one, and the largest batch that fits a limit."""

from dataclasses import dataclass, replace

import torch

from MambaSegmentLib.errors import ConfigError, ResourceError
from MambaSegmentLib.models.counts import count, count_parameters

from .config import TrainingConfig
from .network import build_network, patch_size_of
from .optimizer import moments_per_weight
from .prepare import PreparedDataset

_FLOAT_BYTES = 4
# Peak of a step over what is traced: convolutions keep copies in layouts of their own. Measured on a CPU in single
# precision at 40 x 56 x 40 voxels: 1.23 in LightM-UNet, 1.29 to 1.33 in the control, 1.36 in U-Mamba_Bot with deep
# supervision, 1.07 in Swin-UMamba† at 2 x 224 x 224.
_OVERHEAD = 1.4
_LOSS_COPIES = 10  # of the logits: probabilities, their gradients and what Dice and cross-entropy keep; measured


@dataclass(frozen=True)
class StepMemory:
    """An upper estimate, in single precision; measured steps took 3 to 24 % less.

    Attributes:
        weights_bytes: weights, gradients, moments of the optimiser (all of them, sharded or not) and averaged weights,
            whatever the batch.
        sample_bytes: what one image of the batch adds: its activations and the loss.
        patch_size: voxels of that image.
    """

    weights_bytes: int
    sample_bytes: int
    patch_size: tuple[int, ...]

    def of_batch(self, batch_size: int) -> int:
        """Bytes of a step on that many images."""
        return self.weights_bytes + batch_size * self.sample_bytes


def step_memory(dataset: PreparedDataset, config: TrainingConfig) -> StepMemory:
    """Estimate by walking the network through a patch without data, in seconds and next to no memory.

    Raises:
        ConfigError, ShapeError: as building the network and choosing its patch.
    """
    with torch.device("meta"):
        network = build_network(dataset, config)
        patch = patch_size_of(network, dataset, config)
        counts = count(network, (1, len(dataset.channels), *patch))
    copies = 2 + moments_per_weight(config.optimizer) + (config.ema_decay is not None)
    logits_bytes = dataset.output_count * torch.Size(patch).numel() * _FLOAT_BYTES
    activations = counts.training_memory_bytes + _LOSS_COPIES * logits_bytes
    return StepMemory(
        weights_bytes=copies * count_parameters(network) * _FLOAT_BYTES,
        sample_bytes=round(_OVERHEAD * activations),
        patch_size=patch,
    )


def with_batch_that_fits(dataset: PreparedDataset, config: TrainingConfig, memory_gb: float) -> TrainingConfig:
    """The configuration with the largest batch whose step fits, up to the recipe's or nnU-Net's, whichever is larger.

    Args:
        memory_gb: 1e9 bytes each, of the device.
    Raises:
        ConfigError: a limit of nothing. ResourceError: not even one image fits; with what would help.
    """
    if memory_gb <= 0:
        raise ConfigError(f"the memory limit is {memory_gb} GB; expected more than 0")
    needed = step_memory(dataset, config)
    fitting = int((memory_gb * 1e9 - needed.weights_bytes) // needed.sample_bytes)
    if fitting < 1:
        raise ResourceError(_too_little(needed, config, memory_gb))
    topology = dataset.plan.topologies.get(len(needed.patch_size))
    enough = max(config.data.batch_size, 1 if topology is None else topology.batch_size)
    return replace(config, data=replace(config.data, batch_size=min(fitting, enough)))


def _too_little(needed: StepMemory, config: TrainingConfig, memory_gb: float) -> str:
    patch = " x ".join(map(str, needed.patch_size))
    cheaper = "" if config.activation_checkpointing else "set activation_checkpointing to true, or "
    return (
        f"a step of {config.network.name} on one image of {patch} voxels takes about "
        f"{needed.of_batch(1) / 1e9:.1f} GB, and {memory_gb:g} GB are allowed: {cheaper}choose a smaller "
        "data.patch_size or a narrower network"
    )
