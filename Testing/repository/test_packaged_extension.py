"""The files that CMake installs are enough: laid out as in the package, with nothing else on the path, the module is
imported, its panel opened, and a volume segmented.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.repository.test_cmake_lists import RESOURCES_OF, SCRIPTS_OF, listed

IMPORT_THE_MODULE = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])  # the repository, for the stand-in Slicer host alone
import Testing.host
host = Testing.host.start()
import slicer
sys.path.remove(sys.argv[2])
before = set(sys.modules)
# no library that is pip-installed in this Python may be taken instead
sys.path[:] = [folder for folder in sys.path if not Path(folder, "MambaSegmentLib").is_dir()]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.path.append(sys.argv[1])  # as Slicer does with the folder of a module

import MambaSegment

print(*sorted(name for name in set(sys.modules) - before if "." not in name))
import MambaSegmentLib
assert Path(MambaSegmentLib.__file__).is_relative_to(sys.argv[3]), MambaSegmentLib.__file__
assert all(hasattr(MambaSegment, "MambaSegment" + kind) for kind in ("", "Widget", "Logic", "Test"))
models = MambaSegment.MambaSegmentLogic().installedModels()
assert "torch" not in sys.modules
print(*(model.name for model in models if model.manifest and model.path.is_relative_to(sys.argv[1])))

host.load_module(Path(sys.argv[1], "MambaSegment.py"))
widget = host.enter("MambaSegment")
assert widget.ui.segmentButton.isVisible()
assert widget.panel.model.chosen.name == "hippocampus-t1"
assert not slicer.modules.mambasegment.icon.isNull()
assert Path(widget.resourcePath("requirements.txt")).is_relative_to(sys.argv[1])
files = [Path(module.__file__) for name, module in sys.modules.items() if name.startswith("MambaSegmentPanel.")]
assert len(files) > 20 and all(file.is_relative_to(sys.argv[1]) for file in files), files
assert "torch" not in sys.modules
assert not host.failures, str(host.failures)
host.end_process(0)
"""
THIRD_PARTY = {"torch", "numba", "safetensors", "nrrd", "slicerio", "platformdirs", "psutil", "tqdm", "PIL", "scipy"}


@pytest.fixture
def an_installed_extension(repository: Path, tmp_path: Path) -> Path:
    """qt-scripted-modules as CMake fills it: the module's files flat, the library in its folder beside them."""
    target = tmp_path / "qt-scripted-modules"
    for name, place in (("MambaSegment", target), ("MambaSegmentLib", target / "MambaSegmentLib")):
        for file in listed(repository / name, SCRIPTS_OF[name]) + listed(repository / name, RESOURCES_OF[name]):
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(repository / name / file, place / file)
    return target


SEGMENT_WITH_THE_LIBRARY = """
import sys

sys.path.insert(0, sys.argv[1])
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
import MambaSegmentLib

assert MambaSegmentLib.__file__.startswith(sys.argv[1]), MambaSegmentLib.__file__
from MambaSegmentLib.cli import main
from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.phantom import hippocampus_phantom

write_volume(hippocampus_phantom().image, "phantom.nii.gz")
sys.exit(main(["segment", "phantom.nii.gz", "-m", sys.argv[2], "-o", "labels.seg.nrrd", "--quiet"]))
"""


def import_the_module(modules: Path, library_parent: Path, repository: Path, tmp_path: Path) -> list[list[str]]:
    """Import in a fresh Python; returns what it printed: loaded modules, then the models that came with it."""
    command = [sys.executable, "-I", "-c", IMPORT_THE_MODULE, str(modules), str(repository), str(library_parent)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_the_packaged_module_finds_library_and_models(an_installed_extension, repository, tmp_path):
    loaded, models = import_the_module(an_installed_extension, an_installed_extension, repository, tmp_path)
    assert not THIRD_PARTY & set(loaded)
    assert {"cardiac-lv", "hippocampus-t1"} <= set(models)


def test_the_packaged_library_segments(an_installed_extension, tmp_path):
    model = an_installed_extension / "Resources" / "Models" / "hippocampus-t1.safetensors"
    script = [sys.executable, "-I", "-c", SEGMENT_WITH_THE_LIBRARY, str(an_installed_extension), str(model)]
    environment = {**os.environ, "MAMBASEGMENT_BACKEND": "chunked"}  # numba would compile anew in a new folder: minutes
    done = subprocess.run(script, capture_output=True, encoding="utf-8", cwd=tmp_path, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "labels.seg.nrrd").stat().st_size > 1000


def test_the_interface_and_icon_are_in_the_package(an_installed_extension):
    """`resourcePath` and the start of Slicer look for them there."""
    resources = an_installed_extension / "Resources"
    interfaces = {path.name for path in (resources / "UI").glob("*.ui")}
    assert {"MambaSegment.ui", "BatchSection.ui"} <= interfaces
    assert (resources / "Icons" / "MambaSegment.png").is_file()
    assert (resources / "requirements.txt").is_file()


def test_a_source_checkout_finds_the_library_beside_the_module(repository, tmp_path):
    loaded, models = import_the_module(repository / "MambaSegment", repository, repository, tmp_path)
    assert not THIRD_PARTY & set(loaded)
    assert {"cardiac-lv", "hippocampus-t1"} <= set(models)
