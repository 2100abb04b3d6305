import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.spline_weights import interpolation_weights, voxel_positions

SIZES = st.integers(1, 90)


@pytest.mark.parametrize("order", [1, 2, 3])
@given(old=SIZES, new=SIZES)
@example(old=512, new=205)
def test_each_weight_is_that_of_scipy(order, old, new):
    """A unit impulse at each old voxel gives a column of the weights; scipy's edges are a filter of another kind."""
    columns = [
        ndimage.map_coordinates(impulse, voxel_positions(old, new)[None], order=order, mode="nearest")
        for impulse in np.eye(old)
    ]
    np.testing.assert_allclose(interpolation_weights(old, new, order), np.stack(columns, axis=1), rtol=0, atol=1.5e-7)


@pytest.mark.parametrize("order", [1, 2, 3])
@given(old=SIZES, new=SIZES)
def test_the_weights_of_a_voxel_sum_to_one(order, old, new):
    np.testing.assert_allclose(interpolation_weights(old, new, order).sum(axis=1), 1, rtol=0, atol=1e-6)


def test_a_sample_that_is_hit_keeps_its_value():
    """Three voxels become nine: the second, fifth and eighth of them lie on the old ones."""
    for order in (1, 2, 3):
        np.testing.assert_allclose(interpolation_weights(3, 9, order)[1::3], np.eye(3), atol=1e-7)


def test_what_the_cache_shares_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        interpolation_weights(4, 6, 3)[0, 0] = 1


def test_an_unknown_order_is_refused():
    with pytest.raises(ConfigError, match="order 5"):
        interpolation_weights(3, 4, 5)


def test_a_case_is_prepared_without_importing_scipy(fresh_python):
    """Its import would take longer than resampling an image of usual size."""
    script = (
        "import sys\nimport numpy as np\nfrom MambaSegmentLib.preprocess import preprocess\n"
        "from MambaSegmentLib.preprocessing_spec import PreprocessingSpec\n"
        "from MambaSegmentLib.normalization import Normalization\nfrom MambaSegmentLib.volume import Volume\n"
        "image = Volume(np.random.default_rng(0).random((6, 7, 8), np.float32))\n"
        "spec = PreprocessingSpec((Normalization('zscore'),), spacing_mm=(1.5, 1.5, 1.5), crop='nonzero')\n"
        "assert preprocess([image], spec).array.shape == (1, 4, 5, 5)\nsys.exit('scipy' in sys.modules)"
    )
    fresh_python(script)
