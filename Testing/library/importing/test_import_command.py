"""`models import` on what people have: several models, folds, zips, bare weights, other plans; and their faults."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import MambaSegmentLib as ms
from MambaSegmentLib.bundle import read_bundle, read_manifest
from MambaSegmentLib.cli import main
from MambaSegmentLib.importing import child, cli, reading
from MambaSegmentLib.volume import Volume
from Testing.foreign_models import (
    a_network,
    authors_state_dict,
    checkpoint_of,
    dataset_of,
    older_configuration,
    plans_of,
    write_results,
)

OPTIONS = {
    "in_channels": 1,
    "num_classes": 3,
    "spatial_dims": 2,
    "features_per_stage": [8, 16],
    "kernel_sizes": 3,
    "strides": [[1, 1], [2, 2]],
}
STRIDES = [[1, 1], [2, 2]]
TRAINER = "nnUNetTrainerUMambaBot"


def weights_of(salt: str = "", **options):
    return authors_state_dict("umamba_bot", a_network("umamba_bot", {**OPTIONS, **options}, salt))


def a_results_folder(parent, configuration="2d", trainer=TRAINER, folds=("0",), which="final", **parts):
    plans = parts.get("plans") or plans_of({configuration: older_configuration([8, 8], STRIDES)})
    checkpoint = parts.get("checkpoint") or checkpoint_of(trainer, configuration, weights_of())
    folder = parent / f"{trainer}__nnUNetPlans__{configuration}"
    return write_results(folder, plans, parts.get("dataset") or dataset_of(), dict.fromkeys(folds, checkpoint), which)


@pytest.fixture(autouse=True)
def opened_here(monkeypatch):
    """Files are opened in the test's process: starting one for each takes a second. Other tests here start them."""

    def open_here(source, folder, *_bounds):
        child.main(source, folder)
        return "opened here"

    monkeypatch.setattr(reading, "_open_apart", open_here)


@pytest.fixture
def importing(tmp_path, capsys):
    """Runs the command; returns its exit code, the manifest if there is one, and what it said."""

    def run(source, *arguments, output="m.safetensors"):
        target = tmp_path / output
        code = main(["models", "import", str(source), "-o", str(target), "--quiet", *arguments])
        said = capsys.readouterr()
        assert target.exists() == (code == 0)
        assert said.err.count("\n") == 1 or code == 0  # one line for what went wrong
        return code, read_manifest(target) if code == 0 else None, said.err

    return run


def test_the_description_holds_what_the_files_say_and_warns_of_the_rest(tmp_path, importing):
    folder = a_results_folder(tmp_path, folds=("0", "3"), dataset=dataset_of(channel_names={"0": "CT"}))
    (folder / "fold_1").mkdir()
    (folder / "fold_3" / "validation").mkdir()
    (folder / "fold_3" / "validation" / "summary.json").write_text('{"foreground_mean": {"Dice": 0.875}}')
    code, manifest, said = importing(folder, "--name", "My model", "--license", "CC-BY-4.0")
    assert code == 0
    assert (manifest.name, manifest.license) == ("My model", "CC-BY-4.0")
    assert [(s.value, s.name) for s in manifest.segments] == [(1, "left"), (2, "right")]
    assert [(c.name, c.modality) for c in manifest.channels] == [("CT", "CT")]
    assert manifest.preprocessing.orientation == "as stored"
    assert manifest.preprocessing.spacing_mm == (None, 1.0, 1.0)
    assert manifest.training["dataset"] == "Dataset901_Made"
    imported = manifest.training["imported"]
    assert imported["trainer"] == TRAINER and imported["configuration"] == "2d"
    facts = {"epochs": 100, "best_ema_pseudo_dice": 0.625, "last_pseudo_dice": 0.5}
    assert imported["folds"] == {"0": facts, "3": {**facts, "validation_dice": 0.875}}
    assert [entry["name"] for entry in imported["files"]] == [
        "fold_0/checkpoint_final.pth",
        "fold_3/checkpoint_final.pth",
        "plans.json",
        "dataset.json",
    ]
    assert all(len(entry["sha256"]) == 64 for entry in imported["files"])
    assert "fold 1 has no checkpoint_final.pth" in said and "taken as they are stored" in said
    assert "licence" not in said
    assert "taken as they are stored" in manifest.limitations
    assert len(read_bundle(tmp_path / "m.safetensors").folds) == 2
    assert main(["models", "verify", str(tmp_path / "m.safetensors")]) == 0


