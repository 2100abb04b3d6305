"""A stand-in for the Slicer application: real MRML and real Qt, with PythonQt's manners; see README.md.

`start()` may be called once a process, and changes PySide6's classes for good: tests get it through the fixture
`host` of pytest_plugin.py, which runs them in a process of their own. Importing this package loads neither Qt nor VTK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from Testing.host.host import Host


def start() -> Host:
    """The host of this process, started at the first call."""
    from Testing.host import host

    return host.start()
