"""Precision and sizes, for every network alike: double, single and half precision, gradients, channels, refusals."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies

from MambaSegmentLib.errors import ShapeError
from MambaSegmentLib.kernels import backends
from Testing.library.models.tiny_networks import CLASSES, TINY, Tiny, all_outputs


@pytest.fixture(autouse=True)
def one_thread():
    """Threads cost more than they bring to tensors this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def step_by_step(monkeypatch):
    """Call it, and every scan is computed by the recurrence as written; gives the list that counts them."""

    def switch():
        judge = importlib.import_module("MambaSegmentLib.kernels.reference")
        scan, calls = judge.scan, []
        monkeypatch.setattr(judge, "scan", lambda arguments: calls.append(arguments.u.dtype) or scan(arguments))
        (info,) = (info for info in backends.available_backends() if info.name == "reference")
        monkeypatch.setattr(backends, "choose_backend", lambda *_, **__: info)
        monkeypatch.setenv("MAMBASEGMENT_BACKEND", "reference")
        return calls

    return switch


@pytest.mark.parametrize("case", TINY)
def test_double_precision_is_double_throughout(case, step_by_step):
    """A single-precision step anywhere would show: 1e-10 is a thousand times finer than its rounding."""
    tiny = TINY[case]
    net, x = tiny.build().double().eval(), tiny.image().double()
    with torch.inference_mode():
        actual = all_outputs(net, x)
        calls = step_by_step()
        expected = all_outputs(net, x)
    assert all(y.dtype == torch.float64 for y in actual)
    assert set(calls) == (set() if tiny.name == "resenc_unet" else {torch.float64})
    for y, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(y, wanted, rtol=0, atol=1e-10 * float(wanted.abs().max()))


def weighted_sum(net, x):
    """One number of all outputs, in which no two voxels count alike."""
    generator = torch.Generator().manual_seed(3)
    outputs = all_outputs(net, x)
    return sum((y.double() * torch.randn(y.shape, generator=generator, dtype=torch.float64)).sum() for y in outputs)


@pytest.mark.parametrize("case", TINY)
def test_gradients_are_those_of_finite_differences(case):
    """Along one random direction through all parameters and the input, in double precision."""
    tiny = TINY[case]
    net, x = tiny.build().double().eval(), tiny.image().double().requires_grad_()
    weighted_sum(net, x).backward()
    trained = [p for p in (x, *net.parameters()) if p.grad is not None]  # without the heads of other resolutions
    generator = torch.Generator().manual_seed(4)
    direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in trained]
    slope = sum((p.grad * d).sum() for p, d in zip(trained, direction, strict=True))
    step, values = 1e-7, []
    with torch.no_grad():
        for sign in (1, -2):  # one step ahead, then two back
            for p, d in zip(trained, direction, strict=True):
                p.add_(d, alpha=sign * step)
            values.append(weighted_sum(net, x))
    torch.testing.assert_close(slope, (values[0] - values[1]) / (2 * step), rtol=1e-5, atol=0)


# what single precision may lose of the largest gradient; in brackets what it lost with two orders of summation.
# Normalised again and again, what the first of many Mamba layers has lost grows in LightM-UNet and U-Mamba_Enc
SINGLE_LOSES = {
    "lightm_unet": 1e-4,  # (2e-5)
    "mamba_unet": 5e-6,  # (5e-7)
    "swin_umamba": 2e-5,  # (2e-6)
    "swin_umamba_d": 5e-6,  # (5e-7)
    "mambaclinix": 4e-5,  # (8e-6)
    "umamba_bot": 1e-5,  # (1e-6)
    "umamba_enc": 1e-4,  # (3e-5)
    "resenc_unet": 1e-5,  # (2e-6)
}


@pytest.mark.parametrize("case", TINY)
def test_gradients_in_single_precision_are_near_those_in_double(case):
    """Each tensor's, relative to the largest entry that a tensor of the network has."""
    tiny, gradients = TINY[case], []
    for dtype in (torch.float32, torch.float64):
        net = tiny.build().to(dtype).eval()
        weighted_sum(net, tiny.image().to(dtype)).backward()
        gradients.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    single, double = gradients
    assert single.keys() == double.keys()
    largest = max(gradient.abs().max() for gradient in double.values())
    for name, gradient in double.items():
        assert single[name].dtype == torch.float32
        assert (single[name] - gradient).abs().max() < SINGLE_LOSES[tiny.name] * largest, name