def test_several_models_below_a_folder_are_listed(tmp_path, importing, monkeypatch):
    dataset = tmp_path / "results" / "Dataset901_Made"
    a_results_folder(dataset)
    three = plans_of({"3d_fullres": older_configuration([8, 8, 8], [[1, 1, 1], [2, 2, 2]])})
    other = weights_of(spatial_dims=3, strides=[[1, 1, 1], [2, 2, 2]])
    checkpoint = checkpoint_of(TRAINER, "3d_fullres", other)
    a_results_folder(dataset, "3d_fullres", plans=three, checkpoint=checkpoint)
    code, _, said = importing(tmp_path / "results")
    assert code == 2
    assert f"{TRAINER}__nnUNetPlans__2d" in said and f"{TRAINER}__nnUNetPlans__3d_fullres" in said
    code, manifest, _ = importing(tmp_path / "results", "--configuration", "3d_fullres")
    assert manifest.patch_size == (8, 8, 8)
    code, _, said = importing(tmp_path / "results", "--configuration", "2d_lowres", output="n.safetensors")
    assert code == 2 and "no model of the configuration '2d_lowres'" in said
    monkeypatch.setattr(cli, "_someone_is_there", lambda: True)
    for answer, expected in [("1\n", 0), ("9\n", 2), ("\n", 2)]:
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert main(["models", "import", str(dataset), "-o", str(tmp_path / "q.safetensors"), "--quiet"]) == expected
    assert read_manifest(tmp_path / "q.safetensors").patch_size == (8, 8)


def test_a_fold_folder_a_checkpoint_by_name_and_chosen_folds(tmp_path, importing):
    folder = a_results_folder(tmp_path, folds=("0", "1", "2"), which="best")
    code, _, said = importing(folder)
    assert code == 3 and "there is checkpoint_best.pth" in said and "--checkpoint" in said
    _, manifest, _ = importing(folder, "--checkpoint", "best", "--folds", "2,0")
    assert list(manifest.training["imported"]["folds"]) == ["2", "0"]
    _, manifest, _ = importing(folder / "fold_1", "--checkpoint", "best")
    assert list(manifest.training["imported"]["folds"]) == ["1"]
    code, _, said = importing(folder, "--checkpoint", "best", "--folds", "7", output="n.safetensors")
    assert code == 3 and "fold 7" in said


def test_the_zip_that_nnunet_exports(tmp_path, importing):
    folder = a_results_folder(tmp_path / "Dataset901_Made")
    archive = shutil.make_archive(str(tmp_path / "exported"), "zip", tmp_path, "Dataset901_Made")
    assert any(name.endswith("plans.json") for name in zipfile.ZipFile(archive).namelist())
    _, from_zip, _ = importing(archive)
    _, from_folder, _ = importing(folder, output="n.safetensors")
    assert from_zip.training == from_folder.training
    assert from_zip.sha256 != from_folder.sha256  # their names differ
    _, again, _ = importing(archive, output="m.safetensors")
    assert again.sha256 == from_zip.sha256  # the same bytes each time


def test_a_subclass_is_recognised_by_its_weights_or_named(tmp_path, importing):
    folder = a_results_folder(tmp_path, trainer="nnUNetTrainerMine_lr3")
    _, manifest, _ = importing(folder)
    assert manifest.architecture_name == "umamba_bot"
    weights = {f"module.net.{name}": tensor for name, tensor in weights_of().items()}
    odd = a_results_folder(tmp_path, trainer="Other", checkpoint=checkpoint_of("Other", "2d", weights))
    code, _, said = importing(odd, output="n.safetensors")
    assert code == 3 and "trainer 'Other' is not known" in said and "--architecture" in said
    code, _, said = importing(folder, "--architecture", "umamba_enc", output="n.safetensors")
    assert code == 3 and "U-Mamba_Bot" in said


def test_old_u_mamba_and_the_first_lightm_unet_are_refused_by_name(tmp_path, importing):
    old = {**weights_of(), "decoder.transpconvs.0.weight": torch.zeros(2, 2, 2, 2)}
    folder = a_results_folder(tmp_path, checkpoint=checkpoint_of(TRAINER, "2d", old))
    code, _, said = importing(folder)
    assert code == 3 and "before 2024-03-27" in said
    first = {"convInit.conv.weight": torch.zeros(32, 1, 3, 3)}
    trainer = "nnUNetTrainerLightMUNet"
    folder = a_results_folder(tmp_path, trainer=trainer, checkpoint=checkpoint_of(trainer, "2d", first))
    code, _, said = importing(folder)
    assert code == 3 and "first released version of LightM-UNet" in said


