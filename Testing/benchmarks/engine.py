"""Whole cases and their parts against nnU-Net's own predictor, each in a process of its own; the same network for both.

`python -m Testing.benchmarks.engine TASK SIDE` runs one and prints its figures as JSON.
"""

import functools
import json
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil

from MambaSegmentLib.large_blocks import give_large_blocks_back
from MambaSegmentLib.openmp import let_waiting_threads_sleep

from . import engine_batch
from .timing import peak_memory_bytes

CASE_SHAPE = (128, 256, 256)  # (K, J, I)
CASE_MM = (1.25, 1.0, 1.0)
WANTED_MM = (1.6, 1.3, 1.3)
PATCH = (56, 112, 112)
# The compact LightM-UNet of this file: the published one with a quarter of its filters.
NETWORK = {"spatial_dims": 3, "in_channels": 1, "num_classes": 3, "init_filters": 8}
AIR_MM, AIR_WANTED_MM, AIR_PATCH = (2.5, 1.95, 1.95), (5.0, 2.0, 2.0), (32, 56, 56)  # a field of view of 50 cm
CT_WINDOW = (-160.0, 240.0, 40.0, 80.0)  # lower, upper, mean, std
EXPORT_SHAPE = (300, 512, 512)
EXPORT_PREPARED = (225, 256, 256)
EXPORT_CLASSES = 5
CT_SHAPE, CT_MM = (300, 512, 512), (1.5, 0.8, 0.8)
CT_WANTED_MM = (2.0, 2.0, 2.0)
CT_PATCH, CT_CLASSES = (96, 128, 128), 5
LONG_SLICES, LONG_PLANE, LONG_MM, LONG_WANTED_MM = (250, 1000), (512, 512), (1.0, 0.8, 0.8), (1.5, 1.5, 1.5)
LONG_PATCH, LONG_CLASSES = (128, 128, 128), 5


def run() -> dict[str, Any]:
    """Median seconds and peak memory of each side of each task; the sides take turns."""
    found: dict[str, Any] = {}
    for task, (rounds, sides) in TASKS.items():
        rows: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, of_side in rows.items():
                of_side.append(_measured(task, side))
        found[task] = {
            side: {key: statistics.median(row[key] for row in of_side) for key in of_side[0]}
            for side, of_side in rows.items()
        }
        found[task] |= ratios(found[task], rows)
    return found | {"batch_20": engine_batch.run()}


