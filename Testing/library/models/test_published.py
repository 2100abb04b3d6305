"""Published names: aliases, wrappers, checkpoints."""

import pytest
import torch

from MambaSegmentLib.errors import BundleError
from MambaSegmentLib.models import ARCHITECTURES, build_model, load_published_weights
from MambaSegmentLib.models.renaming import renamed

OPTIONS = {
    "spatial_dims": 2,
    "in_channels": 1,
    "num_classes": 2,
    "features_per_stage": [2, 3],
    "kernel_sizes": 3,
    "strides": [1, 2],
}


@pytest.fixture
def net():
    return build_model("umamba_bot", OPTIONS)


def with_aliases(net):
    """Its weights by the authors' names, each under all of them."""
    theirs = {}
    for name, tensor in net.state_dict().items():
        if name.startswith("bottleneck."):
            theirs["mamba_layer." + name.removeprefix("bottleneck.")] = tensor
        elif name.startswith("decoder."):
            theirs[name.replace(".0.reduce.", ".upsample_layers.0.conv.").replace(".0.head.", ".seg_layers.0.")] = (
                tensor
            )
        else:
            theirs[f"encoder.{name}"] = theirs[f"decoder.encoder.{name}"] = tensor
    return {name.replace("decoder.0.blocks.", "decoder.stages.0."): tensor for name, tensor in theirs.items()}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("decoder.encoder.stages.1.0.conv1.weight", "stages.1.0.conv1.weight"),
        ("encoder.stages.1.1.conv2.all_modules.0.bias", "stages.1.1.conv2.bias"),
        ("decoder.encoder.stages.1.1.conv2.all_modules.1.bias", "stages.1.1.norm2.bias"),
        ("encoder.stem.0.conv3.weight", "stem.0.shortcut.weight"),
        ("decoder.stages.4.1.conv1.norm.weight", "decoder.4.blocks.1.norm1.weight"),
        ("decoder.upsample_layers.2.conv.bias", "decoder.2.reduce.bias"),
        ("decoder.seg_layers.0.weight", "decoder.0.head.weight"),
        ("mamba_layer.mamba.conv1d.bias", "bottleneck.mamba.conv1d.bias"),
        ("encoder.mamba_layers.3.norm.weight", "mixers.3.norm.weight"),
    ],
)
def test_names_of_u_mamba(theirs, ours):
    assert renamed(theirs, ARCHITECTURES["umamba_enc"].published_names) == ours


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("decoder.encoder.stem.convs.0.all_modules.1.weight", "stem.norm.weight"),
        ("encoder.stages.1.blocks.0.conv1.conv.weight", "stages.1.conv1.weight"),
        ("encoder.stages.1.blocks.0.skip.1.all_modules.0.weight", "stages.1.shortcut.conv.weight"),
        ("encoder.stages.1.blocks.0.skip.0.norm.bias", "stages.1.shortcut.norm.bias"),
        ("encoder.LayerNorm.gamma", "last_hgcn_norm.weight"),
        ("encoder.encoder_layers.0.gamma1", "mixers.0.scale"),
        ("encoder.encoder_layers.0.lynorm2.beta", "mixers.0.norm2.bias"),
        ("encoder.encoder_layers.0.transconv.all_modules.0.bias", "mixers.0.reduce.bias"),
        ("encoder.encoder_layers.2.hgConvs.reconv.1.weight", "mixers.2.interaction.widen.1.weight"),
        ("encoder.encoder_layers.2.hgConvs.dwconv.weight", "mixers.2.interaction.neighbours.weight"),
        ("encoder.encoder_layers.5.mamba.in_proj.weight", "mixers.5.mamba.in_proj.weight"),
        ("decoder.Init_Residual.conv2.norm.weight", "bottleneck.norm2.weight"),
        ("decoder.residual_blocks.1.conv1.conv.weight", "decoder.1.refine_skip.conv1.weight"),
        ("decoder.stages.1.conv3.weight", "decoder.1.blocks.shortcut.weight"),
    ],
)
def test_names_of_mambaclinix(theirs, ours):
    assert renamed(theirs, ARCHITECTURES["mambaclinix"].published_names) == ours


