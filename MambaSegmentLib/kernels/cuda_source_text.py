"""The text of the CUDA kernels, as it is compiled."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "cuda_source"
FORWARD = ("intrinsics.cu", "scan_common.cu", "scan_forward.cu", "scan_combine.cu")
EXPONENTIALS_ON_FMA = 0  # of 16: computed by a polynomial beside the special-function units; unmeasured, so none
BACKWARD = ("intrinsics.cu", "scan_common.cu", "scan_backward.cu")


def part(name: str) -> str:
    """One file."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def joined(names: tuple[str, ...]) -> str:
    """Several files as one text: the run-time compiler then needs no search path."""
    return "\n".join(part(name) for name in names)
