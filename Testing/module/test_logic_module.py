"""The module as users call it: through getModuleLogic, the launcher PythonSlicer, and the shipped model."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import slicer

from MambaSegmentLib.errors import Cancelled, ConfigError
from MambaSegmentLib.image_io import read_volume
from Testing.module.scene_cases import addPhantom, addTransform, addVolume, aRotation, gridMatrix, labelsOf, tag

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = "hippocampus-t1"
SHELL = [sys.executable, "-m", "MambaSegmentLib"]


@pytest.fixture
def logic(host):
    host.load_module()
    return slicer.util.getModuleLogic("MambaSegment")


def worker(logic):
    """The interpreter itself, below the launcher."""
    return psutil.Process(logic.segmenter.worker.client._run._pid)


def isGone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def fromShell(image, output):
    subprocess.run(
        [*SHELL, "segment", str(image), "-m", MODEL, "-o", str(output), "--quiet"], check=True, cwd=REPOSITORY
    )
    return read_volume(output).array


def phantomVoxels():
    from MambaSegmentLib.phantom import hippocampus_phantom

    return hippocampus_phantom().image.array


@pytest.mark.slow
def test_voxel_by_voxel_what_the_shell_gives(logic, shared, tmp_path):
    """A hippocampus of a patient as Slicer reads it, and the phantom, turned and bent out of every regular place."""
    image = sorted((shared / "data" / "hippocampus_mr" / "images").glob("*.nii.gz"))[0]
    real = slicer.util.loadVolume(str(image))
    node = logic.segment(real, model=MODEL)
    expected = fromShell(image, tmp_path / "real.nii.gz")
    np.testing.assert_array_equal(labelsOf(node, real), expected)
    assert set(np.unique(expected)) == {0, 1, 2}
    assert "torch" not in sys.modules

    odd = addVolume(phantomVoxels().astype(np.float64), gridMatrix("all of it"), "odd")
    slicer.util.saveNode(odd, str(tmp_path / "odd.nrrd"))
    odd.SetAndObserveTransformNodeID(addTransform(aRotation()).GetID())
    expected = _asStored(fromShell(tmp_path / "odd.nrrd", tmp_path / "odd.nii.gz"), tmp_path / "odd.nrrd", odd)
    np.testing.assert_array_equal(labelsOf(logic.segment(odd), odd), expected)
    assert expected.any()


def _asStored(labels, file, volumeNode):
    """Slicer writes left-handed volumes with one axis reversed; found by the voxels themselves."""
    stored, voxels = read_volume(file).array, slicer.util.arrayFromVolume(volumeNode)
    for axes in [(), (0,), (1,), (2,)]:
        if np.array_equal(np.flip(stored, axes), voxels):
            return np.flip(labels, axes)
    raise AssertionError("the file does not hold the voxels of the node")


def test_the_phantom_a_second_click_and_the_end(logic, host):
    volume = addPhantom()
    node = logic.segment(volume, model=MODEL, statistics=True)
    segmentation = node.GetSegmentation()
    names = [segmentation.GetNthSegment(n).GetName() for n in range(2)]
    assert names == ["Anterior hippocampus", "Posterior hippocampus"]
    assert "SCT^5366008^Hippocampus~SCT^255549009^Anterior" in tag(segmentation.GetNthSegment(0), "TerminologyEntry")
    assert 1000 < (labelsOf(node, volume) == 1).sum() < 4000  # 1617 in truth
    process, launcher = worker(logic), worker(logic).parent()
    folder = logic.segmenter.worker.client.folder
    assert launcher.pid != os.getpid()  # so killing what QProcess started would leave the interpreter
    assert launcher.parent().pid == os.getpid()
    stages = []
    again = logic.segment(volume, onProgress=lambda progress: stages.append(progress.stage))
    np.testing.assert_array_equal(labelsOf(again, volume), labelsOf(node, volume))
    assert worker(logic) == process
    assert stages[0] == "export"
    assert stages[-1] == "import"
    assert not list(folder.glob("*job*"))
    host.app.aboutToQuit.emit()  # the end of Slicer
    assert isGone(process)
    assert isGone(launcher)
    assert not folder.exists()


def test_reload_and_unload_end_the_worker(logic, host):
    logic.warmUp()
    host.wait_until(lambda: logic.segmenter.worker.client._run is not None and logic.segmenter.worker.client._run._pid)
    process, folder = worker(logic), logic.segmenter.worker.client.folder
    widget = host.reload("MambaSegment")
    assert isGone(process)
    assert not folder.exists()
    assert widget.logic is not logic
    widget.logic.warmUp()
    owner = widget.logic.segmenter.worker
    host.wait_until(lambda: owner.client._run is not None and owner.client._run._pid)
    process = worker(widget.logic)
    host.unload("MambaSegment")
    assert isGone(process)


def test_unknown_options_and_models_are_named_before_a_worker_starts(logic):
    volume = addPhantom()
    with pytest.raises(ConfigError, match="no option 'qualitty'; known: device"):
        logic.segment(volume, qualitty="best")
    with pytest.raises(ConfigError, match="overlap 3"):
        logic.segment(volume, overlap=3.0)
    assert logic.segmenter.worker._client is None


WITHOUT_TORCH = """
import os, sys
from Testing.host import start
host = start()
import slicer
host.load_module()
host.enter("MambaSegment")
logic = slicer.util.getModuleLogic("MambaSegment")
from Testing.module.scene_cases import addPhantom
node = logic.segment(addPhantom())
print("worker", logic.segmenter.worker.client._run._pid, logic.segmenter.worker.client.folder, flush=True)
heavy = [name for name in ("torch", "numba", "SimpleITK", "safetensors.torch") if name in sys.modules]
print("heavy", heavy, node.GetSegmentation().GetNumberOfSegments(), flush=True)
if sys.argv[1] == "wait":
    sys.stdin.read()
