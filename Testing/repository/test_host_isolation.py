"""Tests on the stand-in host run in a process of their own, whose death is one failure and not the end.

Here, and not among the host's own tests, since these files are collected by a pytest that the tests start.
"""

import os
import subprocess
import sys

import pytest

from Testing.host.system_libraries import explanation

FILES = {  # two processes are started: the second after test_dies, and none after the last
    "good": """
import qt

def test_good(host):
    assert qt.QPushButton("x").text == "x"
""",
    "swallows": """
import qt

def test_swallows(host):
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
""",
    "skips": """
import pytest

@pytest.mark.slow
def test_skips():
    pytest.skip("for this reason")

@pytest.mark.xfail(reason="known", strict=True)
def test_known():
    assert False
""",
    "broken": "import nothing_of_this_name",
    "dies": """
import os

def test_dies(host):
    os.abort()

def test_after(host):
    pass
""",
    "hangs": """
import qt

def test_hangs(host):
    qt.QDialog().exec_()
""",
}
LIMIT_S = 2


@pytest.fixture(scope="module")
def outcome(repository):
    """Run all of the files at once; the text that pytest printed."""
    folder = repository / "Testing" / "host" / "tests"
    written = [folder / f"test_tmp_{os.getpid()}_{name}.py" for name in FILES]
    try:
        for file, text in zip(written, FILES.values(), strict=True):
            file.write_text(text, encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MAMBASEGMENT_HOST")}
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-v",
                "-p",
                "no:cacheprovider",
                "--continue-on-collection-errors",
                *map(str, written),
            ],
            env={**environment, "MAMBASEGMENT_HOST_TEST_LIMIT_S": str(LIMIT_S)},
            capture_output=True,
            encoding="utf-8",
            cwd=repository,
            check=False,
        )
    finally:
        for file in written:
            file.unlink(missing_ok=True)
    return done.stdout


def test_a_good_test_passes(outcome):
    assert "::test_good PASSED" in outcome


def test_skipped_and_expected_failures_are_told_as_such(outcome):
    assert "::test_skips SKIPPED" in outcome
    assert "for this reason" in outcome.partition("short test summary")[2]
    assert "::test_known XFAIL" in outcome


def test_a_process_that_dies_fails_its_test_and_the_next_one_runs(outcome):
    assert "::test_dies FAILED" in outcome
    assert "exit code -6" in outcome or os.name == "nt"
    assert "::test_after PASSED" in outcome


def test_a_modal_dialog_that_nobody_answers_ends_after_the_limit_and_says_where(outcome):
    assert "::test_hangs FAILED" in outcome
    assert "Timeout" in outcome
    assert "in test_hangs" in outcome


def test_an_exception_in_a_handler_fails_the_test_at_its_end(outcome):
    assert "::test_swallows PASSED" in outcome
    assert "::test_swallows ERROR" in outcome
    assert "ZeroDivisionError" in outcome


def test_a_file_that_cannot_be_imported_is_a_collection_error_of_its_own(outcome):
    assert "nothing_of_this_name" in outcome
    assert "1 error during collection" not in outcome


def test_the_mode_is_printed(outcome):
    assert "\nstand-in Slicer host: uses " in outcome


def test_the_parent_loads_neither_qt_nor_vtk():
    script = "import sys, Testing.host.isolation; print([m for m in ('PySide6', 'vtk', 'slicer') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ("libEGL.so.1: cannot open shared object file: No such file or directory", "install libegl1"),
        ("libxkbcommon.so.0: cannot open shared object file", "install libxkbcommon0"),
        ("libsomething.so.4: cannot open shared object file", "install libegl1 libgl1 libxkbcommon0"),
    ],
)
def test_a_missing_system_library_is_named_with_its_package(message, command):
    assert command in explanation(message)
