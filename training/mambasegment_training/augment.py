"""Random changes of a training sample, through batchgeneratorsv2 (the library behind nnU-Net).

That library draws from the global generators of NumPy and PyTorch; `seeded` sets them for one sample and puts back what
was there. They are global to the process: never augment in two threads at once.
"""

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from .config import AugmentConfig


class Augmentation:
    """Turns a patch of `source_size` into an augmented one of `patch_size`.

    The source is larger, so that a rotated or shrunken patch is filled with real voxels wherever the case has them.
    """

    def __init__(self, config: AugmentConfig, patch_size: tuple[int, ...]) -> None:
        self.source_size = _source_size(config, patch_size)
        self._transform = ComposeTransforms(_transforms(config, patch_size))

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, seed: np.random.SeedSequence
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment one sample; the same seed gives the same result.

        Args:
            image: float32 (C, K, J, I); labels: int16 (K, J, I). Of a slice both without K.
        Returns:
            image float32 (C, *patch_size) and labels int16 (1, *patch_size).
        """
        with seeded(seed):
            result = self._transform(image=torch.from_numpy(image), segmentation=torch.from_numpy(labels)[None])
        return result["image"].contiguous(), result["segmentation"].contiguous()


@contextmanager
def seeded(seed: np.random.SeedSequence) -> Iterator[None]:
    """Within, the generators of Python, NumPy and PyTorch (CPU) start from `seed`; afterwards they go on as before."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = [int(word) for word in seed.generate_state(3)]
    random.seed(words[0])
    np.random.seed(words[1])
    torch.default_generator.manual_seed(words[2])  # torch.manual_seed would reseed the GPU as well
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _transforms(config: AugmentConfig, patch_size: tuple[int, ...]) -> list[BasicTransform]:
    if not config.enabled:
        return []
    return [_spatial(config, patch_size), *_intensity(config), *_mirror(config)]


def _spatial(config: AugmentConfig, patch_size: tuple[int, ...]) -> BasicTransform:
    angle = float(np.deg2rad(config.rotation_degrees))
    return SpatialTransform(
        patch_size,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=config.elastic_probability,
        elastic_deform_scale=config.elastic_scale,
        elastic_deform_magnitude=config.elastic_magnitude_voxels,
        p_rotation=config.rotation_probability,
        rotation=(-angle, angle),
        p_scaling=config.scaling_probability,
        scaling=config.scaling,
        p_synchronize_scaling_across_axes=1,
    )


def _intensity(config: AugmentConfig) -> list[BasicTransform]:
    gamma = {"synchronize_channels": False, "p_per_channel": 1, "p_retain_stats": 1}
    return [
        RandomTransform(
            GaussianNoiseTransform(config.noise_variance, synchronize_channels=True), config.noise_probability
        ),
        RandomTransform(GaussianBlurTransform(config.blur_sigma_voxels, p_per_channel=0.5), config.blur_probability),
        RandomTransform(
            MultiplicativeBrightnessTransform(BGContrast(config.brightness), synchronize_channels=False),
            config.brightness_probability,
        ),
        RandomTransform(
            ContrastTransform(BGContrast(config.contrast), preserve_range=True, synchronize_channels=False),
            config.contrast_probability,
        ),
        RandomTransform(
            SimulateLowResolutionTransform(
                config.low_resolution,
                synchronize_channels=False,
                synchronize_axes=True,
                ignore_axes=None,
                p_per_channel=0.5,
            ),
            config.low_resolution_probability,
        ),
        RandomTransform(
            GammaTransform(BGContrast(config.gamma), p_invert_image=1, **gamma), config.inverted_gamma_probability
        ),
        RandomTransform(GammaTransform(BGContrast(config.gamma), p_invert_image=0, **gamma), config.gamma_probability),
    ]


def _mirror(config: AugmentConfig) -> list[BasicTransform]:
    return [MirrorTransform(config.mirror_axes)] if config.mirror_axes else []


def _source_size(config: AugmentConfig, patch_size: tuple[int, ...]) -> tuple[int, ...]:
    """The box around the patch after the largest rotation about each axis in turn and the largest scaling."""
    if not config.enabled:
        return patch_size
    size = np.asarray(patch_size, float)
    box = size.copy()
    if config.rotation_probability > 0:
        angle = np.deg2rad(min(config.rotation_degrees, 90.0))
        for one, other in itertools.combinations(range(len(patch_size)), 2):
            # over all angles up to the largest, a cos t + b sin t peaks at atan(b / a)
            for first, second in ((one, other), (other, one)):
                peak = min(angle, np.arctan2(size[second], size[first]))
                box[first] = max(box[first], size[first] * np.cos(peak) + size[second] * np.sin(peak))
    if config.scaling_probability > 0:
        box *= max(1.0, config.scaling[1])
    return tuple(int(np.ceil(value)) for value in box)
