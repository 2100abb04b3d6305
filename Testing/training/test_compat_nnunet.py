"""What the compatibility module relies on in nnU-Net."""

import importlib
import inspect

import pytest
from mambasegment_training import compat_nnunet
from packaging.specifiers import SpecifierSet

from MambaSegmentLib.errors import ConfigError


def test_signature():
    module = pytest.importorskip(compat_nnunet._TOPOLOGY)
    expected = ["spacing", "patch_size", "min_feature_map_size", "max_numpool"]
    assert list(inspect.signature(module.get_pool_and_conv_props).parameters) == expected
    assert compat_nnunet.nnunet_version() in SpecifierSet(">=2.8.1,<2.9")
    assert str(SpecifierSet(">=2.8.1,<2.9")) in {",".join(sorted(["<2.9", ">=2.8.1"])), "<2.9,>=2.8.1"}


def test_an_anisotropic_patch_by_hand():
    """4 mm slices of 1 mm pixels: two poolings in the plane make 4 mm of them, then all axes are alike."""
    pooling = compat_nnunet.pooling_for((4.0, 1.0, 1.0), (16, 64, 60), 4)
    assert pooling.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert pooling.kernel_sizes == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert (pooling.patch, pooling.multiples) == ((16, 64, 64), (4, 16, 16))


def test_without_nnunet(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match="pip install --no-deps"):
        compat_nnunet.pooling_for((1.0, 1.0), (64, 64), 4)
