"""Every test of this folder runs on the stand-in Slicer host, in the host's own process."""

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TINY_WORKER = [sys.executable, str(REPOSITORY / "Testing" / "library" / "worker" / "tiny_worker.py")]


@pytest.fixture
def panel_module(request: pytest.FixtureRequest, repository: Path) -> Callable[[str], ModuleType]:
    """`panel_module("shell_line")` imports MambaSegmentPanel/shell_line.py; the next test gets its own."""
    host = request.getfixturevalue("host")
    host.add_module_folder(repository / "MambaSegment")
    return lambda name: importlib.import_module(f"MambaSegmentPanel.{name}")


@pytest.fixture(autouse=True)
def same_library() -> Iterator[None]:
    """A module that is reloaded forgets the library; the next test shall meet the classes that it has imported."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "MambaSegmentLib"}
    yield
    if before and sys.modules.get("MambaSegmentLib") is not before["MambaSegmentLib"]:
        for name in [name for name in sys.modules if name.partition(".")[0] == "MambaSegmentLib"]:
            del sys.modules[name]
        sys.modules.update(before)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models, see tiny_models.py."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-m", "Testing.module.tiny_models", str(folder)], check=True, cwd=REPOSITORY)
    return folder


@pytest.fixture(scope="module")
def tiny_segmenter() -> Iterator[Any]:
    """One for all tests of a file: its worker is started again wherever a test ends it."""
    from Testing.host import start

    start()
    sys.path.insert(0, str(REPOSITORY / "MambaSegment"))
    from MambaSegmentPanel.segmenter import Segmenter
    from MambaSegmentPanel.worker_owner import WorkerOwner

    segmenter = Segmenter(WorkerOwner(command=TINY_WORKER))
    yield segmenter
    segmenter.close()


@pytest.fixture
def open_module(
    request: pytest.FixtureRequest, model_folder: Path, tiny_segmenter: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """`open_module("slow")`: the user opens the module, whose model is that one. Its worker knows the tiny networks."""
    host = request.getfixturevalue("host")
    monkeypatch.setenv("MAMBASEGMENT_MODELS", str(model_folder))

    its_own: list[tuple[Any, Any]] = []

    def opened(model: str = "tiny", segmenter: Any = tiny_segmenter) -> Any:
        host.load_module()
        widget = host.enter("MambaSegment")
        its_own.append((widget.logic, widget.logic.segmenter))
        widget.logic.segmenter = segmenter
        widget.logic.getParameterNode().model = model
        widget.logic.getParameterNode().device = "cpu"
        host.process_events()
        return widget

    yield opened
    for logic, segmenter in its_own:  # the end of the module shall not end the worker, which serves the next test too
        logic.segmenter = segmenter
    tiny_segmenter.cancel()
    host.wait_until(lambda: not tiny_segmenter._jobs)


@pytest.fixture
def widget(host: Any) -> Any:
    """The panel, without a worker, which no review needs."""
    host.load_module()
    widget = host.enter("MambaSegment")
    widget.panel.warmUp.want = lambda *_: None
    return widget


@pytest.fixture
def a_review(host: Any, widget: Any, tmp_path: Path) -> tuple[Any, Any]:
    """The review of a result; returns its volume and its segmentation. Files go to a folder of the test."""
    from Testing.module.review_cases import choose_folder, result_of_a_run, review_it  # Slicer's modules are there now

    volume, node = result_of_a_run()
    review_it(host, widget, node)
    choose_folder(widget, tmp_path)
    widget.ui.reviewReviewerEdit.text = "A. Reviewer"
    return volume, node
