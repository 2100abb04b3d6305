"""Which versions of PyTorch may open foreign files."""

import re

from ..errors import BundleError

OLDEST_SAFE = (2, 10)


def require_safe_torch(version: str | None = None) -> None:
    """Refuse versions whose restricted loader can be broken out of (CVE-2026-24747, mended in 2.10).

    Args:
        version: as torch.__version__ says; None asks the installed one.
    Raises:
        BundleError: too old.
    """
    if version is None:
        import torch

        version = str(torch.__version__)
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_SAFE:
        raise BundleError(
            f"PyTorch {version} is too old to open foreign files: a file can break out of its restricted loader "
            "(CVE-2026-24747). Upgrade with `pip install --upgrade 'torch>=2.10'` (in Slicer: the PyTorch extension), "
            "or import a .safetensors file, which any version reads safely"
        )
