"""Whole cases and their parts against nnU-Net's own predictor, each in a process of its own; the same network for both.

`python -m Testing.benchmarks.engine TASK SIDE` runs one and prints its figures as JSON.
"""

import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROUNDS = 3
CASE_SHAPE = (128, 256, 256)  # (K, J, I)
CASE_MM = (1.25, 1.0, 1.0)
WANTED_MM = (1.6, 1.3, 1.3)
PATCH = (48, 96, 96)
NETWORK = {"spatial_dims": 3, "in_channels": 1, "num_classes": 3, "init_filters": 8}
EXPORT_SHAPE = (300, 512, 512)
EXPORT_PREPARED = (225, 256, 256)
EXPORT_CLASSES = 5
CT_SHAPE, CT_MM = (300, 512, 512), (1.5, 0.8, 0.8)
CT_WANTED_MM = (2.0, 2.0, 2.0)


def run() -> dict[str, Any]:
    """Median seconds and peak memory of each side of each task; the sides take turns."""
    found: dict[str, Any] = {}
    for task, sides in TASKS.items():
        rows: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for _ in range(ROUNDS):
            for side, of_side in rows.items():
                of_side.append(_measured(task, side))
        found[task] = {
            side: {key: statistics.median(row[key] for row in of_side) for key in of_side[0]}
            for side, of_side in rows.items()
        }
        if "nnunet" not in sides:
            continue
        ours, theirs = found[task]["ours"], found[task]["nnunet"]
        found[task]["time_ratio"] = ours["wall_s"] / theirs["wall_s"]
        found[task]["memory_ratio"] = ours["extra_memory_bytes"] / theirs["extra_memory_bytes"]
    return found


def _measured(task: str, side: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "Testing.benchmarks.engine", task, side]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8")
    return json.loads(answer.stdout.splitlines()[-1])


def _plans() -> Any:
    """nnU-Net's defaults: z-score, cubic resampling of images and linear of scores, separate along thick slices."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    def resampling(order: int, is_seg: bool) -> dict[str, Any]:
        return {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}

    function = "resample_data_or_seg_to_shape"
    configuration = {
        "spacing": list(WANTED_MM),
        "patch_size": list(PATCH),
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_probabilities": function,
        "resampling_fn_data_kwargs": resampling(3, False),
        "resampling_fn_seg_kwargs": resampling(1, True),
        "resampling_fn_probabilities_kwargs": resampling(1, False),
        "architecture": {},
    }
    return PlansManager(
        {
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "foreground_intensity_properties_per_channel": {},
            "configurations": {"c": configuration},
        }
    )


def _network() -> Any:
    import torch

    from MambaSegmentLib.models import build_model

    torch.manual_seed(0)
    return build_model("lightm_unet", NETWORK).eval()


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
        "network |",
        "|---|---|---|---|---|---|",
    ]
    for task, found in result.items():
        ours = found["ours"]
        rest = f"{ours['preprocess_s'] + ours['restore_s']:.1f} s" if "network_s" in ours else ""
        ratios = [f"{found[key]:.2f}" if key in found else "" for key in ("time_ratio", "memory_ratio")]
        lines.append(
            f"| {TITLES[task]} | {ours['wall_s']:.1f} s | {ratios[0]} | {ours['extra_memory_bytes'] / 1e9:.2f} GB | "
            f"{ratios[1]} | {rest} |"
        )
    return lines


def _ours_case() -> Callable[[], object]:
    from MambaSegmentLib.normalization import Normalization
    from MambaSegmentLib.volume import Volume

    return _ours(Normalization("zscore"), WANTED_MM, Volume(_image(), spacing_mm=CASE_MM[::-1]))


def _ours_ct() -> Callable[[], object]:
    from MambaSegmentLib.normalization import Normalization
    from MambaSegmentLib.volume import Volume

    normalization = Normalization("ct", -160.0, 240.0, 40.0, 80.0)
    return _ours(normalization, CT_WANTED_MM, Volume(_ct(), spacing_mm=CT_MM[::-1]))


def _ct() -> np.ndarray:
    """An oval body of soft tissue with noise, in air; int16, as a scanner writes it."""
    j, i = (np.linspace(-1, 1, size) for size in CT_SHAPE[1:])
    body = (j[:, None] / 0.55) ** 2 + (i[None] / 0.8) ** 2 < 1
    generator = np.random.default_rng(0)
    array = np.full(CT_SHAPE, -1000, np.int16)
    for k in range(CT_SHAPE[0]):
        array[k][body] = generator.normal(40, 60, int(body.sum())).astype(np.int16)
    return array


def _ours(normalization: Any, wanted_mm: tuple[float, float, float], volume: Any) -> Callable[[], object]:
    """One pass of the benchmark's network over a volume."""
    from MambaSegmentLib.bundle import Bundle
    from MambaSegmentLib.inference.predictor import Predictor
    from MambaSegmentLib.manifest import Channel, Manifest
    from MambaSegmentLib.preprocess import PreprocessingSpec
    from MambaSegmentLib.segments import SegmentInfo

    manifest = Manifest(
        name="benchmark",
        architecture_name="lightm_unet",
        architecture_options=NETWORK,
        channels=(Channel("T1"),),
        segments=(SegmentInfo(1, "a", (1.0, 0.0, 0.0)), SegmentInfo(2, "b", (0.0, 1.0, 0.0))),
        preprocessing=PreprocessingSpec((normalization,), spacing_mm=wanted_mm, coarse_axis_order=0, crop="nonzero"),
        patch_size=PATCH,
    )
    predictor = Predictor(Bundle(manifest, [_network().state_dict()]), "cpu", quality="fast")

    def case() -> dict[str, float]:
        result = predictor.segment([volume])
        return result.timings | {"tiles": result.tiles, "reused_tiles": result.reused_tiles}

    return case


def _nnunet_case() -> Callable[[], object]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    network, plans, image = _network(), _plans(), _image()
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
    return lambda: predictor.predict_single_npy_array(image[None], {"spacing": list(CASE_MM)})


def _ours_export() -> Callable[[], object]:
    import torch

    from MambaSegmentLib.inference.restoring import restore_slabs
    from MambaSegmentLib.normalization import Normalization
    from MambaSegmentLib.preprocess import PreparedRows, PreprocessingSpec
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


TASKS = {
    "case_256x256x128": {"ours": _ours_case, "nnunet": _nnunet_case},
    "export_512x512x300": {"ours": _ours_export, "nnunet": _nnunet_export},
    "ct_512x512x300": {"ours": _ours_ct},
}
TITLES = {
    "case_256x256x128": "whole case, 256 x 256 x 128, resampled, compact LightM-UNet, one pass",
    "export_512x512x300": "export of 512 x 512 x 300, 5 classes",
    "ct_512x512x300": "synthetic CT, 512 x 512 x 300 at 0.8 x 0.8 x 1.5 mm, the same network at 2 mm, one pass",
}


def main(task: str, side: str) -> None:
    """Prepare, then do it once, and tell what that took beyond what was there before."""
    job = TASKS[task][side]()
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's high-water mark starts anew
    begin = time.perf_counter()
    answer = job()
    wall_s = time.perf_counter() - begin
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    report = {"wall_s": wall_s, "extra_memory_bytes": int(line.split()[1]) * 1024 - before}
    if isinstance(answer, dict):
        counted = ("tiles", "reused_tiles")
        report |= {name if name in counted else f"{name}_s": value for name, value in answer.items()}
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
