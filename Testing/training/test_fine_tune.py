"""A training that goes on from a model file: what is taken, what starts anew, what is refused."""

import dataclasses

import pytest
import torch
from mambasegment_training.cli import main
from mambasegment_training.config import NetworkConfig
from mambasegment_training.fine_tune import start_from_bundle, with_network_of_bundle
from mambasegment_training.network import build_network
from mambasegment_training.run_folder import read_pretrained, read_run

from MambaSegmentLib.bundle import Channel, Manifest, write_bundle
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.models import build_model
from MambaSegmentLib.segments import SegmentInfo

OPTIONS = {"spatial_dims": 3, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}


@pytest.fixture
def a_model(prepared, tmp_path):
    """Writes a model of the little data set's labels, or of others."""

    def make(labels=("label 1", "label 2"), channels=("image",), folds=1, **options):
        chosen = OPTIONS | options | {"in_channels": len(channels), "num_classes": len(labels) + 1}
        manifest = Manifest(
            name="boxes",
            architecture_name="lightm_unet",
            architecture_options=chosen,
            channels=tuple(Channel(name) for name in channels),
            segments=tuple(SegmentInfo(value, name, (1.0, 0.0, 0.0)) for value, name in enumerate(labels, start=1)),
            preprocessing=dataclasses.replace(
                prepared.preprocessing, normalization=prepared.preprocessing.normalization * len(channels)
            ),
            patch_size=(16, 16, 16),
        )
        torch.manual_seed(5)
        network = build_model("lightm_unet", chosen)
        write_bundle(tmp_path / "model.safetensors", manifest, [network.state_dict()] * folds)
        return tmp_path / "model.safetensors", network.state_dict()

    return make


def test_the_same_labels_take_every_weight(prepared, tiny_config, a_model):
    path, weights = a_model()
    network = build_network(prepared, tiny_config())
    start = start_from_bundle(network, path, prepared)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    assert (start.afresh, start.remarks) == ((), ())
    assert start.summary() == f"model.safetensors: {len(weights)} tensors of the model 'boxes' loaded"


@pytest.mark.parametrize("labels", [("label 1", "cyst"), ("liver",)])
def test_other_labels_start_the_last_layer_anew(prepared, tiny_config, a_model, labels):
    path, weights = a_model(labels)
    network = build_network(prepared, tiny_config())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    start = start_from_bundle(network, path, prepared)
    head = {name for name, tensor in network.state_dict().items() if torch.equal(tensor, before[name])}
    assert set(start.afresh) <= head and start.afresh
    assert all(torch.equal(network.state_dict()[name], weights[name]) for name in weights.keys() - set(start.afresh))
    assert f"its outputs {list(labels)} are not those of the data ['label 1', 'label 2']" in start.summary()
    assert start.to_json()["afresh"] == list(start.afresh)


def test_what_the_user_should_know(prepared, tiny_config, a_model):
    path, _ = a_model(channels=("T1",), folds=2)
    text = start_from_bundle(build_network(prepared, tiny_config()), path, prepared).summary()
    assert "the first of its 2 folds" in text
    assert "its channels are named ['T1'], those of the data ['image']" in text


def test_models_that_do_not_fit(prepared, tiny_config, a_model):
    path, _ = a_model(channels=("T1", "T2"))
    with pytest.raises(ConfigError, match=r"takes 2 channel\(s\) \['T1', 'T2'\], but the data has 1"):
        start_from_bundle(build_network(prepared, tiny_config()), path, prepared)
    path, _ = a_model(init_filters=16)
    with pytest.raises(ConfigError, match="does not fit the network of the recipe"):
        start_from_bundle(build_network(prepared, tiny_config()), path, prepared)
    unet = {"features_per_stage": [8, 16], "kernel_sizes": 3, "strides": [1, 2]}
    other = tiny_config(network={"name": "resenc_unet", "options": {"spatial_dims": 3, **unet}})
    with pytest.raises(ConfigError, match=r"is a lightm_unet, but network\.name is resenc_unet"):
        start_from_bundle(build_network(prepared, other), path, prepared)


def test_the_models_network_is_taken_where_none_is_named(tiny_config, a_model):
    path, _ = a_model(mixer="spm")
    start = {"bundle": str(path)}
    chosen = with_network_of_bundle(tiny_config(network={}, pretrained=start)).network
    assert chosen == NetworkConfig("lightm_unet", {**OPTIONS, "mixer": "spm"})
    assert with_network_of_bundle(tiny_config(pretrained=start)).network == tiny_config().network


def test_by_the_command(prepared, a_model, tmp_path, capsys):
    path, _ = a_model()
    sets = ["--set", "steps_per_epoch=1", "--set", "data.batch_size=1", "--set", "optimizer.learning_rate=1e-9"]
    arguments = ["fit", str(prepared.folder), "-o", str(tmp_path / "r"), "--device", "cpu", "--epochs", "1", *sets]
    assert main([*arguments, "--init-from", str(path)]) == 0
    assert "tensors of the model 'boxes' loaded" in capsys.readouterr().err
    assert read_run(tmp_path / "r").config.network.options["init_filters"] == 8
    assert read_pretrained(tmp_path / "r")["model"] == "boxes"
    assert main(["fit", str(prepared.folder), "-o", str(tmp_path / "s"), "--init-from", str(tmp_path / "absent")]) == 3
