import pytest
import torch

from MambaSegmentLib.devices import choose_device
from MambaSegmentLib.errors import ConfigError, ResourceError


def test_auto_prefers_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("cuda:0").index == 0
    with pytest.raises(ResourceError, match=r"finds 1 CUDA GPU"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="mps"):
        choose_device("mps")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "cpu:0", "CPU"])
def test_unknown_names(name):
    with pytest.raises(ConfigError, match="not known"):
        choose_device(name)
