"""Fixtures that every test may use."""

from pathlib import Path

import pytest
from hypothesis import settings

from MambaSegmentLib.openmp import let_waiting_threads_sleep
from Testing.host.isolation import Isolation

let_waiting_threads_sleep()  # before torch is imported: two parts of the tests run side by side

# No example may fail for being slow: a busy machine is no mistake of the code.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """The tests of the Slicer module run on the stand-in host, in a process of its own."""
    Isolation.install(config)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference vectors and real images that lie beside a developer's checkout, not inside it."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "reference").is_dir():
        pytest.skip(f"needs the developers' reference data in {folder}, which is not part of the project")
    return folder
