"""An exported file computes what the checkpoint computed, and says where it comes from."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mambasegment_training import parity
from mambasegment_training.checkpoint import load_weights
from mambasegment_training.config import config_from_json
from mambasegment_training.data import CaseStore
from mambasegment_training.export import export as export_with_cost
from mambasegment_training.loop import fit
from mambasegment_training.network import build_network
from mambasegment_training.prepare import prepare
from mambasegment_training.run_folder import BEST, read_run

from MambaSegmentLib.bundle import read_bundle, read_manifest
from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.inference.sliding import SlidingWindow
from MambaSegmentLib.volume import Volume

from .conftest import SHAPE, TINY, labelled_case, write_case

export = functools.partial(export_with_cost, with_cost=False)  # which starts a process of its own

CARD = {
    "name": "boxes-t1",
    "description": "Boxes.",
    "license": "CC0-1.0",
    "citation": ["A paper", "Another"],
    "channels": [{"name": "T1", "modality": "MR"}],
    "labels": [{"value": 2, "name": "White box", "color": [1, 1, 1]}],
}


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    config = config_from_json(TINY | {"card": CARD, "epochs": 6, "steps_per_epoch": 8, "ema_decay": 0.8})
    fit(prepared.folder, folder, config, device="cpu")
    return folder


def checkpoint_scores(run: Path, dataset, image: np.ndarray) -> np.ndarray:
    network = build_network(dataset, read_run(run).config)
    network.load_state_dict(load_weights(run / BEST)[0])
    return SlidingWindow([network.eval()], 3, dataset.patch_size, device=torch.device("cpu")).scores(image)


@pytest.mark.parametrize("half", [False, True])
def test_the_file_computes_what_the_checkpoint_did(run, prepared, tmp_path, half):
    path = tmp_path / "model.safetensors"
    export(run, path, half=half, device="cpu")
    predictor = Predictor(read_bundle(path), "cpu", quality="fast")
    store = CaseStore(prepared.folder / "cases", prepared.split.validation, 2**30)
    for name in store.identifiers:
        image = np.asarray(store[name].image)
        expected, actual = checkpoint_scores(run, prepared, image), predictor.scores(image)
        # 16 bits hold 11 binary digits; what they cut off may add up in single voxels of the scan
        assert np.sqrt(np.mean((actual - expected) ** 2)) <= (1e-2 * expected.std() if half else 0.0)
        assert np.mean(actual.argmax(0) == expected.argmax(0)) > 0.999


def test_half_precision_is_half_the_size(run, tmp_path):
    sizes = []
    for half in (False, True):
        export(run, tmp_path / "m.safetensors", half=half, device="cpu")
        weights = sum(tensor.numel() for tensor in load_weights(run / BEST)[0].values())
        sizes.append((tmp_path / "m.safetensors").stat().st_size)
    assert sizes[0] - sizes[1] == pytest.approx(2 * weights, rel=0.05)


def test_what_the_file_says(run, prepared, tmp_path):
    written = export(run, tmp_path / "m.safetensors", half=True, device="cpu")
    manifest = read_manifest(tmp_path / "m.safetensors")
    assert manifest == written
    assert (manifest.name, manifest.license, manifest.citation) == ("boxes-t1", "CC0-1.0", "A paper\nAnother")
    assert [(s.value, s.name) for s in manifest.segments] == [(1, "label 1"), (2, "White box")]
    assert (manifest.patch_size, manifest.step, manifest.mirror_axes) == ((16, 16, 16), 0.5, (2,))
    assert manifest.preprocessing == prepared.preprocessing
    assert manifest.architecture_options["num_classes"] == 3
    training = manifest.training
    assert training["cases"] == {"training": 4, "validation": 2, "split_seed": prepared.split_seed}
    assert (training["dataset"], training["loss"], training["epochs"]) == ("boxes", "dice_ce", 6)
    assert training["date"] == read_run(run).date
    assert training["software"]["torch"] == torch.__version__
    assert training["recipe"]["optimizer"]["learning_rate"] == 5e-3


def test_the_measured_dice_is_that_of_the_validation(run, tmp_path):
    """The training validates in one pass, which is the quality "fast"; the card tells of "best"."""
    manifest = export(run, tmp_path / "m.safetensors", device="cpu")
    dice, modes = manifest.training["metrics"]["dice"], manifest.quality_modes
    fast = dice["mean"] + modes["fast"]["dice_difference"]
    assert fast == pytest.approx(load_weights(run / BEST)[1]["mean_dice"])  # 32-bit weights: the very same network
    assert modes["best"] == {"dice_difference": 0.0}
    assert dice["cases"] == 2
    for entry in dice["labels"]:
        assert 0 <= entry["lowest"] <= entry["mean"] <= 1


def test_no_path_and_no_case_is_told(run, prepared, tmp_path):
    export(run, tmp_path / "m.safetensors", device="cpu")
    text = json.dumps(read_manifest(tmp_path / "m.safetensors").to_json())
    assert str(prepared.folder) not in text
    assert str(Path.home()) not in text
    assert "case_00" not in text


def test_labels_come_back_on_the_grid_of_a_volume(run, tmp_path):
    export(run, tmp_path / "m.safetensors", half=True, device="cpu")
    image, _ = labelled_case(77)
    volume = Volume(image, spacing_mm=(1.0, 1.0, 1.0), origin_mm=(5.0, 6.0, 7.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))
    result = Predictor(read_bundle(tmp_path / "m.safetensors"), "cpu").segment([volume])
    assert result.labels.array.shape == SHAPE
    assert result.labels.origin_mm == (5.0, 6.0, 7.0)
    assert set(np.unique(result.labels.array)) <= {0, 1, 2}


def test_a_card_from_a_file_replaces_the_runs(run, tmp_path):
    (tmp_path / "card.toml").write_text('epochs = 1\n[card]\nlicense = "MIT"\n', encoding="utf-8")
    manifest = export(run, tmp_path / "other-name.safetensors", card_file=tmp_path / "card.toml", device="cpu")
    assert (manifest.name, manifest.license, manifest.description) == ("other-name", "MIT", "")


def test_dates(run, tmp_path):
    assert export(run, tmp_path / "m.safetensors", date="2024-02-29", device="cpu").training["date"] == "2024-02-29"
    with pytest.raises(ConfigError, match="expected YYYY-MM-DD"):
        export(run, tmp_path / "m.safetensors", date="2023-02-29", device="cpu")
    content = json.loads((run / "config.json").read_text(encoding="utf-8"))
    del content["date"]
    old = tmp_path / "old"
    shutil.copytree(run, old)
    (old / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match="the run did not note its date; give it as --date"):
        export(old, tmp_path / "m.safetensors", device="cpu")
    (old / BEST).unlink()
    with pytest.raises(ConfigError, match="no validated weights yet"):
        export(old, tmp_path / "m.safetensors", date="2024-02-29", device="cpu")


def test_targets_and_runs_that_cannot_be(run, tmp_path):
    with pytest.raises(BundleError, match=r"must end in \.safetensors"):
        export(run, tmp_path / "model.pth")
    with pytest.raises(BundleError, match="does not exist; create it first"):
        export(run, tmp_path / "absent" / "model.safetensors")
    with pytest.raises(ConfigError, match="start it with `mambatrain fit"):
        export(tmp_path, tmp_path / "model.safetensors")
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.fixture(scope="module")
def second_run(prepared, tmp_path_factory) -> Path:
    """The same recipe on two other validation cases: another fold."""
    folder = tmp_path_factory.mktemp("second")
    others = prepared.split.train[:2]
    prepare(prepared.folder.parent / "boxes", folder / "work", validation_cases=others)
    fit(folder / "work", folder / "run", config_from_json(TINY | {"card": CARD}), device="cpu")
    return folder / "run"


def test_several_runs_are_the_folds_of_one_model(run, second_run, prepared, tmp_path):
    manifest = export([run, second_run], tmp_path / "m.safetensors", device="cpu")
    folds = read_bundle(tmp_path / "m.safetensors").folds
    for fold, one in zip(folds, (run, second_run), strict=True):
        weights = load_weights(one / BEST)[0]
        assert all(torch.equal(fold[name], weights[name]) for name in fold)
    training = manifest.training
    assert training["cases"] == {
        "training": [4, 4],
        "validation": [2, 2],
        "all": 6,
        "split_seed": prepared.split_seed,
    }
    assert training["metrics"]["dice"]["cases"] == 4  # each fold its own two
    assert np.mean(training["metrics"]["folds"]) == pytest.approx(training["metrics"]["dice"]["mean"])
    assert "own validation cases" in training["metrics"]["measured_on"]
    assert len(set(training["checkpoints"])) == 2


def test_a_folder_of_folds_stands_for_them(run, second_run, tmp_path):
    for number, one in ((10, second_run), (2, run)):  # as numbers, not as texts
        shutil.copytree(one, tmp_path / "runs" / f"fold_{number}")
    both = export(tmp_path / "runs", tmp_path / "m.safetensors", device="cpu", date="2024-02-29")
    listed = export([run, second_run], tmp_path / "n.safetensors", device="cpu", date="2024-02-29")
    assert both == listed


def test_runs_that_make_no_one_model(run, second_run, prepared, tmp_path):
    target = tmp_path / "m.safetensors"
    rival, other = tmp_path / "rival", tmp_path / "other"
    shutil.copytree(run, rival)
    with pytest.raises(ConfigError, match="rivals for one fold"):
        export([run, rival], target)
    with pytest.raises(ConfigError, match="is given twice"):
        export([run, run], target)
    wider = {**TINY["network"], "options": {**TINY["network"]["options"], "init_filters": 16}}
    shutil.copytree(second_run, other)
    content = json.loads((other / "config.json").read_text(encoding="utf-8"))
    content["config"]["network"] = wider
    (other / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match="the options of the network differ"):
        export([run, other], target)
    overlapping = [prepared.split.validation[0], prepared.split.train[0]]
    prepare(prepared.folder.parent / "boxes", tmp_path / "work", validation_cases=overlapping)
    content["work"], content["config"]["network"] = str(tmp_path / "work"), TINY["network"]
    (other / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match="share 1 of their validation cases"):
        export([run, other], target)
    for number in range(5):  # without the sixth
        write_case(tmp_path / "few", f"case_{number:03d}", *labelled_case(number))
    kept = [name for name in prepared.split.validation if name != "case_005"][:1]
    prepare(tmp_path / "few", tmp_path / "few_work", validation_cases=kept)
    content["work"] = str(tmp_path / "few_work")
    (other / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match="know different cases"):
        export([second_run, other], target)
    assert not target.exists()


def test_a_file_that_computes_something_else_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "LARGEST_RMS_OF_HALF", 1e-9)  # what 16 bits cut off is more than that
    with pytest.raises(BundleError, match="export without --half"):
        export(run, tmp_path / "m.safetensors", half=True, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_named(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    content = bytearray((run / BEST).read_bytes())
    (tmp_path / "run" / BEST).write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=r"best\.safetensors is damaged"):
        export(tmp_path / "run", tmp_path / "m.safetensors", device="cpu")


def test_parity_and_cost_stand_in_the_card(run, tmp_path):
    manifest = export_with_cost(run, tmp_path / "m.safetensors", half=True, device="cpu")
    found = manifest.training["metrics"]["parity"]
    assert 0 < found["rms_logit_difference_sd"] < parity.LARGEST_RMS_OF_HALF
    assert found["same_labels"] > 0.999
    rows = manifest.measured["cpu"]
    assert [row["size"] for row in rows] == [[16, 16, 16]]  # cases of 12 x 14 x 10 lie within one patch
    assert rows[0]["seconds"] > 0
    assert 2**16 < rows[0]["memory_bytes"] < 2**32
    assert "threads" in rows[0]["hardware"]
