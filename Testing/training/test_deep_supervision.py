"""Several outputs while training, one for everybody else."""

import pytest
import torch
from mambasegment_training.deep_supervision import finest_output, give_all_outputs, output_weights

from MambaSegmentLib.errors import ConfigError
from Testing.library.models.tiny_networks import TINY

NETWORKS = ["swin_umamba", "swin_umamba_d", "mambaclinix_3d", "umamba_bot_3d", "resenc_unet_2d"]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_switch_and_as_many_weights_as_outputs(name):
    tiny = TINY[name]
    network = tiny.build(deep_supervision=False).eval()
    with torch.no_grad():
        single = network(tiny.image())
        give_all_outputs(network)
        outputs = network(tiny.image())
        with finest_output(network):
            again = network(tiny.image())
        assert isinstance(network(tiny.image()), list)
    assert torch.equal(outputs[0], single) and torch.equal(again, single)
    weights = output_weights(network, None)
    assert len(weights) == len(outputs)
    assert sum(weights) == pytest.approx(1.0)


def test_nnunets_weights():
    assert output_weights(TINY["swin_umamba"].build(), None) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))
    assert output_weights(TINY["swin_umamba"].build(), [1, 0, 0, 0]) == (1, 0, 0, 0)


def test_what_does_not_fit():
    with pytest.raises(ConfigError, match="has 2 numbers, but the network has 4 outputs"):
        output_weights(TINY["swin_umamba"].build(), [0.5, 0.5])
    with pytest.raises(ConfigError, match="lightm_unet has one output; leave out deep supervision"):
        output_weights(TINY["lightm_unet_3d"].build(), None)