def test_incomplete_weights_are_refused_with_the_list(tmp_path, importing):
    weights = {name: tensor for name, tensor in weights_of().items() if "seg_layers.0" not in name}
    folder = a_results_folder(tmp_path, checkpoint=checkpoint_of(TRAINER, "2d", weights))
    code, _, said = importing(folder)
    assert code == 3
    assert "fold 0: the weights do not fit umamba_bot" in said
    assert "missing: decoder.0.head.weight, decoder.0.head.bias" in said


def test_weights_that_are_not_finite_are_refused(tmp_path, importing):
    weights = weights_of()
    weights["decoder.seg_layers.0.bias"] = torch.full((3,), torch.nan)
    code, _, said = importing(a_results_folder(tmp_path, checkpoint=checkpoint_of(TRAINER, "2d", weights)))
    assert code == 2 and "NaN" in said


def test_a_checkpoint_of_nnunet_alone_is_enough(tmp_path, importing):
    arguments = {
        "plans": plans_of({"2d": older_configuration([8, 8], STRIDES)}),
        "dataset_json": dataset_of(),
        "configuration": "2d",
        "fold": 4,
    }
    torch.save(checkpoint_of(TRAINER, "2d", weights_of(), init_args=arguments), tmp_path / "checkpoint_final.pth")
    _, manifest, _ = importing(tmp_path / "checkpoint_final.pth")
    assert manifest.patch_size == (8, 8)
    assert list(manifest.training["imported"]["folds"]) == ["4"]


def test_what_a_configuration_inherits(tmp_path, importing):
    base = older_configuration([16, 16], STRIDES, normalization_schemes=["CTNormalization"])
    child = {"inherits_from": "2d", "patch_size": [8, 8]}
    plans = plans_of({"2d": base, "2d_small": child, "a": {"inherits_from": "b"}, "b": {"inherits_from": "a"}})
    checkpoint = checkpoint_of(TRAINER, "2d_small", weights_of())
    _, manifest, _ = importing(a_results_folder(tmp_path, "2d_small", plans=plans, checkpoint=checkpoint))
    assert manifest.patch_size == (8, 8)
    (normalization,) = manifest.preprocessing.normalization
    assert (normalization.kind, normalization.lower, normalization.upper) == ("ct", 1.0, 20.0)
    assert (normalization.mean, normalization.std) == (10.0, 4.0)
    circle = checkpoint_of(TRAINER, "a", weights_of())
    code, _, said = importing(a_results_folder(tmp_path, "a", plans=plans, checkpoint=circle), output="n.safetensors")
    assert code == 3 and "a inherits from b inherits from a, a circle" in said


