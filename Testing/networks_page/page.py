"""The parts of docs/networks.md that are made, and the pictures beside it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.models.canonical import CANONICAL, Canonical
from Testing.benchmarks.networks import table as speed_rows

from .claims import claims, claims_table, counts_table

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "networks.md"
PICTURES = REPOSITORY / "docs" / "pictures" / "networks"
BENCHMARK = REPOSITORY / "docs" / "benchmarks" / "cpu.json"
_COMMAND = "python -m Testing.networks_page"


def made_blocks() -> dict[str, str]:
    """Everything that is counted, by the name of its marks; takes seconds."""
    return {
        "claims": claims_table(claims()),
        "counts": counts_table(),
        "speed": speed_block(json.loads(BENCHMARK.read_text("utf-8"))),
    }


def speed_block(benchmark: Mapping[str, Any]) -> str:
    """What `make bench` measured, and on which machine."""
    rows = benchmark.get("networks")
    if not rows:
        return "Not measured yet: `make bench` measures them on your machine."
    on = benchmark["machines"]["networks"]
    about = f"Measured {on['date']} on {on['processor']}, {rows[0]['threads']} threads, torch {on['torch']}."
    return "\n".join([about, *speed_rows(rows)])


def blocks_of(page: str) -> dict[str, str]:
    """The parts between marks, by name."""
    return {match["name"]: match["body"].strip("\n") for match in _marks(page)}


def with_blocks(page: str, blocks: Mapping[str, str]) -> str:
    """The page with these parts between its marks.

    Raises:
        ConfigError: the page has other marks than there are parts.
    """
    if set(blocks_of(page)) != set(blocks):
        raise ConfigError(f"the page has marks for {sorted(blocks_of(page))}; there are parts for {sorted(blocks)}")
    for match in reversed(list(_marks(page))):
        page = f"{page[: match.start('body')]}\n{blocks[match['name']]}\n{page[match.end('body') :]}"
    return page


def pictured() -> list[Canonical]:
    """One network of each architecture."""
    first: dict[str, Canonical] = {}
    for network in CANONICAL:
        first.setdefault(network.architecture, network)
    return list(first.values())


def picture_of(network: Canonical) -> Path:
    return PICTURES / f"{network.architecture}.svg"


def _marks(page: str) -> list[re.Match[str]]:
    pattern = rf"<!-- (?P<name>\w+), made by {re.escape(_COMMAND)} -->\n(?P<body>.*?)<!-- end -->"
    return list(re.finditer(pattern, page, re.DOTALL))