def ratios(medians: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Ours beside nnU-Net's: of times the median over the rounds, whose sides met the same load."""
    if "nnunet" not in rows:
        return {}
    pairs = list(zip(rows["ours"], rows["nnunet"], strict=True))
    ours, theirs = medians["ours"], medians["nnunet"]
    found = {
        "time_ratio": statistics.median(one["wall_s"] / other["wall_s"] for one, other in pairs),
        "memory_ratio": ours["extra_memory_bytes"] / theirs["extra_memory_bytes"],
    }
    if "forward_s" in ours:
        found["rest_ratio"] = statistics.median(_rest_s(one) / _rest_s(other) for one, other in pairs)
    return found


def _rest_s(row: dict[str, Any]) -> float:
    """All but the network."""
    return row["wall_s"] - row["forward_s"]


def _measured(task: str, side: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "Testing.benchmarks.engine", task, side]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8")
    return json.loads(answer.stdout.splitlines()[-1])


def _plans(
    wanted_mm: tuple[float, ...] = WANTED_MM, patch: tuple[int, ...] = PATCH, scheme: str = "ZScoreNormalization"
) -> Any:
    """nnU-Net's defaults: cubic resampling of images and linear of scores, separate along thick slices."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    def resampling(order: int, is_seg: bool) -> dict[str, Any]:
        return {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}

    function = "resample_data_or_seg_to_shape"
    configuration = {
        "spacing": list(wanted_mm),
        "patch_size": list(patch),
        "normalization_schemes": [scheme],
        "use_mask_for_norm": [False],
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_probabilities": function,
        "resampling_fn_data_kwargs": resampling(3, False),
        "resampling_fn_seg_kwargs": resampling(1, True),
        "resampling_fn_probabilities_kwargs": resampling(1, False),
        "architecture": {},
        "preprocessor_name": "DefaultPreprocessor",
    }
    return PlansManager(
        {
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "foreground_intensity_properties_per_channel": {
                "0": dict(zip(("percentile_00_5", "percentile_99_5", "mean", "std"), CT_WINDOW, strict=True))
            },
            "configurations": {"c": configuration},
        }
    )


def _network(classes: int = NETWORK["num_classes"]) -> Any:
    import torch

    from MambaSegmentLib.models import build_model

    torch.manual_seed(0)
    return build_model("lightm_unet", {**NETWORK, "num_classes": classes}).eval()


class Clock:
    """Adds up the seconds in which a network computes, in however many threads at once."""

    def __init__(self, network: Any) -> None:
        self.seconds, self._computing, self._since, forward = 0.0, 0, 0.0, network.forward
        self._lock = threading.Lock()

        def timed(*inputs: Any) -> Any:
            self._count(1)
            try:
                return forward(*inputs)
            finally:
                self._count(-1)

        network.forward = timed

    def _count(self, change: int) -> None:
        with self._lock:
            if self._computing == 0:
                self._since = time.perf_counter()
            self._computing += change
            if self._computing == 0:
                self.seconds += time.perf_counter() - self._since


def _image() -> np.ndarray:
    """Smooth blobs in noise: nothing is empty, nothing is easy."""
    generator = np.random.default_rng(0)
    array = generator.standard_normal(CASE_SHAPE, dtype=np.float32)
    coarse = generator.standard_normal([size // 16 for size in CASE_SHAPE]).astype(np.float32)
    return array + 4 * np.kron(coarse, np.ones((16, 16, 16), np.float32))


def table(result: dict[str, Any]) -> list[str]:
    """Lines of the page."""
    lines = [
        "",
        "| the engine, medians | time | beside nnU-Net's | memory beyond the start | beside nnU-Net's | all but the "
        "network | beside nnU-Net's | target |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task, found in result.items():
        ours = found["ours"]
        rest = f"{_rest_s(ours):.1f} s" if "forward_s" in ours else ""
        shown = [f"{found[key]:.2f}" if key in found else "" for key in ("time_ratio", "memory_ratio", "rest_ratio")]
        memory = f"{ours['extra_memory_bytes'] / 1e9:.2f} GB" if "extra_memory_bytes" in ours else ""
        lines.append(
            f"| {TITLES[task]}{_tiles(ours)} | {ours['wall_s']:.1f} s | {shown[0]} | {memory} | {shown[1]} | {rest} | "
            f"{shown[2]} | {TARGETS.get(task, '')} |"
        )
    return lines


def _tiles(ours: dict[str, Any]) -> str:
    return f"; {ours['reused_tiles']:.0f} of {ours['tiles']:.0f} tiles uniform" if ours.get("reused_tiles") else ""


def _ours_case() -> Callable[[], object]:
    from MambaSegmentLib.normalization import Normalization
    from MambaSegmentLib.volume import Volume

    return _ours(Normalization("zscore"), WANTED_MM, PATCH, Volume(_image(), spacing_mm=CASE_MM[::-1]))


def _ours_air() -> Callable[[], object]:
    from MambaSegmentLib.normalization import Normalization
    from MambaSegmentLib.volume import Volume

    volume = Volume(_ct(CASE_SHAPE, (0.44, 0.68)), spacing_mm=AIR_MM[::-1])
    return _ours(Normalization("ct", *CT_WINDOW), AIR_WANTED_MM, AIR_PATCH, volume)


def _ours_ct() -> Callable[[], object]:
    from MambaSegmentLib.normalization import Normalization
    from MambaSegmentLib.volume import Volume

    volume = Volume(_ct(CT_SHAPE, (0.55, 0.8)), spacing_mm=CT_MM[::-1])
    return _ours(Normalization("ct", *CT_WINDOW), CT_WANTED_MM, CT_PATCH, volume, classes=CT_CLASSES, quality="fast")


def _ct(shape: tuple[int, int, int], half_axes: tuple[float, float]) -> np.ndarray:
    """An oval body of soft tissue in air, both with noise; int16, as a scanner writes it."""
    j, i = (np.linspace(-1, 1, size) for size in shape[1:])
    body = (j[:, None] / half_axes[0]) ** 2 + (i[None] / half_axes[1]) ** 2 < 1
    generator = np.random.default_rng(0)
    array = np.empty(shape, np.int16)
    for k in range(shape[0]):
        array[k] = generator.normal(-1000, 15, shape[1:])
        array[k][body] = generator.normal(40, 60, int(body.sum()))
    return array


def _ours(
    normalization: Any,
    wanted_mm: tuple[float, float, float],
    patch: tuple[int, int, int],
    volume: Any,
    classes: int = NETWORK["num_classes"],
    quality: str = "best",
) -> Callable[[], object]:
    """One pass of the benchmark's network over a volume; best is one pass too, since it is mirrored along no axis."""
    from MambaSegmentLib.bundle import Bundle
    from MambaSegmentLib.inference.predictor import Predictor

    manifest = _manifest(normalization, wanted_mm, patch, classes)
    bundle = Bundle(manifest, (_network(classes).state_dict(),))
    predictor = Predictor(bundle, "cpu", quality=quality)
    clock = Clock(predictor._networks[0])

    def case() -> dict[str, float]:
        result = predictor.segment([volume])
        seconds = {f"{stage}_s": value for stage, value in result.timings.items()}
        return {**seconds, "forward_s": clock.seconds, "tiles": result.tiles, "reused_tiles": result.reused_tiles}

    return case


def _manifest(normalization: Any, wanted_mm: tuple[float, ...], patch: tuple[int, ...], classes: int) -> Any:
    from MambaSegmentLib.manifest import Channel, Manifest
    from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
    from MambaSegmentLib.segments import SegmentInfo

    return Manifest(
        name="benchmark",
        architecture_name="lightm_unet",
        architecture_options={**NETWORK, "num_classes": classes},
        channels=(Channel("image"),),
        segments=tuple(SegmentInfo(n, f"segment {n}", (1.0, 0.0, 0.0)) for n in range(1, classes)),
        preprocessing=PreprocessingSpec((normalization,), spacing_mm=wanted_mm, coarse_axis_order=0, crop="nonzero"),
        patch_size=patch,
    )


def _nnunet_case() -> Callable[[], object]:
    return _nnunet(_plans(), _image(), CASE_MM)


def _nnunet_air() -> Callable[[], object]:
    plans = _plans(AIR_WANTED_MM, AIR_PATCH, "CTNormalization")
    return _nnunet(plans, _ct(CASE_SHAPE, (0.44, 0.68)).astype(np.float32), AIR_MM)


def _nnunet(plans: Any, image: np.ndarray, spacing_mm: tuple[float, float, float]) -> Callable[[], object]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    network = _network()
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.manual_initialization(
        network,
        plans,
        plans.get_configuration("c"),
        [network.state_dict()],
        {"labels": {"background": 0, "a": 1, "b": 2}, "channel_names": {"0": "T1"}, "file_ending": ".nii.gz"},
        "nnUNetTrainer",
        None,
    )
    clock = Clock(network)

    def case() -> dict[str, float]:
        predictor.predict_single_npy_array(image[None], {"spacing": list(spacing_mm)})
        return {"forward_s": clock.seconds}

    return case


def _long(slices: int) -> Callable[[], object]:
    """A volume of any length through a network of one layer, so that what is measured is the engine."""
    from MambaSegmentLib.bundle import Bundle
    from MambaSegmentLib.inference.predictor import Predictor
    from MambaSegmentLib.normalization import Normalization
    from MambaSegmentLib.volume import Volume

    class OneLayer(Bundle):
        def build_networks(self, folds: Any = None) -> Any:
            import torch

            torch.manual_seed(0)
            return [torch.nn.Conv3d(1, LONG_CLASSES, 1).eval()]

    manifest = _manifest(Normalization("ct", *CT_WINDOW), LONG_WANTED_MM, LONG_PATCH, LONG_CLASSES)
    predictor = Predictor(OneLayer(manifest, ({},)), "cpu")
    volume = Volume(_ct((slices, *LONG_PLANE), (0.55, 0.8)), spacing_mm=LONG_MM[::-1])
    clock = Clock(predictor._networks[0])
    predictor.segment(
        [Volume(volume.array[:100], spacing_mm=LONG_MM[::-1])]
    )  # what a first case loads is no part of it

    def case() -> dict[str, float]:
        before = clock.seconds
        result = predictor.segment([volume])
        return {"forward_s": clock.seconds - before, "labels_bytes": result.labels.array.nbytes}

    return case


def _ours_export() -> Callable[[], object]:
    import torch

    from MambaSegmentLib.inference.restoring import restore_slabs
    from MambaSegmentLib.normalization import Normalization
    from MambaSegmentLib.preprocess import PreparedRows
    from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
    from MambaSegmentLib.volume import Volume

    logits = torch.from_numpy(_logits())
    spec = PreprocessingSpec((Normalization("none"),), spacing_mm=WANTED_MM, resampling_order=1, coarse_axis_order=0)
    image = np.zeros(EXPORT_SHAPE, np.int16)
    image[0, 0, 0] = 1  # a constant image would be refused
    undo = PreparedRows([Volume(image, spacing_mm=_export_mm()[::-1])], spec).undo
    if undo.prepared_shape != EXPORT_PREPARED:
        raise RuntimeError(f"the grid is {undo.prepared_shape}; both sides shall start from {EXPORT_PREPARED}")
    slabs = range(0, EXPORT_PREPARED[0], 32)
    return lambda: restore_slabs(((k, logits[:, k : k + 32]) for k in slabs), undo, range(EXPORT_CLASSES))


def _nnunet_export() -> Callable[[], object]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
        from nnunetv2.utilities.label_handling.label_handling import LabelManager
    plans = _plans()
    properties = {
        "spacing": list(_export_mm()),
        "shape_before_cropping": EXPORT_SHAPE,
        "shape_after_cropping_and_before_resampling": EXPORT_SHAPE,
        "bbox_used_for_cropping": [[0, size] for size in EXPORT_SHAPE],
    }
    labels = LabelManager({"background": 0} | {f"l{n}": n for n in range(1, EXPORT_CLASSES)}, None)
    logits = torch.from_numpy(_logits())
    return lambda: convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, plans, plans.get_configuration("c"), labels, properties, num_threads_torch=2
    )


