"""The variable SLICER_PYTHON_SOURCES puts Slicer's own Python modules in the stand-ins' place, or fails."""

import os
import subprocess
import sys

import pytest

ASK = """
from Testing.host import start
host = start()
import slicer, slicer.util, slicer.ScriptedLoadableModule, slicer.i18n
seen = (host.using_real_sources, slicer.ScriptedLoadableModule.ORIGIN, slicer.i18n.tr("text"), slicer.util.__file__)
print(*seen, sep="|")
host.end_process(0)
"""


def asked(repository, sources):
    return subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "PYTHONPATH": str(repository), "SLICER_PYTHON_SOURCES": str(sources)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def some_sources(tmp_path):
    """As Base/Python of a checkout; the contents are the test's own."""
    (tmp_path / "slicer").mkdir()
    (tmp_path / "slicer" / "ScriptedLoadableModule.py").write_text("ORIGIN = 'sources'\n", encoding="utf-8")
    (tmp_path / "slicer" / "i18n.py").write_text("def tr(text):\n    return text.upper()\n", encoding="utf-8")
    (tmp_path / "slicer" / "util.py").write_text("raise RuntimeError('that of slicer-core stays')\n", encoding="utf-8")
    return tmp_path


def test_the_modules_of_the_sources_are_used_and_util_stays(repository, some_sources):
    done = asked(repository, some_sources)
    assert done.returncode == 0, done.stderr
    real, origin, text, util = done.stdout.strip().split("|")
    assert (real, origin, text) == ("True", "sources", "TEXT")
    assert str(some_sources) not in util
    assert done.stderr.count(f"uses Slicer's own Python modules in {some_sources}") == 1


def test_a_wrong_folder_is_an_error(repository, tmp_path):
    done = asked(repository, tmp_path)
    assert done.returncode != 0
    assert "FileNotFoundError" in done.stderr
    assert str(tmp_path) in done.stderr


@pytest.mark.stand_ins_only
def test_without_the_variable_the_stand_ins_are_used(host, repository):
    import slicer.ScriptedLoadableModule

    assert not host.using_real_sources
    assert repository.joinpath("Testing") in type(repository)(slicer.ScriptedLoadableModule.__file__).parents
