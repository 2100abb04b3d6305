"""A synthetic T1-weighted MR of one hippocampus, with the labels that are true by construction.

No voxel of a patient is in it: the anatomy is drawn from formulas. Position, size and shape of the hippocampus and the
contrast of the tissues follow averages measured on manually labelled T1 volumes (a few dozen numbers, below), so that a
network trained on real volumes of this kind finds its way. Surroundings are those that such a crop shows: white matter
and cortex of the temporal lobe, temporal horn of the lateral ventricle, cisterns, brain stem, thalamus, amygdala.

Frame of the drawing, in mm: x from lateral to medial, y from posterior to anterior, z from inferior to superior; the
origin is on the hippocampus' axis where head and body meet. It is a left hippocampus.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .errors import ConfigError
from .volume import Volume

Field = NDArray[np.floating]  # one number for each voxel of the drawing, or of the image

ANTERIOR, POSTERIOR = 1, 2  # label values: head; body and tail
SHAPE_KJI = (36, 51, 35)
ORIGIN_VOXEL_KJI = (14.5, 27.0, 15.5)  # where the frame's origin lies in the volume
SUPERSAMPLING = 2  # along each axis; edges are soft besides, so that a voxel holds parts of two tissues

# The hippocampus in coronal cuts, from the tail's end to the head's: where its middle lies, half its width and height,
# and how far its medial end is turned up. All in mm and degrees.
_Y = (-24.0, -21.0, -18.0, -12.0, -6.0, -1.5, 2.0, 6.0, 10.0, 13.0, 16.0)
_MIDDLE_X = (4.8, 4.5, 3.5, 0.4, -1.0, -0.9, 0.8, 2.5, 4.4, 5.9, 7.0)
_MIDDLE_Z = (11.2, 10.6, 9.3, 5.2, 2.4, 0.6, -0.6, -1.7, -3.3, -4.4, -5.0)
_HALF_WIDTH = (3.2, 5.2, 6.4, 6.8, 6.7, 6.8, 8.3, 9.0, 8.8, 7.0, 3.5)
_HALF_HEIGHT = (1.6, 2.8, 3.6, 3.7, 3.7, 4.0, 4.6, 5.0, 4.5, 3.3, 1.7)
_TURN_DEG = (34.0, 27.0, 19.0, 3.0, -5.0, -8.0, 0.0, 7.0, 13.0, 19.0, 26.0)
_BEND_PER_MM = (0.0, 0.0, 0.0, -0.01, -0.012, -0.005, 0.012, 0.025, 0.028, 0.02, 0.0)  # ends of the cut lifted
_TAIL_END_Y, _HEAD_END_Y = -23.5, 15.5

# Sulci below it, each from its mouth to its bottom, in mm medial of and above the middle of the hippocampus' cut.
_SULCI = (
    ((3.0, -14.5), (-5.0, -9.3)),  # collateral
    ((-13.0, -15.0), (-12.5, -6.0)),  # occipito-temporal
    ((4.0, -21.5), (-8.0, -17.0)),  # the rest come into view behind, where the hippocampus lies higher
    ((-9.0, -25.0), (-17.0, -19.5)),
    ((2.0, -30.0), (-6.0, -24.5)),
)
_CORTEX_MM = 2.6

# Brightness in standard deviations from the mean of such a crop, as measured or, where too small to measure, typical.
_WHITE, _CORTEX, _HIPPOCAMPUS, _AMYGDALA = 1.15, -0.65, -0.55, -0.42
_BRAIN_STEM, _THALAMUS, _LENTIFORM, _CEREBELLUM, _FLUID = 0.9, 0.7, 0.1, -0.3, -2.0
_TEXTURE = ((0.10, 5.0), (0.15, 1.2))  # standard deviation and grain in mm of what is uneven inside a tissue
_SCANNER_MEAN, _SCANNER_PER_DEVIATION = 620.0, 220.0  # to the arbitrary units of a scanner; fluid stays above 0


@dataclass(frozen=True)
class Phantom:
    """A drawn image and its labels, on one grid."""

    image: Volume  # float32
    truth: Volume  # uint8: 0, ANTERIOR, POSTERIOR


def hippocampus_phantom(seed: int = 0, *, noise: float = 0.09, bias: float = 0.12) -> Phantom:
    """Draw a left hippocampus and its surroundings, 35 x 51 x 36 voxels of 1 mm along (I, J, K), axes to R, A, S.

    Args:
        seed: another seed is another head: size, bends, folds, noise.
        noise: standard deviation of the Rician noise, in units of the image's standard deviation.
        bias: how far the receive field differs from 1 at most, as a fraction.
    Raises:
        ConfigError: a negative seed, noise or bias.
    """
    if seed < 0 or noise < 0 or not 0 <= bias < 1:
        raise ConfigError(f"seed and noise must be at least 0 and bias in [0, 1), but are {seed}, {noise} and {bias}")
    rng = np.random.default_rng(seed)
    x, y, z = _warped_frame(rng)
    cut = _coronal_cut(x, y, z)
    tissue = _draw_surroundings(x, y, z, cut, rng)
    tissue = _paint_hippocampus(tissue, y, cut)
    for amplitude, grain_mm in _TEXTURE:
        tissue += amplitude * _smooth_noise(rng, tissue.shape, grain_mm * SUPERSAMPLING)
    image = _acquire(_mean_of_blocks(tissue), rng, noise, bias)
    return Phantom(_volume(image), _volume(_truth(cut.outside_mm, y)))


def _truth(outside_mm: Field, y: Field) -> NDArray[np.uint8]:
    """Voxels of which more than half is hippocampus; as raters do, head and body are parted in one coronal plane."""
    inside = _mean_of_blocks((outside_mm < 0).astype(np.float32)) > 0.5
    coarse_y = _mean_of_blocks(y)
    near_border = inside & (np.abs(coarse_y) < 1.0)
    border_j = np.median(np.nonzero(near_border)[1])
    j = np.arange(inside.shape[1])[None, :, None]
    return np.where(inside, np.where(j >= border_j, ANTERIOR, POSTERIOR), 0).astype(np.uint8)


def _volume(array: NDArray[np.generic]) -> Volume:
    return Volume(np.ascontiguousarray(array), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))


# --- frame


def _warped_frame(rng: np.random.Generator) -> tuple[Field, Field, Field]:
    """x, y, z in mm of every fine voxel, after the bends by which one head differs from the next."""
    axes = []
    for size, middle in zip(SHAPE_KJI, ORIGIN_VOXEL_KJI, strict=True):
        fine = np.arange(size * SUPERSAMPLING, dtype=np.float32)
        axes.append((fine + 0.5) / SUPERSAMPLING - 0.5 - middle)
    z, y, x = np.meshgrid(*axes, indexing="ij")
    scale = 1 + rng.normal(0, 0.03)
    warped = [
        axis / np.float32(scale)
        + 0.8 * _smooth_noise(rng, x.shape, 9 * SUPERSAMPLING)
        + 0.3 * _smooth_noise(rng, x.shape, 2.5 * SUPERSAMPLING)
        for axis in (x, y, z)
    ]
    return warped[0], warped[1], warped[2]


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma_voxels: float) -> Field:
    """A random field of mean 0 and standard deviation 1 without detail finer than sigma."""
    step = max(1, int(sigma_voxels / 2))  # smoothing a coarse field and enlarging it is as good and far cheaper
    coarse_shape = [size // step + 4 for size in shape]
    coarse = ndimage.gaussian_filter(rng.standard_normal(coarse_shape).astype(np.float32), sigma_voxels / step)
    where = np.meshgrid(*(np.arange(size, dtype=np.float32) / step + 1 for size in shape), indexing="ij", sparse=False)
    field = ndimage.map_coordinates(coarse, where, order=1)
    return ((field - field.mean()) / field.std()).astype(np.float32)


# --- hippocampus


@dataclass(frozen=True)
class _Cut:
    """Where a point lies in its coronal cut through the hippocampus."""

    right: Field  # mm medial of the cut's middle
    up: Field  # mm above it
    outside_mm: Field  # distance from the surface along the ray from the middle, negative inside
    angle_deg: Field  # of that ray: 0 medial, 90 up, 180 lateral, -90 down


def _coronal_cut(x: Field, y: Field, z: Field) -> _Cut:
    right, up = x - _along(y, _MIDDLE_X), z - _along(y, _MIDDLE_Z)
    turn = np.radians(_along(y, _TURN_DEG))
    across = right * np.cos(turn) + up * np.sin(turn)
    height = up * np.cos(turn) - right * np.sin(turn) - _along(y, _BEND_PER_MM) * across**2
    ratio = np.sqrt((across / _along(y, _HALF_WIDTH)) ** 2 + (height / _along(y, _HALF_HEIGHT)) ** 2) + np.float32(1e-3)
    outside = np.hypot(across, height) * (1 - 1 / ratio)
    outside = np.maximum(outside, np.maximum(_TAIL_END_Y - y, y - _HEAD_END_Y))
    return _Cut(right, up, outside.astype(np.float32), np.degrees(np.arctan2(up, right)).astype(np.float32))


def _paint_hippocampus(tissue: Field, y: Field, cut: _Cut) -> Field:
    """Gray matter with the brighter layers of fibres: on top of it (alveus) and rolled up inside."""
    tissue = _paint(tissue, cut.outside_mm, _HIPPOCAMPUS - 0.08)
    alveus = np.maximum(np.abs(cut.outside_mm + 0.2) - 0.25, (np.abs(cut.angle_deg - 105.0) - 60.0) * 0.08)
    tissue = _paint(tissue, np.maximum(alveus, y - 9.0), 0.1)
    inner = np.abs(cut.outside_mm + 2.4) - 0.3
    return _paint(tissue, np.maximum(inner, np.abs(cut.right - 1.0) - 5.0), 0.1)


def _along(y: Field, values: tuple[float, ...]) -> Field:
    return np.interp(y, _Y, values).astype(np.float32)


# --- surroundings, from the back of the painting to the front


def _draw_surroundings(x: Field, y: Field, z: Field, cut: _Cut, rng: np.random.Generator) -> Field:
    tissue = np.full(x.shape, _WHITE, np.float32)
    tissue = _paint_lower_cortex(tissue, x, y, z, cut)
    lentiform = _ellipsoid(x, y, z, middle=(-4.0, 16.0, 20.0), half=(7.0, 14.0, 9.0))
    tissue = _paint(tissue, lentiform, _LENTIFORM, edge_mm=3.0)
    tissue = _paint_sylvian_cortex(tissue, x, y, z)
    tissue = _paint_midline(tissue, x, y, z, cut)
    tissue = _paint_parahippocampal_gyrus(tissue, y, cut)
    basal_forebrain = _ellipsoid(x, y, z, middle=(5.0, 19.0, 12.0), half=(12.0, 12.0, 9.0))
    tissue = _paint(tissue, basal_forebrain, _AMYGDALA + 0.25, edge_mm=5.0)
    amygdala = _ellipsoid(x, y, z, middle=(2.5, 15.5, 3.5), half=(9.5, 10.0, 9.5))
    tissue = _paint(tissue, amygdala, _AMYGDALA, edge_mm=1.8)
    tissue = _paint(tissue, np.abs(amygdala + 4.0) - 0.3, 0.0, edge_mm=1.6)  # fibres between its nuclei
    capsule = np.maximum(np.abs(cut.outside_mm - 0.7) - 0.5, np.maximum(7.0 - y, -cut.up - 1.0))
    tissue = _paint(tissue, capsule, 0.5)  # fibres between head and amygdala
    return _paint_temporal_horn(tissue, y, cut)


def _paint_lower_cortex(tissue: Field, x: Field, y: Field, z: Field, cut: _Cut) -> Field:
    """The under side of the temporal lobe: folds along the hippocampus, then tentorium and cerebellum."""
    isthmus = np.maximum(y + 15.0 - 0.3 * cut.right, np.abs(cut.right - 8.0) - 5.5)
    tissue = _paint(tissue, np.maximum(isthmus, z - 16.0), _CORTEX, edge_mm=3.0)
    floor_mm = z + 12.5 + 0.02 * (y + 2) ** 2 * np.where(y > -2, 1.0, 0.15) + 1.2 * np.sin(0.5 * x + 0.2 * y)
    tissue = _paint(tissue, floor_mm - _CORTEX_MM, _CORTEX)
    wave = 0.8 * np.sin(0.3 * y) + 0.4 * np.sin(0.9 * y + 1.0)
    depths = [_distance_to_line(cut.right, cut.up + wave, *ends) for ends in _SULCI]
    tissue = _paint(tissue, np.minimum.reduce(depths) - _CORTEX_MM, _CORTEX)
    tissue = _paint(tissue, np.minimum.reduce(depths) - 0.45, _FLUID + 0.6)
    tissue = _paint(tissue, floor_mm, _FLUID + 0.4)
    return _paint(tissue, floor_mm + 2.5, _CEREBELLUM)


def _distance_to_line(right: Field, up: Field, start: tuple[float, float], stop: tuple[float, float]) -> Field:
    """Distance in mm to the straight piece between two points of the coronal cut."""
    along = np.subtract(stop, start)
    part = np.clip(((right - start[0]) * along[0] + (up - start[1]) * along[1]) / (along @ along), 0, 1)
    return np.hypot(right - start[0] - part * along[0], up - start[1] - part * along[1]).astype(np.float32)


def _paint_sylvian_cortex(tissue: Field, x: Field, y: Field, z: Field) -> Field:
    gray = _ellipsoid(x, y, z, middle=(-16.5, 6.0, 15.0), half=(7.0, 22.0, 10.5))
    tissue = _paint(tissue, gray, _CORTEX - 0.1)
    return _paint(tissue, gray + 3.0, -1.5)


def _paint_midline(tissue: Field, x: Field, y: Field, z: Field, cut: _Cut) -> Field:
    """Cisterns and what lies in them, from the edge of the temporal lobe to the middle of the head."""
    medial_mm = np.minimum(_lobe_edge(cut), cut.right + 1.0)  # above 0 medial of the lobe
    below_thalamus = 13.0 - z + 0.25 * y
    beyond = -np.minimum(medial_mm - 3.2, below_thalamus)
    tissue = _paint(tissue, np.maximum(beyond, y + 12.0), _CEREBELLUM, edge_mm=2.0)
    tissue = _paint(tissue, np.maximum(beyond, 9.0 - y), _FLUID + 0.9, edge_mm=2.0)
    cistern = np.maximum(-np.minimum(medial_mm, below_thalamus), medial_mm - 3.2)
    tissue = _paint(tissue, cistern, _FLUID + 0.35)
    tissue = _paint(tissue, _ellipsoid(x, y, z, middle=(9.0, -2.0, 18.0), half=(13.0, 15.0, 11.5)), _THALAMUS)
    tissue = _paint(tissue, _ellipsoid(x, y, z, middle=(20.0, -4.0, -2.0), half=(9.8, 12.0, 30.0)), _BRAIN_STEM)
    tissue = _paint(tissue, _ellipsoid(x, y, z, middle=(15.5, -1.0, 8.0), half=(9.0, 11.5, 8.0)), _BRAIN_STEM)
    return _paint(tissue, _ellipsoid(x, y, z, middle=(11.0, -28.0, 19.0), half=(7.0, 8.0, 6.0)), _FLUID + 0.3)


def _lobe_edge(cut: _Cut) -> Field:
    """Distance in mm outside the rounded medial edge of the temporal lobe, in the coronal cut."""
    right, up = cut.right + 3.0, cut.up + 4.0
    ratio = np.hypot(right / 14.0, up / 10.5) + np.float32(1e-3)
    return np.hypot(right, up) * (1 - 1 / ratio)


def _paint_parahippocampal_gyrus(tissue: Field, y: Field, cut: _Cut) -> Field:
    """A ribbon of cortex inside the lobe's medial edge and the bright white matter between it and the hippocampus."""
    edge = _lobe_edge(cut)
    medial_below = np.minimum(cut.right + 1.0, 3.0 - cut.up)
    thickness = _CORTEX_MM + 3.0 * np.clip((y - 4.0) / 8.0, 0, 1)  # the entorhinal cortex in front is thicker
    ribbon = np.maximum(np.maximum(edge, -thickness - edge), -medial_below)
    tissue = _paint(tissue, ribbon, _CORTEX)
    core = np.maximum(edge + thickness, cut.outside_mm - 2.6)
    return _paint(tissue, np.maximum(core, cut.up + 0.5), _WHITE)


