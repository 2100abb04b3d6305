"""The random changes of `augment.py` on the device of the network, for GPUs whose CPU cannot keep up.

The same changes in the same order with parameters of the same distributions, written in PyTorch throughout (the library
behind `augment.py` computes grids, labels and blur on the CPU). Parameters come from a generator of each sample, so a
sample is the same in whatever batch or process; the numbers are others than those of `augment.py`.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from .config import AugmentConfig

_P_CHANNEL = 0.5  # of blur and low resolution, as in augment.py
_TINY = 1e-7


class DeviceAugmentation:
    """Turns patches of the source size into augmented ones of `patch_size`, where they are."""

    def __init__(self, config: AugmentConfig, patch_size: tuple[int, ...]) -> None:
        self._config, self._patch = config, patch_size

    def __call__(self, image: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> tuple[Tensor, Tensor]:
        """Augment one sample; the same seed gives the same result on the same kind of device.

        Args:
            image: float32 (C, *source); labels: integers (1, *source).
        Returns:
            image (C, *patch_size) and labels (1, *patch_size) on the same device.
        """
        config, rng = self._config, np.random.default_rng(seed)
        noise = torch.Generator(image.device).manual_seed(int(rng.integers(2**63)))
        grid = self._grid(rng, noise, image)
        if grid is None:
            image, labels = _middle(image, self._patch).clone(), _middle(labels, self._patch)
        else:
            image, labels = _sampled(image, grid), _sampled_labels(labels, grid)
        if rng.random() < config.noise_probability:
            deviation = rng.uniform(*config.noise_variance)
            image += deviation * torch.randn(image.shape, generator=noise, device=image.device)
        for channel in image:
            self._change(channel, rng)
        axes = [axis + 1 for axis in config.mirror_axes if rng.random() < 0.5]
        return (image.flip(axes), labels.flip(axes)) if axes else (image, labels)

    def _change(self, x: Tensor, rng: np.random.Generator) -> None:
        """Intensities of one channel, in place."""
        config = self._config
        if rng.random() < config.blur_probability and rng.random() < _P_CHANNEL:
            x.copy_(_blurred(x, [rng.uniform(*config.blur_sigma_voxels) for _ in x.shape]))
        if rng.random() < config.brightness_probability:
            x *= _factor(config.brightness, rng)
        if rng.random() < config.contrast_probability:
            low, high = torch.aminmax(x)
            mean = x.mean()
            x.copy_(((x - mean) * _factor(config.contrast, rng) + mean).clamp(low, high))
        if rng.random() < config.low_resolution_probability and rng.random() < _P_CHANNEL:
            x.copy_(_at_low_resolution(x, rng.uniform(*config.low_resolution)))
        if rng.random() < config.inverted_gamma_probability:
            x.copy_(-_with_gamma(-x, _factor(config.gamma, rng)))
        if rng.random() < config.gamma_probability:
            x.copy_(_with_gamma(x, _factor(config.gamma, rng)))

    def _grid(self, rng: np.random.Generator, noise: torch.Generator, image: Tensor) -> Tensor | None:
        """Where each voxel of the patch comes from, as grid_sample takes it; None where nothing is turned or bent."""
        config, dims = self._config, len(self._patch)
        turned = rng.random() < config.rotation_probability
        scaled = rng.random() < config.scaling_probability
        bent = rng.random() < config.elastic_probability
        if not (turned or scaled or bent):
            return None
        limit = np.deg2rad(config.rotation_degrees) if turned else 0.0
        matrix = _rotation(rng.uniform(-limit, limit, 3 if dims == 3 else 1).tolist())
        matrix = matrix * (rng.uniform(*config.scaling) if scaled else 1.0)
        device = image.device
        places = [torch.linspace((1 - size) / 2, (size - 1) / 2, size, device=device) for size in self._patch]
        grid = torch.stack(torch.meshgrid(*places, indexing="ij"), -1)
        if bent:
            grid = grid + self._bending(rng, noise, device)
        grid = grid @ torch.from_numpy(matrix.T).to(grid)
        if bent:
            grid = grid - grid.mean(tuple(range(dims)))
        half = torch.tensor(image.shape[1:], device=device) / 2
        return (grid / half).flip(-1)  # from -1 to 1 between the outer edges; the last axis first

    def _bending(self, rng: np.random.Generator, noise: torch.Generator, device: torch.device) -> Tensor:
        """Smooth random shifts in voxels: (*patch_size, dims)."""
        config, shifts = self._config, []
        axes = range(len(self._patch))
        for along in axes:
            width = rng.uniform(*config.elastic_scale) * self._patch[along]
            spectrum = torch.fft.fftn(torch.randn(self._patch, generator=noise, device=device))
            for axis in axes:
                frequency = torch.fft.fftfreq(self._patch[axis], device=device)
                damping = torch.exp(-2 * (math.pi * width * frequency) ** 2)  # of a Gaussian of that width
                spectrum *= damping.view([-1 if other == axis else 1 for other in axes])
            shift = torch.fft.ifftn(spectrum).real
            shifts.append(shift * (rng.uniform(*config.elastic_magnitude_voxels) / shift.abs().max().clamp(min=_TINY)))
        return torch.stack(shifts, -1)


def _rotation(angles: Sequence[float]) -> np.ndarray:
    """About each axis in turn, or in the plane."""
    if len(angles) == 3:
        return Rotation.from_euler("xyz", angles).as_matrix()
    sine, cosine = math.sin(angles[0]), math.cos(angles[0])
    return np.array([[cosine, -sine], [sine, cosine]])


def _factor(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    """Below 1 as often as above, as nnU-Net draws factors."""
    if rng.random() < 0.5 and bounds[0] < 1:
        return float(rng.uniform(bounds[0], 1))
    return float(rng.uniform(max(bounds[0], 1), bounds[1]))


def _middle(array: Tensor, size: Sequence[int]) -> Tensor:
    """Voxel n // 2 of what is cut lies on voxel n // 2 of the source."""
    for axis, (extent, wanted) in enumerate(zip(array.shape[1:], size, strict=True), start=1):
        array = array.narrow(axis, extent // 2 - wanted // 2, wanted)
    return array


def _sampled(image: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(image[None], grid[None], align_corners=False)[0]


def _sampled_labels(labels: Tensor, grid: Tensor) -> Tensor:
    """The label whose indicator, interpolated, is the largest; 0 beyond the source."""
    values = labels.unique()
    best = torch.full(grid.shape[:-1], 0.0, device=labels.device)
    chosen = torch.zeros(grid.shape[:-1], dtype=labels.dtype, device=labels.device)
    rest = torch.ones_like(best)  # what no other label has is background
    for value in values[values != 0]:
        share = _sampled((labels == value).float(), grid)[0]
        rest -= share
        chosen = torch.where(share > best, value, chosen)
        best = torch.maximum(share, best)
    return torch.where(rest > best, torch.zeros_like(chosen), chosen)[None]


def _blurred(x: Tensor, sigmas: Sequence[float]) -> Tensor:
    dims = x.ndim
    convolve = F.conv3d if dims == 3 else F.conv2d
    for axis, sigma in enumerate(sigmas):
        radius = min(round((sigma * 6 + 0.5 - 1) / 2), x.shape[axis] - 1)
        places = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
        kernel = torch.exp(-0.5 * (places / sigma) ** 2)
        kernel = (kernel / kernel.sum()).view([-1 if other == axis else 1 for other in range(dims)])
        margins = [radius if other == axis else 0 for other in reversed(range(dims)) for _ in range(2)]
        x = convolve(F.pad(x[None, None], margins, mode="reflect"), kernel[None, None])[0, 0]
    return x


def _at_low_resolution(x: Tensor, scale: float) -> Tensor:
    small = F.interpolate(x[None, None], [max(1, round(size * scale)) for size in x.shape], mode="nearest-exact")
    return F.interpolate(small, list(x.shape), mode="trilinear" if x.ndim == 3 else "bilinear")[0, 0]


def _with_gamma(x: Tensor, gamma: float) -> Tensor:
    """Mean and standard deviation stay as they are."""
    low, high = torch.aminmax(x)
    extent = high - low
    y = ((x - low) / extent.clamp(min=_TINY)) ** gamma * extent + low
    return (y - y.mean()) * (x.std() / y.std().clamp(min=_TINY)) + x.mean()
