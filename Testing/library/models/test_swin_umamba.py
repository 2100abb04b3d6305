"""What is Swin-UMamba's own: its two generations, its names, its starting values. Its numbers: test_vss.py."""

import json

import pytest
import torch
from torch import nn

from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.models import build_model, load_published_weights
from MambaSegmentLib.models.swin_umamba import generation_of
from Testing.library.models.vectors import VECTORS

FIRST, SECOND = VECTORS["swin_umamba_first_release"], VECTORS["swin_umamba"]


def test_the_generations_differ_in_one_decoder_level():
    """The first is the second with that level passing its skip on; it never computes the deepest stage."""
    torch.manual_seed(0)
    second = build_model("swin_umamba", {**FIRST.options, "generation": 2}).eval()
    first = build_model("swin_umamba", FIRST.options).eval()
    first.load_state_dict({name: second.state_dict()[name] for name in first.state_dict()})
    assert set(second.state_dict()) - set(first.state_dict()) == {
        f"decoder.4.{part}.weight" for part in ("enlarge", "block.conv1", "block.conv2", "block.shortcut")
    }
    second.decoder[4].forward = lambda x, skip: skip
    first.encoder.stages[3].forward = None  # calling it would fail
    x = torch.randn(1, 1, 64, 32)
    torch.testing.assert_close(first(x), second(x))


@pytest.mark.parametrize(("file", "generation", "tensors"), [("", 2, 257), ("_first_release", 1, 253)])
def test_every_published_name_of_the_full_size_is_known(file, generation, tensors, shared):
    names = json.loads((shared / "reference" / "swin_umamba" / f"state_dict{file}.json").read_text())["state_dict"]
    with torch.device("meta"):
        weights = {f"module.{name}": torch.zeros(shape) for name, shape, _ in names}
        assert generation_of(weights) == generation
        net = build_model("swin_umamba", {"in_channels": 1, "num_classes": 14, "generation": generation})
        assert len(load_published_weights(net, weights).loaded) == tensors


def test_weights_of_the_other_generation_are_refused_with_the_level_that_differs():
    with pytest.raises(BundleError, match=r"missing: decoder\.4\.enlarge\.weight"):
        load_published_weights(
            build_model("swin_umamba", {**FIRST.options, "generation": 2}), FIRST.published_weights()
        )
    with pytest.raises(BundleError, match=r"unknown: decoder6\.transp_conv\.conv\.weight"):
        load_published_weights(
            build_model("swin_umamba", {**SECOND.options, "generation": 1}), SECOND.published_weights()
        )


def test_a_checkpoint_of_nnunet_training_is_opened():
    checkpoint = {
        "network_weights": SECOND.published_weights(),
        "trainer_name": "nnUNetTrainerSwinUMamba",
        "init_args": {"configuration": "2d"},
        "current_epoch": 350,
    }
    net = build_model("swin_umamba", SECOND.options)
    assert len(load_published_weights(net, checkpoint).loaded) == len(net.state_dict())


def test_weights_of_the_variant_are_refused_by_name():
    with pytest.raises(BundleError, match="build 'swin_umamba_d'"):
        load_published_weights(build_model("swin_umamba", SECOND.options), VECTORS["swin_umamba_d"].published_weights())


def test_starting_values():
    torch.manual_seed(0)
    net = build_model("swin_umamba", {**SECOND.options, "encoder_dims": [32, 64, 16, 16]})
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    assert all(0.015 < module.weight.std() < 0.025 for module in linear)
    assert net.stem[0].weight.abs().max() <= (2 * 7 * 7) ** -0.5  # the library's default, bounded
    assert (net.stem[1].weight == 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 8}, "hidden_size is 8; expected the last of encoder_dims"),
        ({"generation": 3}, "generation is 3"),
        ({"feature_sizes": [2, 3, 4, 5]}, "4 feature_sizes, 4 encoder_dims"),
        ({"encoder_depths": [1, 1, 0, 1]}, r"encoder_depths is \(1, 1, 0, 1\)"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        build_model("swin_umamba", {**SECOND.options, **options})
