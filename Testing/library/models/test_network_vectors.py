"""The repository's own vectors: every network gives the numbers that it gave when it met its authors' vectors."""

import json

import pytest
import torch

from MambaSegmentLib.models import ARCHITECTURES
from Testing.library.models.vectors import FILE, VECTORS
from Testing.library.models.write_vectors import VARIANTS, computed

# Without residuals rounding grows from layer to layer: a change of the input in its eighth digit changes the logits of
# this network by up to 1 %, so that single precision has nothing to agree with.
ILL_CONDITIONED = {"lightm_no_residual"}


@pytest.mark.parametrize("case", VECTORS)
def test_small_vectors_of_this_repository(case):
    vector = VECTORS[case]
    net, x = vector.network(), vector.image()
    expected = torch.tensor(vector.outputs, dtype=torch.float64)
    with torch.inference_mode():
        double = vector.sample_of(net(x))
        single = double.float() if case in ILL_CONDITIONED else vector.sample_of(net.float()(x.float()))
    torch.testing.assert_close(double, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def test_every_network_has_vectors_with_its_published_names_or_is_ours():
    published = {vector.architecture for vector in VECTORS.values() if vector.published_shapes is not None}
    assert published == set(ARCHITECTURES)
    assert {case for case, vector in VECTORS.items() if vector.published_shapes is None} == set(VARIANTS)


def test_no_two_cases_give_the_same():
    """A switch that does nothing would show."""
    assert len({vector.outputs[:5] for vector in VECTORS.values()}) == len(VECTORS)
    assert all(len(set(vector.outputs)) > 30 for vector in VECTORS.values())


def test_the_file_says_where_it_comes_from_and_is_small():
    assert "met the vectors of the authors' code" in json.loads(FILE.read_text(encoding="utf-8"))["provenance"]
    assert FILE.stat().st_size < 300_000


def test_the_script_computes_what_is_kept():
    vector = VECTORS["mamba_unet"]
    assert computed(vector) == pytest.approx(vector.outputs, rel=1e-9, abs=1e-9)
