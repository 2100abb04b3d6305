"""Fixtures for tests on the host; loaded in the child process of isolation.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from Testing.host import start

if TYPE_CHECKING:
    from Testing.host.host import Host


def pytest_configure() -> None:
    start()  # test files import slicer, qt and ctk at their head


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """The running host with an empty scene; at the end nothing may have been swallowed, see failures.py."""
    running = start()
    for marker, wanted in (("stand_ins_only", False), ("real_sources_only", True)):
        if request.node.get_closest_marker(marker) and running.using_real_sources is not wanted:
            pytest.skip(
                f"marked {marker}; SLICER_PYTHON_SOURCES is {'set' if running.using_real_sources else 'not set'}"
            )
    running.reset()
    running.failures.forget()
    yield running
    left = str(running.failures)
    running.reset()
    left = str(running.failures) or left
    running.failures.forget()
    if left:
        pytest.fail(f"went wrong without reaching the test:\n{left}", pytrace=False)


@pytest.fixture
def a_panel(host: Host) -> Any:
    """Our module, loaded and shown: the Python widget."""
    host.load_module()
    return host.enter("MambaSegment")