def test_regions_and_the_ignore_label(tmp_path, importing):
    dataset = dataset_of(
        labels={"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3, "ignore": 4},
        regions_class_order=[1, 2, 3],
    )
    folder = a_results_folder(tmp_path, dataset=dataset)
    _, manifest, said = importing(folder)
    assert [(r.name, r.labels, r.value) for r in manifest.regions] == [
        ("whole", (1, 2, 3), 1),
        ("core", (2, 3), 2),
        ("active", (3,), 3),
    ]
    assert [(s.value, s.name) for s in manifest.segments] == [
        (1, "whole without core, active"),
        (2, "core without active"),
        (3, "active"),
    ]
    assert manifest.ignore_label == 4
    assert "regions" in said
    network = a_network("umamba_bot", OPTIONS)
    array = np.cumsum(np.random.default_rng(0).normal(5, 2, (2, 8, 8)), axis=1).astype(np.float32) + 100
    found = ms.segment(Volume(array), model=tmp_path / "m.safetensors", device="cpu").labels.array
    prepared = torch.from_numpy((array - array.mean()) / array.std())
    with torch.inference_mode():
        probabilities = torch.sigmoid(network(prepared[:, None])).numpy()
    expected = np.zeros(array.shape, np.uint8)
    for region, value in enumerate((1, 2, 3)):
        expected[probabilities[:, region] > 0.5] = value
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(found, expected)


def test_a_single_region(tmp_path, importing):
    """One output, whose probability is its own: two labels that were trained as one."""
    options = {**OPTIONS, "num_classes": 1}
    network = a_network("umamba_bot", options)
    folder = a_results_folder(
        tmp_path,
        dataset=dataset_of(labels={"background": 0, "lesion": [1, 2]}, regions_class_order=[1]),
        checkpoint=checkpoint_of(TRAINER, "2d", authors_state_dict("umamba_bot", network)),
    )
    _, manifest, said = importing(folder)
    assert "overlap" not in said
    assert [(r.name, r.labels, r.value) for r in manifest.regions] == [("lesion", (1, 2), 1)]
    assert [(s.value, s.name) for s in manifest.segments] == [(1, "lesion")]
    array = np.cumsum(np.random.default_rng(0).normal(5, 2, (2, 8, 8)), axis=1).astype(np.float32) + 100
    found = ms.segment(Volume(array), model=tmp_path / "m.safetensors", device="cpu").labels.array
    with torch.inference_mode():
        logits = network(torch.from_numpy((array - array.mean()) / array.std())[:, None]).numpy()[:, 0]
    assert 0 < (logits > 0).mean() < 1
    np.testing.assert_array_equal(found, logits > 0)


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "left": 1, "right": 2},
        {"right": "2", "left": "1", "background": "0"},
        {"background": 0, "left": [1], "right": [2]},
        {"0": "background", "1": "left", "2": "right"},
    ],
)
def test_ways_to_write_labels(tmp_path, importing, labels):
    dataset = dataset_of(labels=labels)
    dataset["modality"] = {"0": dataset.pop("channel_names")["0"]}
    _, manifest, _ = importing(a_results_folder(tmp_path, dataset=dataset))
    assert [(s.value, s.name) for s in manifest.segments] == [(1, "left"), (2, "right")]
    assert [channel.name for channel in manifest.channels] == ["MR"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "a": 1, "b": 3}}, "without a gap"),
        ({"labels": {"background": 0, "a": 1, "ignore": 5}}, "the ignore label is 5; expected 2"),
        ({"labels": {"a": 1, "b": 0}}, "expected the background 0"),
        ({"labels": {"background": 0, "a": [1, 2], "b": 2}}, "regions_class_order is None"),
        ({"labels": {"background": 0, "a": "x"}}, "the label 'a' is 'x'"),
        ({"channel_names": {"0": "T1", "1": "T2"}}, "normalises 1 channel(s), but dataset.json has 2"),
        ({"channel_names": {"1": "T1"}}, "expected the numbers 0, 1"),
        ({"channel_names": {}}, "at least one channel"),
        ({"labels": 7}, "not of the expected kind"),
    ],
)
def test_data_sets_that_make_no_sense(tmp_path, importing, changes, message):
    code, _, said = importing(a_results_folder(tmp_path, dataset=dataset_of(**changes)))
    assert code == 3 and message in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"previous_stage": "3d_lowres"}, "second stage of a cascade"),
        ({"preprocessor_name": "Mine"}, "asks for 'Mine'"),
        ({"normalization_schemes": ["MyNorm"]}, "normalises by 'MyNorm'"),
        ({"resampling_fn_data": "mine"}, "resamples by 'mine'"),
        ({"resampling_fn_data_kwargs": {"force_separate_z": True}}, "without force"),
        ({"patch_size": [8, 8, 0]}, "patch_size is [8, 8, 0]"),
        ({"patch_size": [9, 8]}, "takes multiples of (2, 2)"),
        ({"spacing": [1.0]}, "spacing is [1.0]"),
        ({"pool_op_kernel_sizes": [[1, 1], [0, 2]]}, "positive whole numbers"),
        ({"conv_kernel_sizes": [[3, 3]]}, "network cannot be built"),
        ({"conv_kernel_sizes": None}, "conv_kernel_sizes"),
    ],
)
def test_plans_that_cannot_be_followed(tmp_path, importing, changes, message):
    plans = plans_of({"2d": older_configuration([8, 8], STRIDES, **changes)})
    code, _, said = importing(a_results_folder(tmp_path, plans=plans))
    assert code == 3 and message in said


def test_folds_of_different_trainings_are_not_mixed(tmp_path, importing):
    folder = a_results_folder(tmp_path, folds=("0", "1"))
    torch.save(checkpoint_of("nnUNetTrainerUMambaEnc", "2d", weights_of()), folder / "fold_1" / "checkpoint_final.pth")
    code, _, said = importing(folder)
    assert code == 3 and "of another training" in said


def test_folders_that_hold_no_model(tmp_path, importing):
    code, _, said = importing(tmp_path)
    assert code == 3 and "is no trained model" in said
    code, _, said = importing(tmp_path / "none")
    assert code == 3 and "does not exist" in said
    folder = a_results_folder(tmp_path)
    (folder / "plans.json").write_text("{")
    code, _, said = importing(folder)
    assert code == 3 and "is no JSON" in said


