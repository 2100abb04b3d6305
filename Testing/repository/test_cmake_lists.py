"""The CMake lists name every file: one that is forgotten is missing only in the packaged extension."""

import re
from pathlib import Path, PurePosixPath

import pytest

SCRIPTS_OF = {"MambaSegment": "MODULE_PYTHON_SCRIPTS", "MambaSegmentLib": "LIBRARY_PYTHON_SCRIPTS"}
RESOURCES_OF = {"MambaSegment": "MODULE_PYTHON_RESOURCES", "MambaSegmentLib": "LIBRARY_PYTHON_RESOURCES"}
NOT_SHIPPED = {"CMakeLists.txt", "README.md", "py.typed"}  # for developers only


def listed(folder: Path, variable: str) -> list[str]:
    """The entries of `set(variable …)` in the folder's CMakeLists.txt."""
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    match = re.search(rf"set\(\s*{variable}\b([^)]*)\)", text)
    assert match, f"{folder.name}/CMakeLists.txt has no set({variable} …)"
    return re.sub(r"#[^\n]*", "", match.group(1)).split()


def on_disk(folder: Path) -> set[str]:
    """Every file of the folder that the extension needs, relative, with forward slashes."""
    files = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return {
        file.as_posix()
        for file in files
        if file.name not in NOT_SHIPPED
        and not any(part == "__pycache__" or part.startswith(".") for part in file.parts)
    }


def differences(folder: Path, variable: str, expected: set[str]) -> str:
    """What to change in a list so that it names what is expected; empty when nothing is."""
    entries = listed(folder, variable)
    twice = {entry for entry in entries if entries.count(entry) > 1}
    parts = [("add", expected - set(entries)), ("remove", set(entries) - expected), ("name only once", twice)]
    return "".join(
        f"\n{folder.name}/CMakeLists.txt, set({variable} …), {what}:\n"
        + "\n".join(f"  {line}" for line in sorted(lines))
        for what, lines in parts
        if lines
    )


@pytest.mark.parametrize("name", SCRIPTS_OF)
def test_every_script_is_listed(repository, name):
    folder = repository / name
    scripts = {file for file in on_disk(folder) if file.endswith(".py")}
    message = differences(folder, SCRIPTS_OF[name], scripts)
    assert not message, message


@pytest.mark.parametrize("name", RESOURCES_OF)
def test_every_resource_is_listed(repository, name):
    folder = repository / name
    resources = {file for file in on_disk(folder) if not file.endswith(".py")}
    message = differences(folder, RESOURCES_OF[name], resources)
    assert not message, message


def test_only_the_module_itself_lies_loose(repository):
    """Slicer takes every .py file directly in the module's folder for a module."""
    assert [file.name for file in (repository / "MambaSegment").glob("*.py")] == ["MambaSegment.py"]


def test_every_folder_of_the_library_is_a_package(repository):
    library = repository / "MambaSegmentLib"
    folders = {str(PurePosixPath(file).parent) for file in on_disk(library) if file.endswith(".py")}
    assert [folder for folder in sorted(folders) if not (library / folder / "__init__.py").is_file()] == []


def test_a_forgotten_file_is_named_as_the_line_to_add(tmp_path):
    (tmp_path / "CMakeLists.txt").write_text("set(X\n  a.py # why\n  gone.py\n  )\n", encoding="utf-8")
    message = differences(tmp_path, "X", {"a.py", "deep/b.py"})
    assert "add:\n  deep/b.py" in message
    assert "remove:\n  gone.py" in message
