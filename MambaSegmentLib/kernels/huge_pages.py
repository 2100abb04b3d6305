"""Large results on large pages: a fresh tensor's memory is mapped page by page as it is first written.

With pages of 4 KB that takes a third of the time of a scan over a long sequence, and threads wait for each other there.
Linux maps 2 MB at a time if asked to; other systems, and Linux where it is switched off, go on as they were.
"""

import ctypes
import mmap

from torch import Tensor

_HUGE_PAGE_BYTES = 2 << 20
_ADVICE = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux alone has it
_advise = getattr(ctypes.CDLL(None, use_errno=True), "madvise", None) if _ADVICE is not None else None
if _advise is not None:
    _advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def on_huge_pages(tensor: Tensor) -> Tensor:
    """The same tensor, freshly allocated and not yet written; the whole large pages in it are asked for as such."""
    if _advise is not None:
        start = -(-tensor.data_ptr() // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
        end = (tensor.data_ptr() + tensor.untyped_storage().nbytes()) // _HUGE_PAGE_BYTES * _HUGE_PAGE_BYTES
        if end > start:
            _advise(start, end - start, _ADVICE)  # an error means that there are none, which is no fault
    return tensor