os.kill(os.getpid(), 9)
"""


def test_slicers_process_has_no_torch_and_killing_it_ends_the_worker():
    """A process of its own, killed without a word while its worker is idle: nothing may be left."""
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_TORCH, "wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )
    lines = {}
    for line in process.stdout:
        name, _, rest = line.strip().partition(" ")
        lines[name] = rest
        if name == "heavy":
            break
    pid, _, folder = lines["worker"].partition(" ")
    found = psutil.Process(int(pid))
    assert lines["heavy"] == "[] 2"
    process.kill()
    process.wait()
    end_s = time.monotonic() + 10
    while (not isGone(found) or Path(folder).exists()) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert isGone(found)
    assert not Path(folder).exists()


# --- many cases


def test_volumes_of_the_scene_one_after_the_other(logic, tmp_path):
    good, constant, other = (
        addPhantom("good"),
        addVolume(np.ones((4, 4, 4), np.int16), name="constant"),
        addPhantom("other"),
    )
    seen = []
    result = logic.segmentNodes(
        [good, constant, other],
        MODEL,
        reportFolder=tmp_path / "report",
        onProgress=lambda p: seen.append((p.done, p.total)),
    )
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [node is not None for node in result.nodes] == [True, False, True]
    np.testing.assert_array_equal(labelsOf(result.nodes[0], good), labelsOf(result.nodes[2], other))
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert [(case["case"], case["status"]) for case in report["cases"]] == [
        ("good", "done"),
        ("constant", "failed"),
        ("other", "done"),
    ]
    assert "nothing to segment" in report["cases"][1]["message"]
    assert report["cases"][0]["segments"][0]["volume_ml"] > 1
    table = (tmp_path / "report" / "report.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(table) == 4


@pytest.fixture
def a_folder(tmp_path):
    from MambaSegmentLib.image_io import write_volume
    from MambaSegmentLib.phantom import hippocampus_phantom

    folder = tmp_path / "images é"
    folder.mkdir()
    for name in "ab":
        write_volume(hippocampus_phantom().image, folder / f"{name}.nii.gz")
    (folder / "text.nrrd").write_text("no image")
    return folder


def test_a_folder_with_a_bad_case_and_again_without_repeating_the_good_ones(logic, a_folder, tmp_path, host):
    output, seen, failed = tmp_path / "labels", [], []
    report = logic.segmentFolder(
        a_folder, output, MODEL, onProgress=lambda p: seen.append(p.done), onFailure=failed.append
    )
    facts = report.to_json()
    assert (facts["done"], facts["failed"], facts["resumed"]) == (2, 1, 0)
    assert seen == [0, 1, 2, 3]
    assert [outcome.case for outcome in failed] == ["text"]
    assert sorted(path.name for path in output.iterdir()) == [
        "a.seg.nrrd", "b.seg.nrrd", "batch.jsonl", "report.csv", "report.json", "segments.csv",
    ]  # fmt: skip
    segmentation = slicer.util.loadSegmentation(str(output / "a.seg.nrrd"))
    volume = slicer.util.loadVolume(str(a_folder / "a.nii.gz"))
    np.testing.assert_array_equal(labelsOf(segmentation, volume), labelsOf(logic.segment(volume), volume))
    changed = (output / "a.seg.nrrd").stat().st_mtime_ns
    assert logic.segmentFolder(a_folder, output, MODEL).to_json()["resumed"] == 2
    assert (output / "a.seg.nrrd").stat().st_mtime_ns == changed
    command = [*SHELL, "batch", str(a_folder), "-m", MODEL, "-o", str(output), "--quiet", "--json"]
    shell = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    assert json.loads(shell.stdout)["resumed"] == 2  # the shell goes on where the console stopped


KILLED_IN_A_BATCH = """
import os, sys
from Testing.host import start
host = start()
import slicer
host.load_module()
logic = slicer.util.getModuleLogic("MambaSegment")
from MambaSegmentPanel.batch_job import BatchCallbacks