@pytest.mark.parametrize("case", {tiny.name: case for case, tiny in TINY.items()}.values())  # the 3D one of two
def test_a_hundred_steps_in_bfloat16_stay_finite_and_learn(case):
    tiny = TINY[case]
    net = tiny.build().train()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    losses = []
    for step in range(100):
        x = tiny.image(seed=step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = all_outputs(net, x)
        loss = F.cross_entropy(logits[0].float(), (x[:, 0] > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.isfinite().all() for parameter in net.parameters())
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


# how many roundings of its mean size an output may lie from single precision, in the mean; in brackets the most seen.
# U-Mamba_Enc has no residual around Mamba: each stage magnifies what the one before has lost
ROUNDINGS = {
    "lightm_unet": 20,  # (8)
    "mamba_unet": 8,  # (2)
    "swin_umamba": 8,  # (3)
    "swin_umamba_d": 8,  # (2)
    "mambaclinix": 20,  # (8)
    "umamba_bot": 20,  # (6)
    "umamba_enc": 80,  # (43)
    "resenc_unet": 20,  # (6)
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", TINY)
def test_half_precision_stays_near_single_precision(case, dtype):
    tiny = TINY[case]
    net, x = tiny.build().eval(), tiny.image()
    with torch.inference_mode():
        expected = all_outputs(net, x)
        with torch.autocast("cpu", dtype=dtype):
            actual = all_outputs(net, x)
    rounding = torch.finfo(dtype).eps / 2
    for y, wanted in zip(actual, expected, strict=True):
        assert (y.float() - wanted).abs().mean() < ROUNDINGS[tiny.name] * rounding * wanted.abs().mean()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("case", TINY)
def test_any_number_of_channels_goes_in_and_counts(case, channels):
    tiny = TINY[case]
    tiny = Tiny(tiny.name, tiny.options, (1, channels, *tiny.shape[2:]))
    x = tiny.image().requires_grad_()
    outputs = all_outputs(tiny.build().eval(), x)
    assert outputs[0].shape == (1, CLASSES, *tiny.shape[2:])
    outputs[0].square().sum().backward()
    assert (x.grad.flatten(2).abs().amax(2) > 0).all()


def multiples_of(net):
    """What each axis must be a multiple of."""
    return getattr(net.config, "size_multiples", [net.size_multiple] * net.config.spatial_dims)


@pytest.mark.parametrize("case", TINY)
def test_other_sizes_are_refused_with_the_multiple_before_any_work(case):
    """One voxel too many or too few along each axis; the released Mamba-UNet and Swin-UMamba† crop without a word."""
    tiny = TINY[case]
    net = tiny.build().eval()
    multiples = multiples_of(net)
    for module in net.modules():
        if module is not net:
            module.register_forward_pre_hook(lambda *_: pytest.fail("a layer was run"))
    for axis, multiple in enumerate(multiples):
        for change in (1, -1) if multiple > 1 else ():
            size = list(tiny.shape)
            size[axis + 2] += change
            spatial = rf"\({', '.join(map(str, size[2:]))}\)"
            needed = rf"\({', '.join(map(str, multiples))}\)|multiple of {multiple}\b"
            with pytest.raises(ShapeError, match=f"spatial size {spatial}.*must be a (multiple of )?({needed})"):
                net(torch.zeros(size))


@pytest.mark.parametrize("case", TINY)
@settings(max_examples=10, deadline=None)
@given(data=strategies.data())
def test_any_size_is_refused_or_comes_back_whole(case, data):
    """Never cropped, never padded without a word."""
    net = TINY[case].build().eval()
    multiples = multiples_of(net)
    near = [strategies.integers(max(0, 2 * multiple - 2), 2 * multiple + 1) for multiple in multiples]
    fits = [strategies.sampled_from((multiple, 2 * multiple, 3 * multiple)) for multiple in multiples]
    size = data.draw(strategies.one_of(strategies.tuples(*near), strategies.tuples(*fits)))
    try:
        with torch.inference_mode():
            outputs = all_outputs(net, torch.randn(1, 1, *size))
    except ShapeError as refusal:
        fixed = getattr(net.config, "input_size", None)  # of channels for tokens
        reasons = [n == 0 or n % m != 0 for n, m in zip(size, multiples, strict=True)]
        reasons += ["one voxel at the lowest resolution" in str(refusal), fixed is not None and size != fixed]
        assert any(reasons)
    else:
        assert tuple(outputs[0].shape[2:]) == size
