"""ImageNet weights as a start: every tensor where the released code puts it, and other files told apart."""

import json

import pytest
import torch

from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.models import (
    ARCHITECTURES,
    build_model,
    encoder_to_freeze,
    load_pretrained,
    published_freeze_epochs,
)
from MambaSegmentLib.models.renaming import renamed
from Testing.library.models.vmamba_file import NETWORKS, an_imagenet_file


def a_small_net(name, in_channels=1):
    return build_model(name, {"in_channels": in_channels, "num_classes": 2, **NETWORKS[name]})


@pytest.mark.parametrize(
    ("name", "in_channels", "case"),
    [
        ("mamba_unet", 1, 0),
        ("mamba_unet", 3, 0),
        ("swin_umamba", 1, 0),
        ("swin_umamba_d", 1, 0),
        ("swin_umamba_d", 3, 1),
    ],
)
def test_every_tensor_goes_where_the_released_code_puts_it(name, in_channels, case, shared):
    reference = shared / "reference"
    described = list(json.loads((reference / name / "pretrained_map.json").read_text()).values())[case]
    layout = json.loads((reference / "vmamba_tiny" / "state_dict.json").read_text())["state_dict"]
    classes = json.loads((reference / name / "state_dict.json").read_text())["config"]["num_classes"]
    with torch.device("meta"):
        net = build_model(name, {"in_channels": in_channels, "num_classes": classes})
        file = {"model": {key: torch.zeros(shape) for key, shape, _ in layout}}
        report = load_pretrained(net, file)
    naming = ARCHITECTURES[name].published_names
    expected = {renamed(key, naming): source for key, source in described["target_from_source"].items()}
    assert report.sources == expected
    assert sorted(report.not_used) == sorted(described["source_keys_not_used"])
    assert report.parameters_loaded == described["parameters_loaded"]
    assert report.parameters_total == described["parameters_total"]


@pytest.mark.parametrize(("name", "in_channels"), [(name, channels) for name in NETWORKS for channels in (1, 3, 5)])
def test_values_arrive_and_the_rest_starts_afresh(name, in_channels):
    net, file = a_small_net(name, in_channels), an_imagenet_file()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    report = load_pretrained(net, file)
    after = net.state_dict()
    assert all(torch.equal(after[key], file[source]) for key, source in report.sources.items())
    assert all(torch.equal(after[key], before[key]) for key in report.afresh)
    assert {*report.sources, *report.afresh} == set(after)
    assert report.sources["encoder.stages.2.0.norm.weight"] == "layers.2.blocks.0.ln_1.weight"
    assert {"head.weight", "head.bias"} <= set(report.not_used)
    assert f"{len(report.sources)} of {len(after)} tensors" in report.summary()


def test_the_encoder_alone_leaves_the_decoder_as_it_starts():
    report = load_pretrained(a_small_net("mamba_unet"), an_imagenet_file(), encoder_only=True)
    assert all(name.startswith("encoder.") for name in report.sources)
    whole = load_pretrained(a_small_net("mamba_unet"), an_imagenet_file())
    assert whole.sources["decoder.0.blocks.0.ss2d.Ds"] == "layers.2.blocks.0.self_attention.Ds"
    assert whole.sources["decoder.2.blocks.0.ss2d.Ds"] == "layers.0.blocks.0.self_attention.Ds"
    assert whole.sources["norm.bias"] == "norm.bias"


@pytest.mark.parametrize(("name", "classes"), [("swin_umamba", 14), ("swin_umamba_d", 14)])
def test_what_is_frozen_at_first_has_the_published_size(name, classes):
    with torch.device("meta"):
        net = build_model(name, {"in_channels": 3, "num_classes": classes})
    frozen = encoder_to_freeze(net)
    assert len(frozen) == 204
    assert sum(net.get_parameter(parameter).numel() for parameter in frozen) == 22_118_016


def test_other_files_are_told_apart_and_change_nothing():
    net, file = a_small_net("swin_umamba_d"), an_imagenet_file()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    newer = {"model": {"patch_embed.0.weight": 0, "layers.0.blocks.0.op.A_logs": 0, "classifier.head.weight": 0}}
    segmentation = {"network_weights": {"vssm_encoder.layers.0.blocks.0.self_attention.A_logs": 0}}
    bare = {**file, "layers_up.0.expand.weight": torch.zeros(1)}
    prefixed = {f"mamba_unet.{key}": tensor for key, tensor in bare.items()}
    with pytest.raises(BundleError, match=r"newer VMamba release.*vssmtiny_dp01_ckpt_epoch_292"):
        load_pretrained(net, newer)
    ours = {"fold_0/encoder.patch_embed.norm.bias": torch.zeros(1)}
    for wrong in (segmentation, segmentation["network_weights"], bare, prefixed, ours):
        with pytest.raises(BundleError, match=r"segmentation network.*models import"):
            load_pretrained(net, wrong)
    with pytest.raises(BundleError, match=r"not a VMamba-Tiny file: it holds conv1\.weight"):
        load_pretrained(net, {"conv1.weight": torch.zeros(1)})
    with pytest.raises(BundleError, match=r"missing: layers\.1\.blocks\.0\.ln_1\.bias"):
        load_pretrained(net, {key: tensor for key, tensor in file.items() if key != "layers.1.blocks.0.ln_1.bias"})
    with pytest.raises(
        BundleError, match=r"of another shape: layers\.3\.blocks\.0\.ln_1\.bias \(7,\) instead of \(32,\)"
    ):
        load_pretrained(net, {**file, "layers.3.blocks.0.ln_1.bias": torch.zeros(7)})
    with pytest.raises(BundleError, match=r"missing: layers\.0\.blocks\.0\.ln_1\.weight"):
        load_pretrained(net, {**file, "layers.0.blocks.0.ln_1.weight": "no tensor"})
    whole = file["layers.0.blocks.0.ln_1.weight"].int()
    with pytest.raises(BundleError, match=r"missing: layers\.0\.blocks\.0\.ln_1\.weight"):
        load_pretrained(net, {**file, "layers.0.blocks.0.ln_1.weight": whole})
    with pytest.raises(BundleError, match="it holds a list; expected tensors by name"):
        load_pretrained(net, [torch.zeros(1)])
    with pytest.raises(BundleError, match="not a VMamba-Tiny file: it holds 3"):
        load_pretrained(net, {3: torch.zeros(1)})
    with pytest.raises(BundleError, match=r"damaged; not a number or infinite: layers\.0\.blocks\.0\.ln_1\.bias;"):
        load_pretrained(net, {**file, "layers.0.blocks.0.ln_1.bias": torch.full((4,), torch.nan)})
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


def test_half_precision_weights_are_taken_as_they_are():
    net, file = a_small_net("swin_umamba"), {key: tensor.half() for key, tensor in an_imagenet_file().items()}
    report = load_pretrained(net, file)
    for ours, theirs in report.sources.items():
        assert net.state_dict()[ours].dtype == torch.float32
        assert torch.equal(net.state_dict()[ours], file[theirs].float())


@pytest.mark.parametrize(("name", "epochs"), [("mamba_unet", 0), ("swin_umamba", 10), ("swin_umamba_d", 10)])
def test_the_authors_hold_the_encoder_still_for(name, epochs):
    assert published_freeze_epochs(a_small_net(name)) == epochs


def test_a_network_without_such_an_encoder_is_refused():
    net = build_model("lightm_unet", {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "init_filters": 8})
    with pytest.raises(ConfigError, match="lightm_unet has no VMamba encoder"):
        load_pretrained(net, an_imagenet_file())
