"""The `[card]` table of a recipe: what a model says about itself beyond what its training knows.

    [card]
    name = "hippocampus-t1"             # also the file's name in the model store; default: the exported file's name
    version = "1"
    description = "One sentence."
    dataset = "Where the training data come from"
    license = "CC-BY-SA-4.0"
    citation = ["One paper", "Another"] # a text, or a list of texts that become its lines; so are the next two
    intended_use = "…"
    limitations = ["…", "…"]
    channels = [{ name = "T1", modality = "MR" }]

    [[card.labels]]                     # for each label: what it is called, its colour and its codes
    value = 1
    name = "Anterior hippocampus"
    color = [0.85, 0.4, 0.3]
    terminology = { category = { scheme = "SCT", value = "…", meaning = "…" }, type = { … }, modifier = { … } }

All keys may be left out; names then come from the data set, and colours are drawn from a wheel.
"""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.manifest import Channel
from MambaSegmentLib.segments import SegmentInfo, Terminology

from .config import read_toml

_GOLDEN_RATIO = 0.618034  # steps of it around the colour wheel keep any number of colours apart


@dataclass(frozen=True)
class Card:
    """A checked `[card]` table; texts are empty and lists are None where it says nothing."""

    name: str = ""
    version: str = "1"
    description: str = ""
    dataset: str = ""
    license: str = ""
    citation: str = ""
    intended_use: str = ""
    limitations: str = ""
    channels: tuple[Channel, ...] | None = None
    labels: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


def read_card(path: Path) -> Card:
    """The `[card]` table of a TOML file, such as a recipe.

    Raises:
        ConfigError: no such file, no such table, or one that makes no sense.
    """
    content = read_toml(path)
    if not isinstance(content.get("card"), dict):
        raise ConfigError(f"{path} has no table [card]; it says what an exported model tells about itself")
    return card_from_table(content["card"])


def card_from_table(table: Mapping[str, Any]) -> Card:
    """Check a `[card]` table.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind.
    """
    known = [entry.name for entry in fields(Card)]
    _refuse_unknown(table, known, "card")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key == "channels":
            values[key] = tuple(_channel(entry) for entry in _tables(value, "card.channels"))
        elif key == "labels":
            values[key] = _labels(_tables(value, "card.labels"))
        else:
            values[key] = _text(value, f"card.{key}")
    return Card(**values)


def channels_of(card: Card, names: Sequence[str]) -> tuple[Channel, ...]:
    """The channels of the model; `names` are the data set's, in order."""
    if card.channels is None:
        return tuple(Channel(name) for name in names)
    if len(card.channels) != len(names):
        raise ConfigError(f"card.channels has {len(card.channels)} entries, but the data has {len(names)} channel(s)")
    return card.channels


def segments_of(card: Card, names: Mapping[int, str]) -> tuple[SegmentInfo, ...]:
    """The segments of the model in the network's order; `names` are the data set's, by label value."""
    unknown = sorted(set(card.labels) - set(names))
    if unknown:
        raise ConfigError(
            f"card.labels names the value {unknown[0]}; the data has {', '.join(map(str, sorted(names)))}"
        )
    segments = []
    for index, value in enumerate(sorted(names)):
        entry = card.labels.get(value, {})
        terminology = entry.get("terminology")
        segments.append(
            SegmentInfo(
                value,
                entry.get("name", names[value]),
                entry.get("color", colorsys.hsv_to_rgb(index * _GOLDEN_RATIO % 1.0, 0.6, 0.9)),
                None if terminology is None else Terminology.from_json(terminology),
            )
        )
    return tuple(segments)


def check_card(card: Card, channel_names: Sequence[str], label_names: Mapping[int, str]) -> None:
    """Raises: ConfigError, when the card does not fit the data; better before the training than after it."""
    channels_of(card, channel_names)
    segments_of(card, label_names)


def _labels(entries: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    labels: dict[int, Mapping[str, Any]] = {}
    for entry in entries:
        _refuse_unknown(entry, ("value", "name", "color", "terminology"), "card.labels")
        value = entry.get("value")
        if type(value) is not int or value in labels:
            raise ConfigError(f"each of card.labels needs a value of its own, a whole number; got {value!r}")
        labels[value] = entry
    return labels


def _channel(entry: Mapping[str, Any]) -> Channel:
    _refuse_unknown(entry, ("name", "modality"), "card.channels")
    if "name" not in entry or not all(isinstance(value, str) for value in entry.values()):
        raise ConfigError(f"each of card.channels needs a name, and may have a modality, both texts; got {dict(entry)}")
    return Channel(**entry)


def _text(value: Any, name: str) -> str:
    lines = value if isinstance(value, list) else [value]
    if not all(isinstance(line, str) for line in lines):
        raise ConfigError(f"setting {name} is {value!r}; expected a text or a list of texts")
    return "\n".join(line.strip() for line in lines)


def _tables(value: Any, name: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise ConfigError(f"setting {name} is {value!r}; expected a list of tables")
    return value


def _refuse_unknown(table: Mapping[str, Any], known: Sequence[str], name: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ConfigError(f"unknown setting {name}.{unknown[0]}; known: {', '.join(known)}")
