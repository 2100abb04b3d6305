"""The parts of the panel that need no widget, with answers that were worked out by hand."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer

from MambaSegmentLib.errors import BundleError, ImageError, ResourceError
from MambaSegmentLib.manifest import Channel
from MambaSegmentLib.progress import Progress
from MambaSegmentLib.store import StoredModel
from MambaSegmentLib.worker.blocking import error_of
from MambaSegmentLib.worker.protocol import Failed

MR = [Channel("T1", "MR"), Channel("T1ce", "MR"), Channel("FLAIR", "MR")]
ONE = [Channel("T1", "MR")]


def guess(panel_module, channels, volumes, chosen=()):
    """Volumes are "name" or "name (modality)"."""
    module = panel_module("volume_guess")
    parts = [text.rstrip(")").partition(" (") for text in volumes]
    return module.guessed(channels, [module.Candidate(name, modality) for name, _, modality in parts], chosen)


@pytest.mark.parametrize(
    ("channels", "volumes", "expected"),
    [
        (ONE, ["T2", "case3_T1"], [1]),
        (ONE, ["T2w", "T1w"], [1]),  # a word that begins so
        (ONE, ["anything"], [0]),  # the only channel takes what there is
        (ONE, ["CT chest (CT)", "head (MR)"], [1]),  # but not another modality
        (ONE, ["CT chest (CT)"], [None]),
        (ONE, ["CT T1 (CT)", "head"], [1]),  # not even of the right name
        (ONE, [], [None]),
        (MR, ["sub1_flair", "sub1_t1ce", "sub1_t1"], [2, 1, 0]),
        (MR, ["T1ce", "T1"], [1, 0, None]),  # a whole word beats its beginning, also for a channel that comes first
        (MR, ["one", "two", "three"], [None, None, None]),  # a wrong guess would go unseen
        ([Channel("CT", "CT")], ["CTA neck", "CT"], [1]),
    ],
)
def test_volumes_are_guessed_by_name_and_modality(panel_module, channels, volumes, expected):
    assert guess(panel_module, channels, volumes) == expected


def test_what_was_chosen_stays_and_is_not_taken_twice(panel_module):
    assert guess(panel_module, MR, ["T1", "FLAIR", "T1ce"], [2, None, None]) == [2, None, 1]


def test_progress_never_goes_back_and_names_stage_count_and_time(panel_module):
    run = panel_module("run_progress").RunProgress()
    seen = []
    for progress in (
        Progress("export", 0, 100),
        Progress("export", 100, 100),
        Progress("load_model", 0, 1),
        Progress("network", 1, 4, 90.2),
        Progress("a new stage", 1, 2),
        Progress("network", 0, 4),  # a second network: the bar waits
        Progress("restore", 0, 1, 0.4),
        Progress("import", 1, 1, 0.0),
    ):
        run.add(progress)
        seen.append((run.value, run.text))
    assert seen == [
        (0, "Handing over the image"),
        (50, "Handing over the image"),
        (80, "Loading the model"),
        (430, "Network · 1 of 4 · about 1 min 30 s left"),  # 50 + 30 + 150 + 50 + a quarter of 600
        (430, "a new stage"),
        (430, "Network · 0 of 4"),
        (880, "Back onto the image's grid"),
        (1000, "Bringing in the segments"),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599.9, "1 h 0 min"), (7500, "2 h 5 min")]
)
def test_time_as_a_person_says_it(panel_module, seconds, text):
    assert panel_module("run_progress").timeText(seconds) == text


def test_an_error_is_what_happened_and_what_to_do(panel_module):
    said = panel_module("messages").messageAndAdvice
    failed = Failed("1", "ImageError", "the volume is empty", "Look at it.")
    assert said(error_of(failed)) == ("the volume is empty", "Look at it.")
    assert said(ImageError("load one first")) == ("load one first", "")
    assert "another device" in said(ResourceError("no memory"))[1]
    assert "another model" in said(BundleError("damaged"))[1]
    message, advice = said(KeyError("x"))
    assert message == "A mistake in MambaSegment: KeyError: 'x'"
    assert "report" in advice


def test_the_table_is_text_with_tabs_and_leaves_out_what_was_not_counted(panel_module):
    module = panel_module("result_rows")
    entry = {"name": "Liver", "color": [1, 0, 0], "volume_ml": 1503.25, "voxels": 1503250}
    entry |= {"diameter_mm": 212.04, "intensity_mean": 58.25, "pieces": 2}
    outcome = SimpleNamespace(segments=[entry, {"name": "not counted"}])
    job = SimpleNamespace(outcome=outcome, request=SimpleNamespace(manifest=SimpleNamespace(name="m")))
    rows = module.rowsOf([job])
    headings, line = module.asText(rows).splitlines()
    assert dict(zip(headings.split("\t"), line.split("\t"), strict=True)) == {
        "Segment": "Liver",
        "Volume (mL)": "1503.250",
        "Longest diameter (mm)": "212.0",
        "Longest diameter in a slice (mm)": "",
        "Mean": "58.25",
        "Standard deviation": "",
        "Voxels": "1503250",
        "Pieces": "2",
        "Largest piece (mL)": "",
    }
    assert rows[0].facts()["model"] == "m"


# --- whether a click may be


def situation(panel_module, **changes):
    image = SimpleNamespace(GetImageData=object, GetName=lambda: "T1")
    facts = {
        "hasScene": True,
        "missing": [],
        "installing": False,
        "model": StoredModel("m", Path("m"), SimpleNamespace(channels=ONE)),
        "volumes": [image],
    }
    module = panel_module("readiness")
    if "queue" in changes:
        known = StoredModel("known", Path("k"), SimpleNamespace(channels=ONE))
        entry = panel_module("model_queue").Entry
        changes["queue"] = [entry(name, (image,) * count) for name, count in changes["queue"]]
        changes["named"] = lambda name: known if name == "known" else None
    return module.whyNotReady(module.Situation(**(facts | changes)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"hasScene": False}, "no scene"),
        ({"missing": ["PyTorch", "numba"]}, "Install what is missing first: PyTorch, numba."),
        ({"missing": ["numba"], "installing": True}, "being installed"),
        ({"model": None}, "Choose a model."),
        ({"model": StoredModel("m", Path("m"), None, "damaged")}, "cannot be used"),
        ({"volumes": [None]}, "Choose a volume for T1."),
        ({"volumes": [SimpleNamespace(GetImageData=lambda: None, GetName=lambda: "x")]}, "“x” holds no voxels"),
        ({"model": None, "queue": [("known", 1)]}, ""),
        ({"queue": [("known", 1), ("gone", 1)]}, "On the list, gone: it is not installed here."),
        ({"queue": [("known", 0)]}, "On the list, known: one of its volumes was removed."),
    ],
)
def test_why_a_segmentation_cannot_begin(panel_module, changes, words):
    found = situation(panel_module, **changes)
    assert (words in found) if words else (found == "")


def test_another_modality_is_said_before_the_run(host, panel_module):
    """As a DICOM series is loaded: the modality lies at the item of the subject hierarchy."""
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "thorax")
    warning = panel_module("readiness").modalityWarning
    assert warning(ONE, [volume]) == ""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    hierarchy.SetItemAttribute(hierarchy.CreateItem(hierarchy.GetSceneItemID(), volume), name, "CT")
    assert warning(ONE, [volume]) == "“thorax” is CT; the model was trained with MR."
    assert warning(ONE, [None]) == ""
    hierarchy.RemoveAllItems(False)  # the application does so with the scene


@pytest.mark.parametrize(
    ("platform", "names"), [("linux", ["auto", "cuda", "cpu"]), ("darwin", ["auto", "mps", "cpu"])]
)
def test_devices_of_a_system(panel_module, platform, names):
    assert [name for _, name in panel_module("choice_box").devices(platform)] == names
