"""What a recipe lets a model say about itself."""

from pathlib import Path

import pytest
from mambasegment_training.card import Card, card_from_table, channels_of, read_card, segments_of

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.manifest import Channel
from MambaSegmentLib.segments import Code, Terminology

CODE = {"scheme": "SCT", "value": "10200004", "meaning": "Liver"}


def test_an_empty_card_takes_names_from_the_data():
    card = card_from_table({})
    assert card == Card()
    assert channels_of(card, ["T1", "T2"]) == (Channel("T1"), Channel("T2"))
    segments = segments_of(card, {1: "liver", 2: "cyst"})
    assert [(segment.value, segment.name, segment.terminology) for segment in segments] == [
        (1, "liver", None),
        (2, "cyst", None),
    ]


def test_many_labels_get_many_colours():
    segments = segments_of(Card(), {value: f"part {value}" for value in range(1, 31)})
    assert len({segment.color for segment in segments}) == 30


def test_lists_of_texts_become_lines():
    card = card_from_table({"citation": ["one ", "two"], "limitations": "only one"})
    assert (card.citation, card.limitations) == ("one\ntwo", "only one")


def test_names_colours_and_codes_of_labels():
    label = {"value": 2, "name": "Liver", "color": [1, 0.5, 0], "terminology": {"category": CODE, "type": CODE}}
    first, second = segments_of(card_from_table({"labels": [label]}), {1: "one", 2: "two"})
    assert first.name == "one"
    assert (second.name, second.color) == ("Liver", (1.0, 0.5, 0.0))
    assert second.terminology == Terminology(Code(**CODE), Code(**CODE))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"licence": "MIT"}, "unknown setting card.licence; known: name, version"),
        ({"version": 1}, "setting card.version is 1; expected a text"),
        ({"citation": ["one", 2]}, "expected a text or a list of texts"),
        ({"labels": {"value": 1}}, "expected a list of tables"),
        ({"labels": [{"name": "liver"}]}, "needs a value of its own"),
        ({"labels": [{"value": 1}, {"value": 1}]}, "needs a value of its own"),
        ({"labels": [{"value": 1, "colour": [1, 1, 1]}]}, "unknown setting card.labels.colour"),
        ({"channels": [{"modality": "MR"}]}, "needs a name"),
        ({"channels": [{"name": "T1", "kind": "MR"}]}, "unknown setting card.channels.kind"),
        ({"channels": ["T1"]}, "expected a list of tables"),
    ],
)
def test_a_card_that_makes_no_sense(table, message):
    with pytest.raises(ConfigError, match=message):
        card_from_table(table)


def test_a_card_of_other_data():
    with pytest.raises(ConfigError, match="names the value 3; the data has 1, 2"):
        segments_of(card_from_table({"labels": [{"value": 3}]}), {1: "a", 2: "b"})
    with pytest.raises(ConfigError, match=r"has 1 entries, but the data has 2 channel"):
        channels_of(card_from_table({"channels": [{"name": "T1"}]}), ["T1", "T2"])
    for label, message in (
        ({"value": 1, "color": [2, 0, 0]}, "three numbers 0..1"),
        ({"value": 1, "terminology": {"type": CODE}}, "lacks category"),
    ):
        with pytest.raises(ConfigError, match=message):
            segments_of(card_from_table({"labels": [label]}), {1: "a"})


def test_files_without_a_card(tmp_path: Path):
    (tmp_path / "recipe.toml").write_text("epochs = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"recipe\.toml has no table \[card\]"):
        read_card(tmp_path / "recipe.toml")


def test_the_shipped_recipe_has_a_whole_card(repository: Path):
    card = read_card(repository / "training" / "configs" / "hippocampus.toml")
    assert (card.name, card.license) == ("hippocampus-t1", "CC-BY-SA-4.0")
    assert all((card.version, card.description, card.dataset, card.citation, card.intended_use, card.limitations))
    assert channels_of(card, ["image"]) == (Channel("T1", "MR"),)
    anterior, posterior = segments_of(card, {1: "a", 2: "b"})
    assert anterior.terminology.type == posterior.terminology.type == Code("SCT", "5366008", "Hippocampus")
    assert anterior.color != posterior.color
