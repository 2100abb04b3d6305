"""A stand-in for the Slicer application: real MRML and real Qt, with PythonQt's manners; see README.md.

`start()` may be called once a process, and changes PySide6's classes for good: tests get it through the fixture
`host` of pytest_plugin.py, which runs them in a process of their own.
"""

from Testing.host.host import Host, start

__all__ = ["Host", "start"]
