"""What the Extensions Index reads: CMake variables, its JSON entry, icon and licence must agree."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

RAW = "https://raw.githubusercontent.com/MambaSegment/SlicerMambaSegment/main/"
ENTRY_KEYS = {
    *("$schema", "build_dependencies", "build_subdirectory", "category", "dicom_support_rule"),
    *("enabled", "scm_revision", "scm_type", "scm_url", "tier"),
}


@pytest.fixture
def cmake(repository: Path) -> dict[str, str]:
    text = (repository / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'^set\(EXTENSION_(\w+) "([^"\n]*)"\)$', text, flags=re.MULTILINE))


@pytest.fixture
def entry(repository: Path) -> dict:
    text = (repository / "docs" / "extensions_index" / "MambaSegment.json").read_text(encoding="utf-8")
    return json.loads(text)


def test_the_index_entry_agrees_with_cmake(cmake, entry):
    assert set(entry) <= ENTRY_KEYS
    assert entry["category"] == cmake["CATEGORY"]
    assert entry["scm_url"] == cmake["HOMEPAGE"]
    assert entry["build_dependencies"] == cmake["DEPENDS"].split()


def test_pictures_that_the_index_shows_are_in_the_repository(cmake, repository):
    urls = [cmake["ICONURL"], *cmake.get("SCREENSHOTURLS", "").split()]
    for url in urls:
        assert url.startswith(RAW)
        assert (repository / url.removeprefix(RAW)).is_file(), url


def test_the_icon_has_the_size_that_slicer_shows(repository):
    module_icon = repository / "MambaSegment" / "Resources" / "Icons" / "MambaSegment.png"
    for path in (repository / "MambaSegment.png", module_icon):
        assert Image.open(path).size == (128, 128)


def test_every_shipped_model_has_a_licence_beside_it(repository):
    models = repository / "MambaSegment" / "Resources" / "Models"
    for model in models.glob("*.safetensors"):
        assert (models / f"LICENSE-{model.stem}.txt").is_file(), model.name


def test_the_version_is_the_same_everywhere(repository):
    import MambaSegmentLib

    citation = (repository / "CITATION.cff").read_text(encoding="utf-8")
    project = (repository / "pyproject.toml").read_text(encoding="utf-8")
    version = MambaSegmentLib.__version__
    assert f"\nversion: {version}\n" in citation
    assert f'\nversion = "{version}"\n' in project
