"""What the set-up says when a system library is missing."""

from pathlib import Path

import pytest

from Testing import system_libraries


@pytest.fixture
def fonts(tmp_path: Path) -> Path:
    (tmp_path / "truetype").mkdir()
    (tmp_path / "truetype" / "a.ttf").write_bytes(b"")
    return tmp_path


def test_nothing_is_missing_when_the_loader_finds_all(fonts: Path) -> None:
    assert system_libraries.missing_packages(lambda _: True, fonts) == []


def test_the_package_of_a_missing_library_is_named(fonts: Path) -> None:
    assert system_libraries.missing_packages(lambda name: name != "libEGL.so.1", fonts) == ["libegl1"]


def test_a_computer_without_fonts_needs_one(tmp_path: Path) -> None:
    assert system_libraries.missing_packages(lambda _: True, tmp_path / "none") == ["fonts-dejavu-core"]


def test_a_library_that_does_not_exist_is_not_found() -> None:
    assert not system_libraries.is_there("libNoSuchThing.so.9")


def test_a_person_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(system_libraries.sys, "platform", "linux")
    monkeypatch.setattr(system_libraries, "missing_packages", lambda: ["libegl1"])
    assert system_libraries.main() == 2
    assert "apt-get install libegl1" in capsys.readouterr().err
