"""What a click costs besides the network: on the stand-in Slicer host, with real nodes and a real worker.

The host changes Qt's classes for good, so it gets a process of its own, which prints what it measured as JSON.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = "hippocampus-t1"
CLICKS = 5
OPENINGS = 3  # each in a process of its own
BATCH_FILES = 4
CUBE = 256  # voxels along each edge
LARGE_SHAPE, LARGE_LABELS = (300, 512, 512), 5  # (K, J, I)
WORKER_STAGES = ("read", "load_model", "preprocess", "network", "restore", "write")


def run() -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with tempfile.TemporaryDirectory() as folder:
        quick = Path(folder) / "quick.safetensors"
        write_quick_model(quick)
        clicks = _in_a_host(str(quick))
    return {"load_average_before": load, **clicks, "panel": measure_panel()}


def measure_panel() -> dict[str, Any]:
    """The panel as a user meets it; `cpu` figures are work of the window's own thread, without waiting for others."""
    from Testing.benchmarks.__main__ import machine

    facts = {name: machine()[name] for name in ("date", "processor", "load_average_before")}
    openings = [_in_a_host("open") for _ in range(OPENINGS)]
    opened = {key: statistics.median(one[key] for one in openings) for key in openings[0]}
    return {**facts, **opened, **_in_a_host("panel")}