def onCase(number, state):
    if number == 1 and state.progress is not None:
        print("worker", logic.segmenter.worker.client._run._pid, logic.segmenter.worker.client.folder, flush=True)
        os.kill(os.getpid(), 9)

logic.segmentFolderAsync(sys.argv[1], sys.argv[2], callbacks=BatchCallbacks(onCase=onCase))
host.wait_until(lambda: False, timeout_s=300)
"""


def test_a_batch_in_which_slicer_is_killed_goes_on_and_nothing_is_left(logic, a_folder, tmp_path):
    (a_folder / "text.nrrd").unlink()
    output = tmp_path / "labels"
    command = [sys.executable, "-c", KILLED_IN_A_BATCH, str(a_folder), str(output)]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    killed = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environment, check=False)
    told = next(line for line in killed.stdout.splitlines() if line.startswith("worker"))
    _, pid, folder = told.split(maxsplit=2)
    end_s = time.monotonic() + 10
    while (psutil.pid_exists(int(pid)) or Path(folder).exists()) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(pid)) or isGone(psutil.Process(int(pid)))
    assert not Path(folder).exists()
    before = (output / "a.seg.nrrd").stat().st_mtime_ns
    report = logic.segmentFolder(a_folder, output, MODEL).to_json()
    assert (report["done"], report["resumed"]) == (2, 1)
    assert (output / "a.seg.nrrd").stat().st_mtime_ns == before
    assert sorted(path.name for path in output.iterdir()) == [
        "a.seg.nrrd", "b.seg.nrrd", "batch.jsonl", "report.csv", "report.json", "segments.csv",
    ]  # fmt: skip


def test_cancel_stops_a_folder_and_the_report_says_what_is_open(logic, a_folder, tmp_path):
    def stopAtTheSecond(progress):
        if progress.done == 1:
            logic.cancel()

    with pytest.raises(Cancelled):
        logic.segmentFolder(a_folder, tmp_path / "labels", MODEL, onProgress=stopAtTheSecond)
    report = json.loads((tmp_path / "labels" / "report.json").read_text(encoding="utf-8"))
    assert (report["done"], report["open"]) == (1, 2)
    assert not list((tmp_path / "labels").glob(".*"))


def test_the_lines_of_the_documentation_work_when_pasted(logic, a_folder, tmp_path, host):
    addPhantom("MRHead")
    text = (REPOSITORY / "docs" / "click.md").read_text(encoding="utf-8")
    (a_folder / "text.nrrd").unlink()
    names = {"slicer": slicer}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        block = block.replace('"/data/images"', repr(str(a_folder))).replace('"/data/', f'"{tmp_path.as_posix()}/')
        exec(compile(block, "docs/click.md", "exec"), names)  # noqa: S102
        for waiting in {"job", "batch"} & set(names):
            host.wait_until(lambda waiting=waiting: names[waiting].isOver)
    assert names["segmentationNode"].GetSegmentation().ContainsRepresentation("Closed surface")
    assert names["job"].outcome.segments[0]["volume_ml"] > 1
    assert [outcome.status for outcome in names["result"].report.outcomes] == ["done"]
    assert names["report"].to_json()["done"] == 2
    assert (names["batch"].error, names["batch"].report.to_json()["resumed"]) == (None, 2)
    assert (tmp_path / "report" / "report.csv").is_file()


def test_the_example_script_runs(logic, a_folder, tmp_path, monkeypatch, capfd):
    codes = []
    monkeypatch.setattr(slicer.util, "exit", codes.append)
    script = REPOSITORY / "docs" / "examples" / "segment_folder.py"
    for arguments, code, words in (
        ([str(a_folder), str(tmp_path / "labels")], 1, "2 done, 1 failed"),
        ([str(a_folder / "?.nii.gz"), str(tmp_path / "labels"), MODEL], 0, "2 done, 0 failed"),
        ([str(tmp_path / "nowhere"), str(tmp_path / "labels")], 2, "does not exist"),
    ):
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), {"__name__": "__main__"})  # noqa: S102
        assert codes.pop() == code
        assert words in capfd.readouterr().out