def _logits() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.standard_normal((EXPORT_CLASSES, *EXPORT_PREPARED), dtype=np.float32)


def _export_mm() -> tuple[float, float, float]:
    k, j, i = (wanted * p / e for wanted, p, e in zip(WANTED_MM, EXPORT_PREPARED, EXPORT_SHAPE, strict=True))
    return k, j, i


Side = Callable[[], Callable[[], object]]
TASKS: dict[str, tuple[int, dict[str, Side]]] = {  # rounds, and what is done by whom
    "case_256x256x128": (3, {"ours": _ours_case, "nnunet": _nnunet_case}),
    "ct_256x256x128_air": (3, {"ours": _ours_air, "nnunet": _nnunet_air}),
    "export_512x512x300": (2, {"ours": _ours_export, "nnunet": _nnunet_export}),
    "ct_512x512x300": (2, {"ours": _ours_ct}),
    **{f"long_512x512x{n}": (1, {"ours": functools.partial(_long, n)}) for n in LONG_SLICES},
}
_COMPACT = "LightM-UNet with 8 first filters"
TITLES = {
    "case_256x256x128": f"whole case, 256 x 256 x 128, resampled, {_COMPACT}, tiles of 112 x 112 x 56, no mirroring",
    "ct_256x256x128_air": "the same of a CT, a trunk of 34 x 22 cm in a field of view of 50 cm, tiles of 56 x 56 x 32",
    "export_512x512x300": "export of 512 x 512 x 300, 5 classes",
    "ct_512x512x300": f"synthetic CT, 512 x 512 x 300 at 0.8 x 0.8 x 1.5 mm, {_COMPACT} at 2 mm, "
    "tiles of 128 x 128 x 96, 5 classes, fast",
    **{f"long_512x512x{n}": f"the engine alone: 512 x 512 x {n}, one layer, 5 classes" for n in LONG_SLICES},
    "batch_20": engine_batch.TITLE,
}
TARGETS = {
    "case_256x256x128": "1.0, memory 0.4, rest 0.2",
    "ct_256x256x128_air": "0.7",
    "export_512x512x300": "0.12, memory 0.1",
    "ct_512x512x300": "40 s, 3 GB",
    "long_512x512x1000": "0.8 GB beyond the labels, of any length",
    "batch_20": "0.25",
}


def main(task: str, side: str) -> None:
    """Prepare, then do it once, and tell what that took beyond what was there before."""
    if side == "ours":  # as our programs begin
        let_waiting_threads_sleep()
        give_large_blocks_back()
    job = TASKS[task][1][side]()
    before = psutil.Process().memory_info().rss
    peak_memory_bytes(reset=True)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    answer = job()
    wall_s, cpu_s = time.perf_counter() - begin, time.process_time() - begin_cpu
    report = {"wall_s": wall_s, "cpu_s": cpu_s, "extra_memory_bytes": peak_memory_bytes() - before}
    print(json.dumps(report | (answer if isinstance(answer, dict) else {})))


if __name__ == "__main__":
    main(*sys.argv[1:])