def _paint_temporal_horn(tissue: Field, y: Field, cut: _Cut) -> Field:
    """A crescent of fluid on the upper and lateral side, from the atrium to the tip before the head."""
    width = 1.7 - 0.0012 * (y - 2) ** 2
    off = np.abs(cut.outside_mm - 0.6) - width / 2
    sector = (np.abs(cut.angle_deg - 95.0) - 70.0) * 0.08
    ends = np.maximum(-22.0 - y, y - 12.0)
    return _paint(tissue, np.maximum(np.maximum(off, sector), ends), _FLUID + 0.3)


def _ellipsoid(
    x: Field, y: Field, z: Field, middle: tuple[float, float, float], half: tuple[float, float, float]
) -> Field:
    """About the distance in mm outside an ellipsoid, negative inside."""
    parts = [(axis - m) / h for axis, m, h in zip((x, y, z), middle, half, strict=True)]
    ratio = np.sqrt(sum(part**2 for part in parts)) + np.float32(1e-3)
    offset = np.sqrt((x - middle[0]) ** 2 + (y - middle[1]) ** 2 + (z - middle[2]) ** 2)
    return (offset * (1 - 1 / ratio)).astype(np.float32)


def _paint(tissue: Field, outside_mm: Field, brightness: float, edge_mm: float = 0.6) -> Field:
    """Cover what lies inside; the edge is a ramp, since tissues interlock."""
    cover = np.clip(0.5 - outside_mm / edge_mm, 0, 1).astype(np.float32)
    return tissue + cover * (brightness - tissue)


# --- from tissue to image


def _mean_of_blocks(fine: Field) -> Field:
    s = SUPERSAMPLING
    k, j, i = (size // s for size in fine.shape)
    return fine.reshape(k, s, j, s, i, s).mean(axis=(1, 3, 5))


def _acquire(brightness: Field, rng: np.random.Generator, noise: float, bias: float) -> Field:
    """What a scanner makes of it: point spread, uneven receive field, Rician noise, arbitrary units."""
    signal = _SCANNER_MEAN + _SCANNER_PER_DEVIATION * ndimage.gaussian_filter(brightness, 0.45)
    field = _smooth_noise(rng, signal.shape, 20)
    signal = signal * (1 + bias * field / max(1e-6, float(np.abs(field).max())))
    real, imaginary = noise * _SCANNER_PER_DEVIATION * rng.standard_normal((2, *signal.shape))
    return np.hypot(signal + real, imaginary).astype(np.float32)
