"""Every setting is checked by type and range, and a wrong one is named."""

import dataclasses
from pathlib import Path

import pytest
from mambasegment_training.config import TrainingConfig, config_from_json, load_config

from MambaSegmentLib.errors import ConfigError


def test_nothing_given_is_the_defaults():
    assert load_config(None) == TrainingConfig()


def test_file_and_assignments_in_that_order(tmp_path: Path):
    path = tmp_path / "recipe.toml"
    path.write_text('epochs = 7\nseed = 3\n[optimizer]\nname = "sgd"\nlearning_rate = 1\n', encoding="utf-8")
    config = load_config(path, ["epochs=9", "data.patch_size=[16, 24, 32]", "optimizer.gradient_clip=none"])
    assert (config.epochs, config.seed, config.optimizer.name) == (9, 3, "sgd")
    assert config.optimizer.learning_rate == 1.0
    assert isinstance(config.optimizer.learning_rate, float)  # a whole number in TOML
    assert config.data.patch_size == (16, 24, 32)
    assert config.optimizer.gradient_clip is None


def test_a_word_needs_no_quotes():
    assert load_config(None, ["loss.name=arsl"]).loss.name == "arsl"
    assert load_config(None, ['loss.name="arsl"']).loss.name == "arsl"


def test_network_options_are_passed_on_as_they_are():
    config = load_config(None, ["network.options.mixer=spm", "network.options.blocks_down=[1, 2]"])
    assert config.network.options == {"mixer": "spm", "blocks_down": [1, 2]}


def test_none_in_a_file_of_a_language_without_it():
    assert config_from_json({"optimizer": {"gradient_clip": "none"}}).optimizer.gradient_clip is None


def test_a_fold_is_a_number_or_all():
    assert load_config(None, ["fold=3"]).fold == 3
    assert load_config(None, ["fold=all"]).fold == "all"


def test_one_grid_of_regions_and_one_start():
    with pytest.raises(ConfigError, match="expected one of regions_per_axis, region_edge_voxels and region_edge_mm"):
        load_config(None, ["loss.regions_per_axis=[4]", "loss.region_edge_mm=20"])
    with pytest.raises(ConfigError, match="a training starts from one of them"):
        load_config(None, ["pretrained.file=a.pth", "pretrained.bundle=b.safetensors"])


def test_json_and_back(tmp_path: Path):
    config = load_config(None, ["augment.mirror_axes=[0, 2]", "loss.regions_per_axis=[4, 4, 4]", "epochs=3"])
    assert config_from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epoch=3", r"unknown setting epoch; did you mean epochs\? known: seed, epochs"),
        (
            "optimizer.learn_rate=3",
            r"optimizer.learn_rate; did you mean optimizer.learning_rate\? known: optimizer.name",
        ),
        ("learning_rate=3", r"unknown setting learning_rate; did you mean optimizer.learning_rate\?"),
        ("xyzzy=3", "unknown setting xyzzy; known: seed"),
        ("fold=some", "setting fold is 'some'; expected of type int"),
        ("fold=-1", "setting fold is -1; expected 0 or more, or all"),
        ("loss.region_edge_mm=0", "loss.region_edge_mm is 0.0; expected above 0"),
        ("epochs=0", "setting epochs is 0; expected at least 1"),
        ("epochs=2.5", "setting epochs is 2.5; expected of type int"),
        ("epochs=true", "setting epochs is True; expected of type int"),
        ("deterministic=1", "setting deterministic is 1; expected of type bool"),
        ("optimizer.name=lion", "expected one of adamw, adam, sgd"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate is -1.0; expected above 0"),
        ("optimizer.betas=[0.9]", "optimizer.betas is .*; expected 2 values"),
        ("optimizer=3", "setting optimizer is 3; expected a section"),
        ("data.patch_size=[16]", "expected three positive sizes"),
        ("pretrained.freeze_epochs=-1", "pretrained.freeze_epochs is -1; expected 0 or more"),
        ("data.patch_size=16", "expected a list"),
        ("data.foreground_fraction=1.5", "expected 0 to 1"),
        ("augment.mirror_axes=[3]", "different axes of 0, 1, 2"),
        ("augment.mirror_axes=[1, 1]", "different axes of 0, 1, 2"),
        ("augment.scaling=[1.4, 0.7]", r"augment.scaling is .*; expected \[low, high\]"),
        ("augment.scaling=[0, 1]", "factors above 0"),
        ("augment.noise_probability=2", "augment.noise_probability is 2.0; expected 0 to 1"),
        ("ema_decay=1", "ema_decay is 1.0; expected between 0 and 1"),
        ("schedule.name=step", "expected one of poly, cosine, constant"),
        ("validation.tile_step=0", "validation.tile_step is 0.0; expected above 0"),
        ("epochs", "expected key=value"),
        ("=3", "expected key=value"),
        ("epochs.more=3", "unknown setting|expected"),
    ],
)
def test_a_wrong_setting_is_named(assignment: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [assignment])


def test_a_value_is_no_section():
    with pytest.raises(ConfigError, match="'epochs' is a value, not a section"):
        load_config(None, ["epochs=3", "epochs.more=3"])


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.toml"):
        load_config(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("epochs = = 3", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.toml is no TOML"):
        load_config(tmp_path / "broken.toml")


def test_the_shipped_recipes_are_valid(repository: Path):
    recipes = sorted((repository / "training" / "configs").glob("*.toml"))
    assert recipes
    for recipe in recipes:
        assert dataclasses.is_dataclass(load_config(recipe))
