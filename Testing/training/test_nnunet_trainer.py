"""Our recipe under stock nnU-Net: its plans, the trainer that nnU-Net finds, and a training as good as our own."""

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mambasegment_training.cli import main as mambatrain
from mambasegment_training.config import TrainingConfig, config_from_json
from mambasegment_training.export import export
from mambasegment_training.loop import fit
from mambasegment_training.nnunet_plans import recipe_of, with_recipe, write_plans
from mambasegment_training.prepare import prepare

from MambaSegmentLib.bundle import read_bundle
from MambaSegmentLib.cli import main
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.models.for_nnunet import build_network
from MambaSegmentLib.review.measure import dice_per_label
from MambaSegmentLib.volume import Volume
from Testing.foreign_models import newer_form, older_configuration, plans_of

from .conftest import TINY, labelled_case, write_case

pytest.importorskip("nnunetv2", reason="needs nnU-Net, whose trainer this is about")

DATASET = "Dataset901_Boxes"
RECIPE = TINY | {
    "epochs": 2,
    "steps_per_epoch": 25,
    "optimizer": {"learning_rate": 1e-2},
    "ema_decay": None,
    "data": {"batch_size": 2, "foreground_fraction": 0.5},
    "augment": {"mirror_axes": [0, 1, 2]},  # as nnU-Net does
    "validation": {"every_epochs": 1},
}


def stock_plans(**changes: Any) -> dict[str, Any]:
    """As nnU-Net plans a small data set."""
    arguments = {
        "n_stages": 2,
        "features_per_stage": [8, 16],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 2,
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [2, 2],
        "n_conv_per_stage_decoder": [2],
    }
    configuration = newer_form(
        older_configuration([14, 16, 10], [[1, 1, 1], [2, 2, 2]], median_image_size_in_voxels=[12, 14, 10], **changes),
        network_class_name="dynamic_network_architectures.architectures.unet.PlainConvUNet",
        arch_kwargs=arguments,
        _kw_requires_import=[],
    )
    return plans_of({"3d_fullres": configuration}, dataset_name=DATASET)


def a_recipe(name: str = "lightm_unet", **changes: Any) -> TrainingConfig:
    options = RECIPE["network"]["options"] if name == "lightm_unet" else {}
    return config_from_json(RECIPE | {"network": {"name": name, "options": options}} | changes)


def test_the_plan_gets_network_patch_batch_and_recipe(tmp_path, capsys):
    source = tmp_path / "nnUNetPlans.json"
    source.write_text(json.dumps(stock_plans()))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('epochs = 7\n[network]\nname = "umamba_enc"\n')
    assert mambatrain(["nnunet-plans", str(source), "--config", str(recipe), "--set", "data.batch_size=3"]) == 0
    assert "-tr MambaSegmentTrainer -p MambaSegmentPlans" in capsys.readouterr().out
    plans = json.loads((tmp_path / "MambaSegmentPlans.json").read_text())
    (content,) = plans["configurations"].values()
    assert plans["plans_name"] == "MambaSegmentPlans"
    assert (content["batch_size"], content["patch_size"]) == (3, [14, 16, 10])
    assert content["data_identifier"] == stock_plans()["configurations"]["3d_fullres"]["data_identifier"]
    assert recipe_of(content).epochs == 7
    kwargs = content["architecture"]["arch_kwargs"]
    assert (kwargs["name"], kwargs["strides"]) == ("umamba_enc", [[1, 1, 1], [2, 2, 2]])
    network = build_network(1, 3, **kwargs, deep_supervision=True)
    assert [tuple(one.shape) for one in network(torch.zeros(1, 1, 14, 16, 10))] == [(1, 3, 14, 16, 10)]


def test_plans_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match="run nnUNetv2_plan_and_preprocess first"):
        write_plans(tmp_path / "absent.json", a_recipe())
    (tmp_path / "MambaSegmentPlans.json").write_text(json.dumps(stock_plans()))
    with pytest.raises(ConfigError, match="would be lost"):
        write_plans(tmp_path / "MambaSegmentPlans.json", a_recipe())
    for recipe, message in (
        (a_recipe(ema_decay=0.9), "ema_decay has no place"),
        (a_recipe(pretrained={"file": "x.pth"}), "pretrained.file has no place"),
        (a_recipe("swin_umamba_d"), "choose another configuration"),
    ):
        with pytest.raises(ConfigError, match=message):
            with_recipe(stock_plans(), recipe, "3d_fullres", "New")
    with pytest.raises(ConfigError, match="hold no recipe"):
        recipe_of({})


