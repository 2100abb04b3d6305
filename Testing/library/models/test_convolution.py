"""The convolution that asks oneDNN by name, against PyTorch's own."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.profiler import profile

from MambaSegmentLib.models.convolution import Conv2d, Conv3d

SHAPE = (10, 12, 14)


def operators_of(convolution: nn.Conv3d, x: torch.Tensor) -> set[str]:
    with profile() as seen:
        convolution(x)
    return {event.key for event in seen.key_averages()}


def same(convolution: Conv3d, x: torch.Tensor) -> None:
    plain = nn.Conv3d.forward
    double = nn.functional.conv3d(
        x.double(), convolution.weight.double(), None if convolution.bias is None else convolution.bias.double(),
        convolution.stride, convolution.padding, convolution.dilation, convolution.groups,
    )  # fmt: skip
    torch.testing.assert_close(plain(convolution, x).double(), double, rtol=0, atol=2e-5)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"stride": (1, 2, 2), "padding": (0, 1, 1)},
        {"dilation": 2, "padding": 2},
        {"bias": False},
    ],
)
@torch.inference_mode()
def test_one_small_image_is_convolved_by_onednn_with_the_same_answer(options):
    convolution, x = Conv3d(3, 5, 3, **{"padding": 1} | options), torch.randn(1, 3, *SHAPE)
    names = operators_of(convolution, x)
    assert "aten::mkldnn_convolution" in names
    assert "aten::slow_conv3d_forward" not in names
    same(convolution, x)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@torch.inference_mode()
def test_pytorch_still_unfolds_such_an_image():
    """If not, the class has no reason to be any more."""
    assert "aten::slow_conv3d_forward" in operators_of(nn.Conv3d(3, 5, 3, padding=1), torch.randn(1, 3, *SHAPE))


@pytest.mark.parametrize(("kind", "plain", "size"), [(Conv2d, nn.Conv2d, (9, 12)), (Conv3d, nn.Conv3d, (5, 8, 7))])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_strided_convolution_of_one_voxel_reads_what_it_takes_alone(kind, plain, size, groups):
    torch.manual_seed(0)
    stride = (2, 1, 3)[: len(size)]
    ours, theirs = (made(4, 6, 1, stride=stride, groups=groups).double() for made in (kind, plain))
    theirs.load_state_dict(ours.state_dict())
    one, other = (
        torch.randn(2, 4, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) for _ in "ab"
    )
    one.requires_grad_(), other.requires_grad_()
    answer, expected = ours(one), theirs(other)
    torch.testing.assert_close(answer, expected)
    for result in (answer, expected):
        result.square().sum().backward()
    torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_training_on_one_thread_writes_nowhere_else(tmp_path):
    """In a process of its own: there PyTorch's strided 1-convolution of a channels-last image corrupts the heap."""
    code = (
        "import torch\n"
        "from MambaSegmentLib.models.convolution import Conv2d\n"
        "layer = Conv2d(4, 8, 1, stride=2)\n"
        "for _ in range(200):\n"
        "    x = torch.randn(2, 16, 12, 4).movedim(-1, 1).requires_grad_()\n"
        "    y = layer(x)\n"
        "    y.backward(torch.randn(y.shape))\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_gradients_take_pytorchs_way():
    convolution, x = Conv3d(2, 2, 3, padding=1), torch.randn(1, 2, *SHAPE, requires_grad=True)
    convolution(x).sum().backward()
    expected = nn.Conv3d(2, 2, 3, padding=1)
    expected.load_state_dict(convolution.state_dict())
    other = x.detach().clone().requires_grad_()
    expected(other).sum().backward()
    assert torch.equal(x.grad, other.grad)
    assert torch.equal(convolution.weight.grad, expected.weight.grad)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("convolution", "x"),
    [
        (Conv3d(2, 3, 1), torch.randn(1, 2, *SHAPE)),
        (Conv3d(2, 2, 3, groups=2, padding=1), torch.randn(1, 2, *SHAPE)),
        (Conv3d(2, 3, 3, padding="same"), torch.randn(1, 2, *SHAPE)),
        (Conv3d(2, 3, 3, padding=1, padding_mode="replicate"), torch.randn(1, 2, *SHAPE)),
        (Conv3d(2, 3, 3).double(), torch.randn(1, 2, *SHAPE).double()),
        (Conv3d(2, 3, 3), torch.randn(2, *SHAPE)),  # an image without the axis of a batch
        (Conv3d(2, 3, 3), torch.randn(1, 2, 120, 90, 4)),  # large: oneDNN anyway
    ],
)
def test_everything_else_is_left_to_pytorch(convolution, x):
    assert not convolution._would_be_unfolded(x, convolution.weight)
    assert torch.equal(convolution(x), nn.Conv3d.forward(convolution, x))
