"""What a plan does to a case before the network, as our specification."""

from collections.abc import Mapping
from typing import Any

from ..errors import BundleError, ConfigError
from ..normalization import Normalization
from ..orientation import AS_STORED
from ..preprocessing_spec import PreprocessingSpec
from .json_file import entry
from .plans import Plan

_SPLINE = "resample_data_or_seg_to_shape"
_TORCH = "resample_torch_fornnunet"
_KEEP = "no_resampling_hack"
_SCHEMES = {
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale_0_1",
    "RGBTo01Normalization": "rgb",
}
_READERS = {"NibabelIOWithReorient": "RAS", "SimpleITKIOWithReorient": "RAS"}
_INTENSITIES = ("foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality")


def preparation_of(plan: Plan, channels: int) -> PreprocessingSpec:
    """Raises: BundleError, for a step that is not known here; nothing is left out in silence."""
    if plan.content.get("preprocessor_name", "DefaultPreprocessor") != "DefaultPreprocessor":
        raise BundleError(
            f"{plan.where} asks for {plan.content['preprocessor_name']!r}; only nnU-Net's DefaultPreprocessor is known"
        )
    images = _orders(plan, "resampling_fn_data", 3)
    scores = _orders(plan, "resampling_fn_probabilities", 1)
    try:
        return PreprocessingSpec(
            normalization=_normalizations(plan, channels),
            orientation=_READERS.get(str(plan.plans.get("image_reader_writer")), AS_STORED),
            axis_order=_axis_order(plan.plans.get("transpose_forward", [0, 1, 2])),
            spacing_mm=None if images is None else _spacing(plan),
            resampling_order=3 if images is None else images[0],
            coarse_axis_order=None if images is None else images[1],
            score_orders=scores if images and scores and scores != (min(images[0], 1), images[1]) else None,
            crop="nonzero",
        )
    except ConfigError as problem:
        raise BundleError(f"{plan.where} makes no sense: {problem}") from problem


def _axis_order(value: Any) -> tuple[int, int, int]:
    if not isinstance(value, list) or sorted(map(str, value)) != ["0", "1", "2"]:
        raise BundleError(f"plans.json: transpose_forward is {value!r:.100}; expected the numbers 0, 1 and 2")
    return value[0], value[1], value[2]


def _spacing(plan: Plan) -> tuple[float | None, float, float]:
    """Of the turned array; a 2D network keeps the distance of the slices."""
    values = entry(plan.content, "spacing", list, plan.where)
    if len(values) not in (len(plan.patch_size), 3) or not all(isinstance(value, int | float) for value in values):
        raise BundleError(f"{plan.where}: spacing is {values!r:.100}; expected {len(plan.patch_size)} numbers in mm")
    first = None if len(values) == 2 else float(values[0])
    return first, float(values[-2]), float(values[-1])


def _orders(plan: Plan, key: str, default: int) -> tuple[int, int | None] | None:
    """Spline order and that along a coarse axis (None: no axis is special); None for no resampling at all."""
    name = str(plan.content.get(key, _SPLINE))
    given = plan.content.get(f"{key}_kwargs") or {}
    if name == _KEEP:
        return None
    if name not in (_SPLINE, _TORCH) or not isinstance(given, Mapping):
        raise BundleError(f"{plan.where} resamples by {name!r}, which is not known; known: {_SPLINE}, {_TORCH}")
    if given.get("separate_z_anisotropy_threshold", 3) != 3 or given.get("force_separate_z") is True:
        raise BundleError(f"{plan.where}: {key} has {dict(given)!r:.200}; the threshold 3 without force is known alone")
    if name == _SPLINE:
        # nnU-Net's function does without a coarse axis where the plan names its arguments, but not this one
        automatic = given.get("force_separate_z", False if given else None) is None
        return int(given.get("order", default)), int(given.get("order_z", 0)) if automatic else None
    if given.get("mode", "linear") != "linear" or given.get("aniso_axis_mode", "nearest-exact") != "nearest-exact":
        raise BundleError(f"{plan.where}: {key} has {dict(given)!r:.200}; linear and nearest-exact are known alone")
    return 1, 0 if given.get("force_separate_z") is None else None


def _normalizations(plan: Plan, channels: int) -> tuple[Normalization, ...]:
    schemes = entry(plan.content, "normalization_schemes", (list, Mapping), plan.where)
    listed = [schemes[key] for key in sorted(schemes, key=int)] if isinstance(schemes, Mapping) else schemes
    masks = plan.content.get("use_mask_for_norm") or [False] * len(listed)
    if isinstance(masks, Mapping):
        masks = [masks[key] for key in sorted(masks, key=int)]
    if len(listed) != channels or len(masks) != channels:
        raise BundleError(f"{plan.where} normalises {len(listed)} channel(s), but dataset.json has {channels}")
    return tuple(
        _normalization(plan, str(scheme), bool(mask), index)
        for index, (scheme, mask) in enumerate(zip(listed, masks, strict=True))
    )


def _normalization(plan: Plan, scheme: str, masked: bool, channel: int) -> Normalization:
    if scheme == "ZScoreNormalization":
        return Normalization("zscore_nonzero" if masked else "zscore")
    if scheme in _SCHEMES:
        return Normalization(_SCHEMES[scheme])
    if scheme != "CTNormalization":
        raise BundleError(
            f"{plan.where} normalises by {scheme!r}, which is not known; known: ZScoreNormalization, CTNormalization, "
            f"{', '.join(_SCHEMES)}"
        )
    facts: Any = next((plan.plans[key] for key in _INTENSITIES if key in plan.plans), {})
    numbers = facts.get(str(channel), {}) if isinstance(facts, Mapping) else {}
    keys = ("percentile_00_5", "percentile_99_5", "mean", "std")
    if not isinstance(numbers, Mapping) or not all(isinstance(numbers.get(key), int | float) for key in keys):
        raise BundleError(f"plans.json lacks the intensities of channel {channel} that CTNormalization needs")
    return Normalization("ct", *(float(numbers[key]) for key in keys))