def test_into_the_store_under_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("MambaSegmentLib.store.user_folder", lambda: tmp_path / "store")
    folder = a_results_folder(tmp_path)
    assert main(["models", "import", str(folder), "--add", "--quiet", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["name"] == "Dataset901_Made-umamba_bot-2d"
    assert main(["models", "info", "Dataset901_Made-umamba_bot-2d"]) == 0
    assert main(["models", "import", str(folder), "--add", "--quiet"]) == 2
    assert "already" in capsys.readouterr().err
    assert main(["models", "import", str(folder), "--add", "--quiet", "--name", "../escape"]) != 0
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["Dataset901_Made-umamba_bot-2d.safetensors"]
    assert not (tmp_path / "escape.safetensors").exists()


MAMBA_UNET = {"in_channels": 1, "num_classes": 4, "dims": [4, 8, 16, 32], "depths": [1, 1, 1, 1], "d_state": 4}
FACTS = ["--labels", "RV,Myo,LV", "--normalization", "zscore", "--patch-size", "32,32"]


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_bare_weights_of_mamba_unet_with_the_facts_they_lack(tmp_path, importing, ending):
    network = a_network("mamba_unet", MAMBA_UNET)
    weights = authors_state_dict("mamba_unet", network)
    path = tmp_path / f"VIM_unet{ending}"
    if ending == ".pth":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    _, manifest, said = importing(path, *FACTS, "--spacing", "1.25,1.5", "--channels", "cine MR")
    assert manifest.architecture_options["dims"] == [4, 8, 16, 32]
    assert [segment.name for segment in manifest.segments] == ["RV", "Myo", "LV"]
    assert manifest.preprocessing.spacing_mm == (None, 1.25, 1.5)
    assert "resize each slice" in said
    array = np.cumsum(np.random.default_rng(0).normal(5, 2, (2, 32, 32)), axis=1).astype(np.float32)
    image = Volume(array, spacing_mm=(1.5, 1.25, 8.0))
    found = ms.segment(image, model=tmp_path / "m.safetensors", device="cpu").labels.array
    with torch.inference_mode():
        logits = network(torch.from_numpy((array - array.mean()) / array.std())[:, None]).numpy()
    expected = logits.argmax(axis=1)
    assert len(np.unique(expected)) > 1
    assert np.mean(found == expected) > 0.998


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (FACTS[:4], 2, "--patch-size is missing"),
        (FACTS[:2] + FACTS[4:], 2, "--normalization is missing"),
        (["--labels", "a,b", *FACTS[2:]], 2, "--labels names 2 classes, but the network has 3"),
        ([*FACTS, "--spacing", "1,1,1"], 2, "--spacing"),
        ([*FACTS, "--normalization", "none"], 2, "2 --normalization for 1 channel(s)"),
        ([*FACTS[:3], "ct:1,2", *FACTS[4:]], 2, '"ct" needs the numbers'),
        ([*FACTS[:5], "33,32"], 3, "multiples of (32, 32)"),
        ([*FACTS[:5], "32,32,32"], 3, "mamba_unet is a 2D network"),
        ([*FACTS, "--channels", "a,b"], 3, "of another shape"),
        ([*FACTS, "--architecture", "unet"], 2, "unknown architecture 'unet'"),
    ],
)
def test_facts_that_are_missing_or_do_not_fit(tmp_path, importing, arguments, code, message):
    save_file(authors_state_dict("mamba_unet", a_network("mamba_unet", MAMBA_UNET)), tmp_path / "a.safetensors")
    found, _, said = importing(tmp_path / "a.safetensors", *arguments)
    assert message in said
    assert found == code


def test_weights_whose_plan_is_given_beside_them(tmp_path, importing):
    torch.save({"state_dict": weights_of()}, tmp_path / "a.pth")
    plans = tmp_path / "plans.json"
    plans.write_text(json.dumps(plans_of({"2d": older_configuration([8, 8], STRIDES)})))
    code, _, said = importing(tmp_path / "a.pth", "--normalization", "zscore", "--patch-size", "8,8")
    assert code == 3 and "do not tell the strides" in said
    _, manifest, said = importing(
        tmp_path / "a.pth", "--normalization", "zscore", "--plans", str(plans), "--configuration", "2d"
    )
    assert manifest.patch_size == (8, 8)
    assert "names of its labels are not known" in said
    code, _, said = importing(tmp_path / "m.safetensors", output="n.safetensors")
    assert code == 3 and "model file of ours already" in said