def test_several_names_of_one_tensor_are_accepted_if_they_agree(net):
    theirs = with_aliases(build_model("umamba_bot", OPTIONS))
    assert len(theirs) > len(net.state_dict())
    report = load_published_weights(net, theirs)
    assert report.loaded == tuple(net.state_dict())
    assert torch.equal(net.state_dict()["stem.0.conv1.weight"], theirs["decoder.encoder.stem.0.conv1.weight"])


def test_the_second_name_alone_will_do(net):
    theirs = with_aliases(build_model("umamba_bot", OPTIONS))
    load_published_weights(net, {name: t for name, t in theirs.items() if not name.startswith("encoder.")})


def test_names_of_one_tensor_that_differ_are_refused(net):
    theirs = with_aliases(build_model("umamba_bot", OPTIONS))
    for other in (theirs["encoder.stem.0.conv1.weight"] + 1, torch.zeros(1)):
        theirs["decoder.encoder.stem.0.conv1.weight"] = other
        with pytest.raises(
            BundleError, match=r"twice with different values: encoder\.stem\.0\.conv1\.weight and decoder"
        ):
            load_published_weights(net, theirs)


def test_something_else_than_tensors_is_refused(net):
    with pytest.raises(BundleError, match=r"no tensors: epoch, optimizer"):
        load_published_weights(net, {"epoch": 3, "optimizer": {}, "encoder.stem.0.conv1.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "of type NoneType"),
        ([torch.zeros(1)], "of type list"),
        ({"network_weights": None}, "of type NoneType"),
        ({3: torch.zeros(1)}, "no tensors: 3"),
    ],
)
def test_something_else_than_a_state_dict_is_refused(net, content, message):
    with pytest.raises(BundleError, match=message):
        load_published_weights(net, content)


@pytest.mark.parametrize(
    "change", [lambda t: t.int(), lambda t: t.to(torch.complex64), lambda t: t.to_sparse()], ids=lambda _: ""
)
def test_tensors_that_cannot_be_weights_are_refused_and_nothing_is_loaded(net, change):
    """Torch would round the first, take the second's real part, and stop at the third with the others loaded."""
    theirs = with_aliases(build_model("umamba_bot", OPTIONS))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    theirs["mamba_layer.norm.bias"] = change(theirs["mamba_layer.norm.bias"])
    with pytest.raises(BundleError, match=r"real floating point; other tensors: mamba_layer\.norm\.bias \("):
        load_published_weights(net, theirs)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda theirs: {"network_weights": theirs, "current_epoch": 3},
        lambda theirs: {f"module.{name}": tensor for name, tensor in theirs.items()},
        lambda theirs: {f"network_weights.module._orig_mod.{name}": tensor for name, tensor in theirs.items()},
        lambda theirs: {f"_orig_mod.module.{name}": tensor for name, tensor in theirs.items()},
    ],
)
def test_wrappers_are_taken_off(net, wrap):
    theirs = with_aliases(build_model("umamba_bot", OPTIONS))
    load_published_weights(net, wrap(theirs))
    assert torch.equal(net.state_dict()["decoder.0.head.weight"], theirs["decoder.seg_layers.0.weight"])


def test_a_tensor_that_holds_nan_is_not_taken_for_two(net):
    """Not a number is unequal to itself; loaded once, it is compared with nothing."""
    theirs = with_aliases(build_model("umamba_bot", OPTIONS))
    theirs["mamba_layer.norm.bias"] = torch.full_like(theirs["mamba_layer.norm.bias"], torch.nan)
    assert len(load_published_weights(net, theirs).loaded) == len(net.state_dict())
