"""docs/networks.md shows what the networks really are: its tables and pictures are made anew and compared."""

import re
from pathlib import Path

import pytest

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.models.canonical import CANONICAL, Canonical
from Testing.benchmarks import networks as benchmark
from Testing.networks_page.claims import claims
from Testing.networks_page.drawing import draw
from Testing.networks_page.page import (
    PAGE,
    blocks_of,
    made_blocks,
    picture_of,
    pictured,
    speed_block,
    with_blocks,
)
from Testing.networks_page.structure import structure_of

ADVICE = "docs/networks.md is stale; run `python -m Testing.networks_page`. The new part:"
# claims as the papers print them, and the same by their rules as measured on the authors' code
CLAIMS = {
    ("LightM-UNet 3D, first code", "1.87 M, 457.62 G"): "1.866 M, 457.62 G",
    ("LightM-UNet 2D, first code", "1.09 M, 267.19 G"): "1.092 M, 267.19 G",
    ("LightM-UNet 3D, this code", "5 M"): "5.016 M",
    ("Swin-UMamba", "60 M, 68.0 G"): "59.889 M, 68.00 G",
    ("Swin-UMamba†", "27 M, 18.9 G"): "27.498 M, 18.91 G",
    ("MambaClinix", "49 M"): "48.874 M",
    ("MambaClinix", "17.41 M, 2085.79 G"): "17.149 M",
    ("U-Mamba_Bot 3D", "43 M"): "42.121 M",
}


@pytest.mark.slow
def test_tables_are_up_to_date():
    committed = blocks_of(PAGE.read_text("utf-8"))
    made = made_blocks()
    assert set(committed) == set(made)
    stale = [f"\n\n{name}:\n{made[name]}" for name in made if committed[name] != made[name]]
    assert not stale, ADVICE + "".join(stale)


@pytest.mark.slow
def test_claims_are_reproduced_by_their_own_rules():
    counted = {(claim.network, claim.claimed): claim.by_the_rule for claim in claims()}
    assert counted == CLAIMS | {
        ("LightM-UNet 3D, this code", "–"): "0.732 M, 60.77 G",
        ("LightM-UNet 2D, this code", "–"): "0.728 M, 102.26 G",
    }


def texts(picture: Path) -> list[str]:
    """What is written in a picture, which does not depend on the version that drew it."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture.read_text("utf-8"))


@pytest.mark.parametrize("network", pictured(), ids=lambda network: network.architecture)
def test_pictures_are_up_to_date(network, tmp_path):
    draw(structure_of(network), tmp_path / "new.svg")
    committed = picture_of(network)
    assert texts(committed) == texts(tmp_path / "new.svg") != [], ADVICE + f" {committed}"
    assert committed.stat().st_size < 60_000
    assert f"pictures/networks/{committed.name}" in PAGE.read_text("utf-8")


@pytest.mark.parametrize("network", CANONICAL, ids=lambda network: network.title)
def test_every_published_size_can_be_drawn_from_its_modules(network):
    drawing = structure_of(network)
    assert drawing.rows[0].right.spatial == network.spatial  # a U ends where it began
    halvings = [row.right.spatial for row in drawing.rows] + [drawing.bottom.spatial]
    assert halvings == sorted(halvings, reverse=True)
    assert len(set(halvings)) == len(halvings)


def test_parts_are_put_between_their_marks():
    mark = "<!-- {}, made by python -m Testing.networks_page -->"
    page = f"a\n{mark.format('one')}\nold\n<!-- end -->\nb\n{mark.format('two')}\n<!-- end -->\nc\n"
    new = with_blocks(page, {"one": "1\n2", "two": "3"})
    assert new == (f"a\n{mark.format('one')}\n\n1\n2\n<!-- end -->\nb\n{mark.format('two')}\n\n3\n<!-- end -->\nc\n")
    assert blocks_of(new) == {"one": "1\n2", "two": "3"}
    assert with_blocks(new, blocks_of(new)) == new
    with pytest.raises(ConfigError, match="one"):
        with_blocks(page, {"two": "3"})


TINY = Canonical(
    "lightm_unet", "Tiny", (8, 16), {"spatial_dims": 2, "in_channels": 1, "num_classes": 2, "init_filters": 8}
)


def test_the_benchmark_measures_a_network_and_its_target():
    row = benchmark.measure(TINY)
    assert row["input_shape"] == [1, 1, 8, 16]
    assert len(row["seconds"]) in (benchmark.ROUNDS, benchmark.ROUNDS_OF_LONG_ONES)  # a first pass may compile kernels
    assert min(row["seconds"]) <= row["median_s"] <= max(row["seconds"])
    assert row["peak_memory_bytes"] >= row["memory_before_bytes"] > 10_000_000
    row |= {"median_s": 1.234, "peak_memory_bytes": 1_500_000_000, "memory_before_bytes": 300_000_000}
    row["target"] = {"median_s": 1.0, "peak_memory_bytes": 2e9}
    last = benchmark.table([row])[-1]
    assert last == "| Tiny | 1 x 8 x 16 | 1.23 s | 1.50 GB | 0.30 GB | below 1 s: missed, below 2 GB: met |"
    machine = {"date": "2026-01-02", "processor": "Some processor", "torch": "2.13"}
    assert last in speed_block({"machines": {"networks": machine}, "networks": [row]})
    assert "Not measured yet" in speed_block({"machines": {}})


def test_every_target_is_of_a_network_that_is_measured():
    assert set(benchmark.TARGETS) <= {network.title for network in CANONICAL}
