"""A stand-in for the Slicer application: real MRML and real Qt, with PythonQt's manners; see README.md.

`start()` may be called once a process, and changes PySide6's classes for good: tests get it through the fixture
`host` of pytest_plugin.py, which runs them in a process of their own. Importing this package loads neither Qt nor VTK.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from Testing.host.immortal import makeConstantsImmortal
from Testing.host.system_libraries import importingQt

if TYPE_CHECKING:
    from Testing.host.host import Host


def start() -> Host:
    """The host of this process, started at the first call.

    Raises: ImportError, which names the package or the system library that is missing.
    """
    # PySide6 reads these when it is imported
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ["PYSIDE6_OPTION_PYTHON_ENUM"] = "0x03"  # enum members are int, as in Qt 5
    makeConstantsImmortal()
    with importingQt():
        from Testing.host import host
    return host.theHost()
