"""What each quality does, counted on the network's own calls."""

import numpy as np
import pytest

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.quality import mirror_axes_for


@pytest.mark.parametrize(("quality", "calls"), [("best", 4), ("fast", 1)])
def test_best_looks_at_every_mirror_image_and_fast_at_one(quality, calls, a_tiny_bundle):
    predictor = Predictor(a_tiny_bundle(mirror_axes=(0, 2)), "cpu", quality=quality)
    seen = []
    (network,) = predictor._networks
    network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    predictor.scores(np.zeros((1, *predictor.manifest.patch_size), np.float32))
    assert len(seen) == calls


def test_an_unknown_quality_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="'great' is unknown; expected best or fast"):
        mirror_axes_for("great", (0,))
