"""What each quality does, counted on the network's own calls."""

import numpy as np
import pytest

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.quality import QUALITIES, folds_for, folds_from_text, mirrorings_for, step_for


@pytest.mark.parametrize(("quality", "calls"), [("best", (4, 4)), ("balanced", (2, 2)), ("fast", (1,))])
def test_copies_and_folds_that_each_quality_looks_at(quality, calls, a_tiny_bundle):
    predictor = Predictor(a_tiny_bundle((1.0, 2.0), mirror_axes=(0, 2)), "cpu", quality=quality)
    seen = [0] * len(predictor._networks)
    for number, network in enumerate(predictor._networks):

        def count(*_, number=number):
            seen[number] += 1

        network.register_forward_hook(count)
    predictor.scores(np.zeros((1, *predictor.manifest.patch_size), np.float32))
    assert tuple(seen) == calls


def test_fast_answers_with_the_first_fold_and_the_others_with_the_mean(a_tiny_bundle):
    """Class 1 scores weight · x - 0.5."""
    image = np.ones((1, 8, 8, 8), np.float32)
    bundle = a_tiny_bundle((1.0, 3.0))
    found = {quality: Predictor(bundle, "cpu", quality=quality).scores(image)[1].mean() for quality in QUALITIES}
    assert found == {"best": 1.5, "balanced": 1.5, "fast": 0.5}


def test_balanced_mirrors_along_all_axes_at_once():
    assert mirrorings_for("balanced", (0, 2)) == ((), (0, 2))
    assert mirrorings_for("balanced", ()) == ((),)
    assert mirrorings_for("balanced", (1,)) == mirrorings_for("best", (1,)) == ((), (1,))


@pytest.mark.parametrize("ask", [mirrorings_for, folds_for])
def test_an_unknown_quality_is_refused_with_the_known_ones(ask):
    with pytest.raises(ConfigError, match="'great' is unknown; expected best, balanced or fast"):
        ask("great", 0)


def test_fast_lays_fewer_tiles_unless_an_overlap_is_asked_for(a_tiny_bundle):
    assert [step_for(quality, 0.5) for quality in QUALITIES] == [0.5, 0.5, 0.75]
    assert step_for("fast", 0.9) == 0.9
    assert Predictor(a_tiny_bundle(), "cpu", quality="fast").step == 0.75
    assert Predictor(a_tiny_bundle(), "cpu", quality="fast", step=0.5).step == 0.5


def test_folds_that_are_asked_for_are_averaged(a_tiny_bundle):
    """Class 1 scores weight · x - 0.5."""
    image = np.ones((1, 8, 8, 8), np.float32)
    bundle = a_tiny_bundle((1.0, 3.0, 8.0))
    for quality in QUALITIES:
        predictor = Predictor(bundle, "cpu", quality=quality, folds=folds_from_text("0, 2"))
        assert predictor.scores(image)[1].mean() == 4.0
        assert predictor.folds == (0, 2)


@pytest.mark.parametrize("folds", [(3,), (0, 3), (), (1, 1), (-1,)])
def test_a_fold_that_the_model_does_not_have(a_tiny_bundle, folds):
    with pytest.raises(ConfigError, match="the model has the folds 0 to 2; name some of these, each once"):
        Predictor(a_tiny_bundle((1.0, 2.0, 3.0)), "cpu", folds=folds)


@pytest.mark.parametrize("text", ["", ",", "1,", "a", "-1", "0-2", "1.5", "٣", "9999"])
def test_a_text_that_names_no_folds(text):
    with pytest.raises(ConfigError, match="expected numbers such as 0 or 0,2"):
        folds_from_text(text)
    assert folds_from_text(None) is None
