"""What the Extensions Index reads: CMake variables, its JSON entry, icon and licence must agree."""

import json
import os
import re
import subprocess
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


SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.2.json#"
)
CATEGORIES = {"Segmentation", "Quantification", "Registration", "Informatics", "Utilities"}  # of the list, what may fit


def test_the_index_entry_is_valid(entry, repository):
    """The rules of the schema 1.0.2, and what the index checks besides."""
    file = repository / "docs" / "extensions_index" / "MambaSegment.json"
    assert b"\r" not in file.read_bytes()
    assert {"$schema", "category", "scm_url"} <= set(entry) <= ENTRY_KEYS
    assert entry["$schema"] == SCHEMA
    assert entry["category"] in CATEGORIES
    assert re.fullmatch(r"(https|git)://[^\s/]+/[^\s/]+/Slicer[^\s/]+", entry["scm_url"])
    assert re.fullmatch(r"main|\d+\.\d+", entry["scm_revision"])  # a branch, no hash
    assert isinstance(entry["tier"], int)
    assert 1 <= entry["tier"] <= 5
    assert all(isinstance(name, str) for name in entry["build_dependencies"])
    assert entry["build_subdirectory"] == "."
    assert entry.get("scm_type", "git") == "git"


def test_the_projects_name_is_that_of_the_entry_and_the_repository_is_small(repository):
    text = (repository / "CMakeLists.txt").read_text(encoding="utf-8")
    (project,) = re.findall(r"^project\((\w+)\)$", text, flags=re.MULTILINE)
    assert (repository / "docs" / "extensions_index" / f"{project}.json").is_file()
    assert not project.startswith("Slicer")
    assert (repository / "LICENSE").is_file()
    for needed in ("find_package(Slicer REQUIRED)", "include(${Slicer_USE_FILE})", "## NEXT_MODULE"):
        assert needed in text
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, check=False).stdout
    files = [repository / os.fsdecode(name) for name in listed.split(b"\0") if name]
    assert sum(file.stat().st_size for file in files if file.is_file()) < 100_000_000


def test_pictures_of_the_documentation_are_there_and_small(repository):
    """In Markdown of the repository: every picture exists; those of the panel are small enough to be many."""
    pages = [*repository.glob("*.md"), *(repository / "docs").rglob("*.md")]
    named = {
        (page.parent / target).resolve()
        for page in pages
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if "://" not in target
    }
    assert [str(path) for path in named if not path.is_file()] == []
    panel = list((repository / "docs" / "pictures" / "panel").glob("*.png"))
    assert panel
    assert [path.name for path in panel if path.stat().st_size > 150_000] == []
    assert [path.name for path in panel if path.resolve() not in named] == []


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
