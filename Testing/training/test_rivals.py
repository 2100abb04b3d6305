"""Networks of other libraries: each is built, takes a training step, is evaluated, and is not exported."""

import pytest
import torch
from mambasegment_training import rivals
from mambasegment_training.config import config_from_json
from mambasegment_training.evaluation.run import evaluate_cases
from mambasegment_training.evaluation.subject import read_subject
from mambasegment_training.export import export
from mambasegment_training.loop import fit
from mambasegment_training.network import network_options, planned_patch_size
from mambasegment_training.rivals import RIVALS, build

from MambaSegmentLib.errors import ConfigError, ShapeError
from MambaSegmentLib.models.counts import count

from .conftest import TINY

SMALL = {
    "monai:SegResNet": {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
    "monai:UNETR": {"feature_size": 4, "hidden_size": 24, "mlp_dim": 24, "num_heads": 2},
    "monai:SwinUNETR": {"feature_size": 12, "depths": [1, 1, 1, 1]},
    "monai:AttentionUnet": {"channels": [4, 8], "attention_strides": [2]},
    "nnunet:PlainConvUNet": {"features_per_stage": [4, 8], "strides": [1, 2]},
}
PACKAGES = {"monai": "monai.networks.nets", "nnunet": "dynamic_network_architectures.architectures.unet"}


@pytest.fixture(params=RIVALS)
def rival(request) -> str:
    pytest.importorskip(PACKAGES[request.param.split(":")[0]])
    return request.param


@pytest.fixture
def a_rival_config(tiny_config):
    def make(name):
        # Swin UNETR halves five times, and two voxels must be left
        data = {"batch_size": 1, "patch_size": [64, 32, 32]} if name == "monai:SwinUNETR" else {"batch_size": 1}
        network = {"name": name, "options": SMALL[name]}
        return tiny_config(network=network, data=data, epochs=1, steps_per_epoch=1)

    return make


def test_a_step_is_trained_and_the_run_evaluated_but_not_exported(rival, a_rival_config, prepared, tmp_path):
    run = tmp_path / "run"
    fit(prepared.folder, run, a_rival_config(rival), device="cpu")
    evaluation = evaluate_cases(read_subject(run), tmp_path / "evaluation", device="cpu", quality="fast")
    assert len(evaluation.records) == 2
    assert evaluation.subject.manifest.architecture_name == rival
    with pytest.raises(ConfigError, match="another library"):
        export(run, tmp_path / "model.safetensors", device="cpu", with_cost=False)
    assert not (tmp_path / "model.safetensors").exists()


def test_costs_are_counted_without_data(rival, a_rival_config, prepared):
    config = a_rival_config(rival)
    network = build(rival, network_options(prepared, config))
    patch = planned_patch_size(prepared, config)
    counted = count(network, (1, 1, *patch))
    assert counted.operations.multiply_adds > counted.parameters > 0
    assert all(size % multiple == 0 for size, multiple in zip(patch, network.config.size_multiples, strict=True))


def test_slices_in_two_dimensions(rival):
    options = {"spatial_dims": 2, "in_channels": 2, "num_classes": 3, **SMALL[rival]}
    if rival == "monai:UNETR":
        options["input_size"] = [64, 64]
    network = build(rival, options).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 2, 64, 64)).shape == (1, 3, 64, 64)


def test_what_cannot_be_built_is_refused():
    given = {"in_channels": 1, "num_classes": 2}
    with pytest.raises(ConfigError, match="monai:UNETR"):
        build("monai:Unet", given)
    with pytest.raises(ConfigError, match="no option 'width'"):
        build("monai:SegResNet", {**given, "width": 3})
    with pytest.raises(ConfigError, match="activation checkpointing"):
        build("monai:SegResNet", {**given, "activation_checkpointing": True})
    with pytest.raises(ConfigError, match="spatial_dims"):
        build("monai:SegResNet", {**given, "spatial_dims": 4})


def test_a_missing_package_is_named(monkeypatch):
    def missing(_config):
        raise ImportError("No module named 'monai'")

    monkeypatch.setitem(
        rivals.RIVALS, "monai:SegResNet", rivals._Rival(rivals.SegResNetConfig, missing, "pip install x")
    )
    with pytest.raises(ConfigError, match="pip install x"):
        build("monai:SegResNet", {"in_channels": 1, "num_classes": 2})


def test_sizes_are_checked():
    pytest.importorskip("monai")
    network = build("monai:SegResNet", {"in_channels": 1, "num_classes": 2, **SMALL["monai:SegResNet"]})
    with pytest.raises(ShapeError, match="multiples"):
        network(torch.zeros(1, 1, 8, 8, 7))
    with pytest.raises(ShapeError, match="coarsest stage"):
        build("monai:AttentionUnet", {"in_channels": 1, "num_classes": 2, **SMALL["monai:AttentionUnet"]}).check_input(
            torch.empty(1, 1, 2, 2, 2)
        )
    with pytest.raises(ShapeError, match="axes"):
        network(torch.zeros(1, 1, 8, 8))


def test_the_library_s_networks_are_built_as_before():
    config = config_from_json(TINY)
    options = {"in_channels": 1, "num_classes": 3, **config.network.options}
    assert type(build("lightm_unet", options)).__name__ == "LightMUNet"
