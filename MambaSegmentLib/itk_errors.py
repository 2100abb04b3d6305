"""SimpleITK without its noise: C++ warnings silenced, exceptions turned into ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import MambaSegmentError, ResourceError


@contextmanager
def itk_errors_as(error: type[MambaSegmentError], what: str, advice: str = "") -> Iterator[None]:
    """Run SimpleITK silently; its exceptions become `error` with the one line of them that a user can use.

    Args:
        what: could not be done, the beginning of the message.
        advice: its end, if ITK's line says nothing of the kind.
    """
    import SimpleITK as sitk  # noqa: N813

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except RuntimeError as problem:
        text = str(problem)
        if "allocate memory" in text or "bad_alloc" in text or "bad allocation" in text:
            raise ResourceError(f"{what}: not enough memory; close other programs or use a smaller image") from problem
        raise error(f"{what}: {_last_line(text)}{advice and f'; {advice}'}") from problem
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _last_line(text: str) -> str:
    """ITK's message without its source positions: the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[-1] if lines else "unknown reason"
    if "Unable to determine ImageIO reader" in line:
        return "it is damaged or of an unknown format; NIfTI, NRRD, MetaImage and DICOM are understood"
    line = line.removeprefix("sitk::ERROR:").removeprefix("ITK ERROR:").strip()
    return re.sub(r"^\w+\(0x[0-9a-f]+\): ", "", line)  # which object of ITK complains
