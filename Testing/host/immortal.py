"""Makes None, True and False immortal in Python 3.11, as they are since 3.12.

The wheels of PySide6 6.12 serve both, but return these three without counting the reference, as 3.12 allows: in 3.11
each call of a method that returns None takes away one reference (measured: 100 calls, 100 references), until Python
ends with "deallocating None". Harmless to give far more than can be taken.
"""

from __future__ import annotations

import ctypes
import sys

_PLENTY = 1 << 40


def makeConstantsImmortal() -> None:
    """Call before the first use of Qt; does nothing from Python 3.12 on."""
    if sys.version_info < (3, 12):
        for constant in (None, True, False, NotImplemented, Ellipsis):
            ctypes.c_ssize_t.from_address(id(constant)).value += _PLENTY  # the count is the first field of an object
