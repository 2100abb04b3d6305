"""What a model file says of itself is shown as it is, and never as markup."""

from pathlib import Path

import pytest

from MambaSegmentLib.manifest import Channel, Manifest
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.store import StoredModel


@pytest.fixture
def a_manifest() -> Manifest:
    return Manifest(
        name="two-parts",
        architecture_name="lightm_unet",
        architecture_options={},
        channels=(Channel("T1", "MR"), Channel("mask")),
        segments=(SegmentInfo(1, "Front & <b>top</b>", (1.0, 0.5, 0.0)), SegmentInfo(2, "Back", (0.0, 0.0, 1.0))),
        preprocessing=PreprocessingSpec(normalization=(Normalization("zscore"), Normalization("none"))),
        patch_size=(32, 32, 32),
        license="CC-BY-SA-4.0",
        limitations="Not for children.\nNot for tumours.",
    )


@pytest.fixture
def card(panel_module, a_manifest):
    return panel_module("model_card").cardHtml(
        StoredModel("two-parts", Path("m") / "two-parts.safetensors", a_manifest)
    )


def test_segments_have_their_colour_beside_their_name(card):
    orange, blue = card.index("#ff8000"), card.index("#0000ff")
    assert orange < card.index("Front") < blue < card.index("Back")


def test_text_from_the_file_is_no_markup(card):
    assert "Front &amp; &lt;b&gt;top&lt;/b&gt;" in card


def test_channels_licence_limits_and_file_are_named(card):
    for text in ("T1 (MR), mask<", "CC-BY-SA-4.0", "Not for children.<br>Not for tumours.", "two-parts.safetensors"):
        assert text in card


def test_nothing_is_said_where_the_file_says_nothing(card):
    assert "Please cite" not in card


def test_a_file_that_cannot_be_read_says_why(panel_module):
    card = panel_module("model_card").cardHtml(StoredModel("odd", Path("odd.safetensors"), None, "no JSON <here>"))
    assert "odd" in card
    assert "no JSON &lt;here&gt;" in card