def test_nnunet_finds_the_trainer_in_its_external_folder(repository: Path):
    """By the function that it searches the folders of nnUNet_extTrainer with; the whole look-up needs torchvision."""
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    folder = str(repository / "training" / "mambasegment_training" / "for_nnunet")
    found = recursive_find_python_class(
        folder, "MambaSegmentTrainer", None, base_folder=folder, cleanup_imports_from_base_folder=True
    )
    from mambasegment_training.compat_nnunet import trainer_class

    assert issubclass(found, trainer_class())


def preprocessed_by_nnunet(folder: Path, plans: dict[str, Any], cases: range) -> None:
    """What nnUNetv2_plan_and_preprocess leaves, by its own preprocessor, in this process."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    dataset = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "grey": 1, "white": 2},
        "file_ending": ".nii.gz",
    }
    data = folder / configuration.data_identifier
    data.mkdir(parents=True)
    for number in cases:
        image, labels = labelled_case(number)
        array, segmentation, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            image[None], labels[None].astype(np.int8), {"spacing": [1.0] * 3}, manager, configuration, dataset
        )
        nnUNetDatasetBlosc2.save_case(array, segmentation, properties, str(data / f"c{number}"))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "dataset_fingerprint.json").write_text("{}")


@pytest.mark.slow
def test_a_training_under_nnunet_is_as_good_as_ours(tmp_path, monkeypatch):
    """Same cases, split, network, loss, optimiser and number of steps; other augmentation and other random numbers."""
    for name, value in (("n_proc_DA", "0"), ("compile", "f")):
        monkeypatch.setenv(f"nnUNet_{name}", value)
    for name in ("preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    training, validation = range(8), range(8, 10)
    splits = [{"train": [f"c{n}" for n in training], "val": [f"c{n}" for n in validation]}]
    folder = tmp_path / "preprocessed" / DATASET
    plans = with_recipe(stock_plans(spacing=[1.0] * 3), a_recipe("umamba_bot"), "3d_fullres", "MambaSegmentPlans")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        preprocessed_by_nnunet(folder, plans, range(10))
        (folder / "splits_final.json").write_text(json.dumps(splits))
        module = importlib.import_module("mambasegment_training.for_nnunet.mambasegment_trainer")
        dataset = json.loads((folder / "dataset.json").read_text())
        arguments = (plans | {"continue_training": False}, "3d_fullres", 0, dataset, torch.device("cpu"))
        trainer = module.MambaSegmentTrainer(*arguments)
        trainer.num_val_iterations_per_epoch = 1
        torch.manual_seed(1), np.random.seed(1)
        trainer.run_training()
    results = tmp_path / "results" / DATASET / "MambaSegmentTrainer__MambaSegmentPlans__3d_fullres"
    theirs = tmp_path / "theirs.safetensors"
    assert main(["models", "import", str(results), "-o", str(theirs), "--quiet"]) == 0

    for number in range(10):
        write_case(tmp_path / "data", f"c{number}", *labelled_case(number))
    prepare(tmp_path / "data", tmp_path / "work", validation_cases=splits[0]["val"])
    sizes = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["options"]
    patch = {**RECIPE["data"], "patch_size": trainer.configuration_manager.patch_size}
    config = a_recipe(data=patch, network={"name": "umamba_bot", "options": sizes})
    fit(tmp_path / "work", tmp_path / "run", config, device="cpu")
    ours = tmp_path / "ours.safetensors"
    export(tmp_path / "run", ours, device="cpu", with_cost=False)

    dice = {}
    for path in (ours, theirs):
        predictor = Predictor(read_bundle(path), "cpu", quality="fast")
        scores = []
        for number in validation:
            image, labels = labelled_case(number)
            scores += dice_per_label(predictor.segment([Volume(image)]).labels.array, labels, (1, 2)).values()
        dice[path.stem] = float(np.mean(scores))
    print(dice)
    assert min(dice.values()) > 0.9
    assert abs(dice["ours"] - dice["theirs"]) < 0.05
