"""A model small enough to be checked by hand, for everything around the network."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import MambaSegmentLib.models
from MambaSegmentLib.bundle import Bundle, Channel, Manifest
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.segments import SegmentInfo


class TinyNet(nn.Module):
    """Class n gets n times the sum of the channels, minus a threshold that grows; one parameter has two names.

    With weight 1: background scores 0, class 1 scores x - 0.5, class 2 scores 2 x - 2; so class 1 wins where
    0.5 < x < 1.5 and class 2 where x > 1.5.
    """

    def __init__(self, classes: int = 3, deep_supervision: bool = False) -> None:
        super().__init__()
        self.classes = classes
        self.deep_supervision = deep_supervision
        self.weight = nn.Parameter(torch.ones(1))
        self.same_weight = self.weight
        self.register_buffer("steps", torch.arange(classes, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        value = self.weight * x.sum(dim=1)
        logits = torch.stack([n * value - n * n / 2 for n in range(self.classes)], dim=1)
        return [logits, logits[..., ::2]] if self.deep_supervision else logits


def build_tiny_net(name: str, options: Mapping[str, Any]) -> nn.Module:
    if name != "tiny":
        raise ConfigError(f"unknown architecture {name!r}; known: tiny")
    return TinyNet(**options)


@pytest.fixture
def fresh_python(repository: Path) -> Callable[[str], str]:
    """`fresh_python(script)` runs it in a Python of its own, which must end with 0; what it printed."""

    def run(script: str) -> str:
        done = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def tiny_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """`build_model` knows one architecture, "tiny"."""
    monkeypatch.setattr(MambaSegmentLib.models, "build_model", build_tiny_net, raising=False)


@pytest.fixture
def a_manifest() -> Callable[..., Manifest]:
    """Makes manifests of the tiny network; keyword arguments replace what it says."""

    def make(**changes: Any) -> Manifest:
        facts: dict[str, Any] = {
            "name": "tiny",
            "architecture_name": "tiny",
            "architecture_options": {"classes": 3},
            "channels": (Channel("T1", "MR"),),
            "segments": (SegmentInfo(1, "Anterior", (1.0, 0.0, 0.0)), SegmentInfo(5, "Posterior", (0.0, 1.0, 0.0))),
            "preprocessing": PreprocessingSpec((Normalization("none"),)),
            "patch_size": (8, 8, 8),
            "license": "CC0-1.0",
        }
        return Manifest(**(facts | changes))

    return make


@pytest.fixture
def a_tiny_bundle(tiny_architecture: None, a_manifest: Callable[..., Manifest]) -> Callable[..., Bundle]:
    """Makes bundles in memory: `a_tiny_bundle(weights=(1.0, 2.0), patch_size=(4, 4, 4))` has two folds."""

    def make(weights: tuple[float, ...] = (1.0,), **changes: Any) -> Bundle:
        folds = []
        for weight in weights:
            state = dict(TinyNet().state_dict())
            state["weight"] = state["same_weight"] = torch.tensor([weight])
            folds.append(state)
        return Bundle(a_manifest(**changes), tuple(folds))

    return make
