import os

import pytest

from MambaSegmentLib.bundle import write_bundle
from MambaSegmentLib.errors import BundleError, ResourceError
from MambaSegmentLib.worker.protocol import Options
from MambaSegmentLib.worker.shelf import ModelShelf, weights_bytes

CPU = Options("cpu")


@pytest.fixture
def three_models(tmp_path, a_tiny_bundle):
    """Each with one float32 parameter and a buffer of three int64: 28 bytes."""
    bundle = a_tiny_bundle()
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for path in paths:
        write_bundle(path, bundle.manifest, bundle.folds)
    return [str(path) for path in paths]


def test_the_weights_of_a_file_are_counted_as_they_lie_in_memory(tmp_path, a_tiny_bundle):
    bundle = a_tiny_bundle((1.0, 2.0))
    write_bundle(tmp_path / "half.safetensors", bundle.manifest, bundle.folds, half=True)
    assert weights_bytes(tmp_path / "half.safetensors") == 2 * (4 + 3 * 8)


def test_the_least_recently_used_model_goes_when_there_is_no_room(three_models):
    a, b, c = three_models
    shelf = ModelShelf(2 * 28)
    first, fresh = shelf.get(a, CPU)
    assert fresh
    shelf.get(b, CPU)
    assert shelf.get(a, CPU) == (first, False)  # now b is the one that was not used for longest
    shelf.get(c, CPU)
    assert shelf.paths == [a, c]
    assert shelf.get(b, CPU)[1]
    assert shelf.paths == [c, b]


def test_a_model_that_exceeds_the_budget_alone_is_kept_alone(three_models):
    a, b, _ = three_models
    shelf = ModelShelf(1)
    shelf.get(a, CPU)
    assert not shelf.get(a, CPU)[1]
    shelf.get(b, CPU)
    assert shelf.paths == [b]


def test_a_changed_file_is_loaded_anew_and_the_old_one_forgotten(three_models):
    a, b, _ = three_models
    shelf = ModelShelf(1000)
    shelf.get(a, CPU)
    shelf.get(b, CPU)
    os.utime(a, (1, 1))
    assert shelf.get(a, CPU)[1]
    assert shelf.paths == [b, a]


def test_options_that_change_the_model_make_another_one_and_unload_takes_all_of_a_file(three_models):
    a, b, _ = three_models
    shelf = ModelShelf(1000)
    shelf.get(a, CPU)
    assert shelf.get(a, Options("cpu", overlap=0.25))[1]
    assert shelf.get(a, Options("cpu", quality="fast"))[1]
    shelf.get(b, CPU)
    assert shelf.paths == [a, a, a, b]
    shelf.forget(a)
    assert shelf.paths == [b]
    shelf.forget()
    assert shelf.paths == []


def test_what_cannot_be_loaded_leaves_the_others(three_models, tmp_path):
    shelf = ModelShelf(1000)
    shelf.get(three_models[0], CPU)
    (tmp_path / "bad.safetensors").write_bytes(b"")
    for name, options, kind in (
        (str(tmp_path / "bad.safetensors"), CPU, BundleError),
        ("unheard-of", CPU, BundleError),
        (three_models[1], Options("cuda:99"), ResourceError),
    ):
        with pytest.raises(kind):
            shelf.get(name, options)
    assert shelf.paths == three_models[:1]