def _in_a_host(argument: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "Testing.benchmarks.click", argument]
    output = subprocess.run(command, check=True, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def table(click: dict[str, Any]) -> list[str]:
    """The lines that `make bench` shows of it."""
    start, small, cube = click["worker_start"], click["hippocampus"], click["cube_256"]
    slowest = max(click["cancel_to_idle_s"], key=click["cancel_to_idle_s"].get)
    panel = click["panel"]
    rows = [
        ("worker started until it says hello", start["hello_s"]),
        ("worker started until torch is loaded", start["ready_s"]),
        ("second click beyond the network, hippocampus crop", small["beyond_network_s"]),
        ("second click beyond the network, 256 x 256 x 256", cube["beyond_network_s"]),
        ("click until the worker's first progress, hippocampus crop", small["first_progress_s"]),
        ("click until the worker's first progress, 256 x 256 x 256", cube["first_progress_s"]),
        ("longest pause of the window during a click, 256 x 256 x 256", cube["longest_pause_of_the_window_s"]),
        (f"cancel until idle, slowest stage ({slowest})", click["cancel_to_idle_s"][slowest]),
        ("labels of 512 x 512 x 300 into the scene, 5 segments", click["import_512x512x300"]["seconds"]),
    ]
    of_panel = [
        ("module loaded at Slicer's start", panel["load_s"]),
        ("panel opened for the first time", panel["open_s"]),
        ("the same, work of its thread alone", panel["open_cpu_s"]),
        ("button pressed until progress is shown, phantom", panel["first_progress_s"]),
        ("longest pause of the window from click to table, phantom", panel["longest_pause_of_the_window_s"]),
        ("the same, work of its thread at a stretch", panel["longest_work_of_the_window_cpu_s"]),
        ("Cancel pressed until the panel is idle, phantom", panel["cancel_to_idle_s"]),
        ("longest pause of the window in a batch of files", panel["longest_pause_in_a_batch_s"]),
        ("the same, work of its thread at a stretch", panel["longest_work_in_a_batch_cpu_s"]),
    ]
    on = f"{panel['date']}, {panel['processor']}, load average before {panel['load_average_before']:.1f}"
    return [*_two_columns("a click in Slicer (stand-in host)", rows), *_two_columns(f"the panel ({on})", of_panel)]


def _two_columns(heading: str, rows: list[tuple[str, float]]) -> list[str]:
    return ["", f"| {heading} | time |", "|---|---|", *(f"| {name} | {seconds:.2f} s |" for name, seconds in rows)]


def write_quick_model(path: Path) -> None:
    """A network of two small layers, so that a large volume does not take minutes; nothing it says means anything."""
    import torch

    from MambaSegmentLib.bundle import write_bundle
    from MambaSegmentLib.manifest import Channel, Manifest
    from MambaSegmentLib.models import build_model
    from MambaSegmentLib.normalization import Normalization
    from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
    from MambaSegmentLib.segments import SegmentInfo

    options: dict[str, Any] = {"in_channels": 1, "num_classes": 3, "features_per_stage": (1, 1)}
    options |= {"kernel_sizes": 1, "strides": (1, 8)}
    torch.manual_seed(0)
    manifest = Manifest(
        name="quick",
        architecture_name="resenc_unet",
        architecture_options=options,
        channels=(Channel("T1", "MR"),),
        segments=(SegmentInfo(1, "One", (1.0, 0.0, 0.0)), SegmentInfo(2, "Two", (0.0, 1.0, 0.0))),
        preprocessing=PreprocessingSpec((Normalization("zscore"),), orientation="RAS", spacing_mm=(1.0, 1.0, 1.0)),
        patch_size=(128, 128, 128),
        step=1.0,
    )
    write_bundle(path, manifest, [build_model("resenc_unet", options).state_dict()])


# --- in the process of the host


def measure(quick: Path) -> dict[str, Any]:
    from Testing.host import start

    host = start()
    host.load_module()
    import slicer

    logic = slicer.util.getModuleLogic("MambaSegment")
    result: dict[str, Any] = {"worker_start": _worker_start(host)}
    result["hippocampus"] = _clicks(logic, _phantom(), MODEL, CLICKS)
    cube = _cube()
    result["cube_256"] = _clicks(logic, cube, str(quick), 2)
    result["cancel_to_idle_s"] = _cancels(host, logic, cube, str(quick))
    result["import_512x512x300"] = _import()
    logic.close()
    return result


def open_panel() -> dict[str, float]:
    """What Slicer's start costs, and the first opening of the module, in a process that has done neither."""
    from Testing.host import start

    host = start()
    began = time.perf_counter()
    host.load_module()
    loaded, loaded_cpu_s = time.perf_counter(), time.thread_time()
    host.enter("MambaSegment")
    seconds = {"open_s": time.perf_counter() - loaded, "open_cpu_s": time.thread_time() - loaded_cpu_s}
    return {"load_s": loaded - began, **seconds}


def use_panel() -> dict[str, float]:
    """Medians of warm clicks on the button, the phantom being segmented; then of a batch of files."""
    from Testing.host import start

    host = start()
    host.load_module()
    import qt

    volume = _phantom()
    widget = host.enter("MambaSegment")
    widget.logic.getParameterNode().inputVolume = volume
    run, button = widget.panel.run, widget.ui.segmentButton
    rows = []
    for number in range(CLICKS + 1):
        stopwatch, began = _Beat(), time.perf_counter()
        qt.QTest.mouseClick(button, qt.Qt.LeftButton)
        before = widget.ui.progressBar.value
        host.wait_until(lambda before=before: widget.ui.progressBar.value > before, timeout_s=120)
        first_s = time.perf_counter() - began
        host.wait_until(lambda: not run.isRunning, timeout_s=120)
        row = {"first_progress_s": first_s, "longest_pause_of_the_window_s": stopwatch.stop()}
        row["longest_work_of_the_window_cpu_s"] = stopwatch.busiest_s
        qt.QTest.mouseClick(button, qt.Qt.LeftButton)
        host.wait_until(lambda: "Network" in widget.ui.progressLabel.text, timeout_s=120)
        began = time.perf_counter()
        qt.QTest.mouseClick(button, qt.Qt.LeftButton)
        host.wait_until(lambda: not run.isRunning, timeout_s=120)
        row["cancel_to_idle_s"] = time.perf_counter() - began
        rows += [row] if number else []  # the first one is not warm
    medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    widget.logic.close()
    return {**medians, **_batch_pause(host, widget)}


def _batch_pause(host: Any, widget: Any) -> dict[str, float]:
    import qt

    from MambaSegmentLib.image_io import write_volume
    from MambaSegmentLib.phantom import hippocampus_phantom

    section, node = widget.panel.batch, widget.logic.getParameterNode()
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for number in range(BATCH_FILES):
            write_volume(hippocampus_phantom().image, images / f"{number}.nii.gz")
        section.ui.batchCollapsibleButton.collapsed = False
        node.batchSource, node.batchOutput = str(images), str(Path(folder) / "labels")
        host.wait_until(lambda: section.ui.batchButton.enabled)
        stopwatch = _Beat()
        qt.QTest.mouseClick(section.ui.batchButton, qt.Qt.LeftButton)
        host.wait_until(lambda: not section.isRunning, timeout_s=300)
        longest_s = stopwatch.stop()
        assert section.ui.batchStatusLabel.text == f"Cases: {BATCH_FILES} done.", section.ui.batchStatusLabel.text
    return {"longest_pause_in_a_batch_s": longest_s, "longest_work_in_a_batch_cpu_s": stopwatch.busiest_s}


def _worker_start(host: Any) -> dict[str, float]:
    from MambaSegmentPanel.worker_owner import WorkerOwner

    from MambaSegmentLib.worker.protocol import Hello, Ready

    heard: dict[type, list[float]] = {Hello: [], Ready: []}
    for _ in range(CLICKS):
        now: dict[type, float] = {}
        owner = WorkerOwner(lambda status, now=now: now.setdefault(type(status), time.perf_counter()))  # type: ignore[misc]
        began = time.perf_counter()
        owner.client.start()
        host.wait_until(lambda now=now: Ready in now, timeout_s=120)
        owner.close()
        for kind in heard:
            heard[kind].append(now[kind] - began)
    return {"hello_s": statistics.median(heard[Hello]), "ready_s": statistics.median(heard[Ready])}


class _Beat:
    """A timer of 10 ms: the longest time between two beats is how long the application did not react.

    Attributes:
        busiest_s: the most that its thread computed between two beats; what was slowed by other programs counts not.
    """

    def __init__(self) -> None:
        import qt

        self._last = time.perf_counter()
        self._longest = 0.0
        self._last_cpu = time.thread_time()
        self.busiest_s = 0.0
        self._timer: Any = qt.QTimer()
        self._timer.connect("timeout()", self._beat)
        self._timer.start(10)

    def stop(self) -> float:
        self._beat()
        self._timer.stop()
        self._timer.disconnect("timeout()", self._beat)
        return self._longest

    def _beat(self) -> None:
        now = time.perf_counter()
        self._longest, self._last = max(self._longest, now - self._last), now
        cpu = time.thread_time()
        self.busiest_s, self._last_cpu = max(self.busiest_s, cpu - self._last_cpu), cpu


def _clicks(logic: Any, node: Any, model: str, count: int) -> dict[str, Any]:
    """Medians of warm clicks: from the call to the node, and to the first word of the worker about the job."""
    logic.segment(node, model)
    rows = []
    for _ in range(count):
        first: list[float] = []
        stopwatch = _Beat()
        began = time.perf_counter()

        def note(progress: Any, first: list[float] = first) -> None:
            if progress.stage in WORKER_STAGES:
                first.append(time.perf_counter())

        job = logic.segmentAsync(node, model, onProgress=note)
        logic.segmenter.wait(job)
        wall_s = time.perf_counter() - began
        longest_s = stopwatch.stop()
        timings = job.outcome.timings
        stages = {f"{name}_s": timings[name] for name in timings if name != "total"}
        rows.append(
            {
                "wall_s": wall_s,
                "beyond_network_s": wall_s - timings["network"],
                "first_progress_s": first[0] - began,
                "longest_pause_of_the_window_s": longest_s,
                **stages,
            }
        )
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def _cancels(host: Any, logic: Any, node: Any, model: str) -> dict[str, float]:
    """From the request to the end of the job, for a request that comes with the first word of each stage."""
    logic.segment(node, model)
    seconds = {}
    for stage in ("export", *WORKER_STAGES):
        asked: list[float] = []
        jobs: list[Any] = []

        def stop(progress: Any, stage: str = stage, asked: list[float] = asked, jobs: list[Any] = jobs) -> None:
            if progress.stage == stage and not asked:
                asked.append(time.perf_counter())
                jobs[0].cancel()

        jobs.append(logic.segmentAsync(node, model, onProgress=stop))
        host.wait_until(lambda jobs=jobs: jobs[0].isOver, timeout_s=300)
        seconds[stage] = time.perf_counter() - asked[0]
        assert type(jobs[0].outcome.error).__name__ == "Cancelled", jobs[0].outcome
    return seconds


def _import() -> dict[str, float]:
    """From the worker's file to the node, all that the application's thread does after the network."""
    import slicer
    from MambaSegmentPanel.label_file import readLabels
    from MambaSegmentPanel.provenance import Provenance
    from MambaSegmentPanel.segmentation_in import addSegments, newSegmentation

    from MambaSegmentLib.image_io import write_volume
    from MambaSegmentLib.segments import SegmentInfo
    from MambaSegmentLib.volume import Volume

    volume = slicer.util.addVolumeFromArray(np.zeros(LARGE_SHAPE, np.int16), name="large")
    infos = [SegmentInfo(value, f"part {value}", (1.0, 0.5, 0.0)) for value in range(1, LARGE_LABELS + 1)]
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.nii"
        write_volume(Volume(_blobs(LARGE_SHAPE, LARGE_LABELS)), path)
        for _ in range(CLICKS):
            began = time.perf_counter()
            node = newSegmentation(volume, "result")
            addSegments(node, readLabels(path, LARGE_SHAPE), volume, infos, Provenance("m", "1", ""))
            seconds.append(time.perf_counter() - began)
            slicer.mrmlScene.RemoveNode(node)
            del (
                node
            )  # now, rather than within the next measurement: to take segments apart takes longer than to add them
    slicer.mrmlScene.RemoveNode(volume)
    return {"seconds": statistics.median(seconds), "slowest_s": max(seconds)}


def _blobs(shape: tuple[int, int, int], count: int) -> np.ndarray:
    """Boxes that reach almost to the borders, so that little can be cropped away."""
    labels = np.zeros(shape, np.uint8)
    for value in range(1, count + 1):
        begin = [size * (value - 1) // count + 5 for size in shape]
        end = [size * value // count - 5 for size in shape]
        labels[begin[0] : end[0], begin[1] : end[1], begin[2] : end[2]] = value
    return labels


def _phantom() -> Any:
    import slicer

    from MambaSegmentLib.phantom import hippocampus_phantom

    image = hippocampus_phantom().image
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.ijk_to_lps
    return slicer.util.addVolumeFromArray(image.array, ijkToRAS=matrix, name="phantom")


def _cube() -> Any:
    import slicer

    voxels = np.random.default_rng(0).integers(0, 1000, (CUBE, CUBE, CUBE), np.int16)
    return slicer.util.addVolumeFromArray(voxels, name="cube")


if __name__ == "__main__":
    modes = {"open": open_panel, "panel": use_panel}
    measured = modes[sys.argv[1]]() if sys.argv[1] in modes else measure(Path(sys.argv[1]))
    print()
    print(json.dumps(measured), flush=True)
    os._exit(0)  # at a normal end Qt, VTK and MRML destroy each other in the wrong order
