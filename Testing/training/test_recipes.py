"""The published recipes: each is read, names what it says it names, and takes a step with a tiny network."""

import dataclasses
import math
import tomllib
from pathlib import Path

import pytest
import torch
from mambasegment_training.config import config_from_json
from mambasegment_training.ranks import ALONE
from mambasegment_training.run_parts import build_parts
from mambasegment_training.schedule import learning_rate

from Testing.library.models.tiny_networks import TINY

# recipe -> the tiny network, and a patch of the little cases that it takes
RECIPES = {
    "lightm_unet": ("lightm_unet_3d", [8, 8, 8]),
    "mamba_unet": ("mamba_unet", [16, 16]),
    "swin_umamba": ("swin_umamba", [32, 32]),
    "swin_umamba_d": ("swin_umamba_d", [16, 16]),
    "mambaclinix": ("mambaclinix_3d", [8, 16, 16]),
    "umamba_bot": ("umamba_bot_3d", [8, 16, 16]),
    "umamba_enc": ("umamba_enc_3d", [8, 16, 16]),
    "resenc_unet": ("resenc_unet_3d", [8, 16, 16]),
}


@pytest.fixture(params=sorted(RECIPES))
def recipe(request, repository) -> tuple[str, dict]:
    text = (repository / "training" / "configs" / f"{request.param}.toml").read_text(encoding="utf-8")
    return request.param, tomllib.loads(text)


def test_a_step_as_the_authors_take_it(recipe, prepared):
    name, content = recipe
    tiny, patch = RECIPES[name]
    assert content["network"]["name"] == name
    options = {key: value for key, value in TINY[tiny].options.items() if key not in ("deep_supervision", "input_size")}
    content["network"] = {"name": name, "options": options}
    content["data"] |= {"batch_size": 2, "patch_size": patch}
    config = config_from_json(content)
    parts = build_parts(prepared, config, "cpu", ALONE)
    before = {key: value.clone() for key, value in parts.state.network.state_dict().items()}
    rate = learning_rate(config.schedule, config.optimizer.learning_rate, 0, 0.0)
    assert rate == config.optimizer.learning_rate
    parts.stepper.take(parts.sampler.batch(0), rate, say=pytest.fail)
    assert math.isfinite(parts.state.loss_sum) and parts.state.loss_steps == 1
    changed = [key for key, value in parts.state.network.state_dict().items() if not torch.equal(value, before[key])]
    assert len(changed) > len(before) // 2


def test_what_the_facts_say(repository):
    """Optimiser, rate, decay and length of each, as the released code of the papers has them."""
    said = {
        "lightm_unet": ("adam", 1e-4, 1e-5, 100),
        "mamba_unet": ("sgd", 1e-2, 1e-4, 50),
        "swin_umamba": ("adamw", 1e-4, 0.05, 100),
        "swin_umamba_d": ("adamw", 1e-4, 0.05, 100),
        "mambaclinix": ("adam", 1e-4, 1e-5, 1000),
        "umamba_bot": ("sgd", 1e-2, 3e-5, 1000),
        "umamba_enc": ("sgd", 1e-2, 3e-5, 1000),
        "resenc_unet": ("sgd", 1e-2, 3e-5, 1000),
    }
    folder = Path(repository) / "training" / "configs"
    for name, expected in said.items():
        config = config_from_json(tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8")))
        optimizer = config.optimizer
        assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay, config.epochs) == expected, name


def test_the_control_is_trained_as_what_it_controls(repository):
    folder = Path(repository) / "training" / "configs"
    one, other = (
        config_from_json(tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8")))
        for name in ("resenc_unet", "umamba_bot")
    )
    assert dataclasses.replace(one, network=other.network) == other
