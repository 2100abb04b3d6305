"""Compiles the Triton kernels for a GPU that is not there: python -m Testing.library.kernels.triton_compile 90

Prints one line a kernel: its name and the bytes of machine code. Triton finds a driver only to launch.
"""

import sys

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from MambaSegmentLib.kernels import triton_kernels

CONSTANTS = {
    "STATES": 16, "ROWS": 16, "LANES": 32, "TILE": 16, "SEGMENTS": 32, "UNROLL": 4, "SOFTPLUS": True, "REVERSED": False,
    "IN_ORDER": True, "ACCUMULATE": False, "BACKWARDS": False, "HAS_INITIAL": False, "HAS_CARRIES": True,
    "HAS_LAST": False, "HAS_ADJOINTS": True, "HAS_D": True, "HAS_BIAS": True, "HAS_Z": True,
}  # fmt: skip
KERNELS = ("scan_summary", "scan_finish", "scan_combine", "scan_back_summary", "scan_back_finish")
SEQUENCES = ("u", "delta", "z", "dy", "y", "du", "ddelta", "dz", "B", "C")


def compiled(name: str, capability: int, pointer: str = "*bf16"):
    """One kernel as Triton's result, with the arguments of a channels-last network."""
    kernel = getattr(triton_kernels, name)
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.arg_names):
        if parameter in CONSTANTS:
            signature[parameter] = "constexpr"
            constants[parameter] = CONSTANTS[parameter]
        elif parameter.endswith(("_d", "_n")):  # channels and states are adjacent
            signature[parameter] = "constexpr"
            constants[parameter] = 1
        elif ("_" in parameter and parameter.split("_")[0] in SEQUENCES) or parameter in (
            "channels", "groups", "length", "chunks", "steps", "batches", "n1", "n2", "s0", "s1", "s2",
        ):  # fmt: skip
            signature[parameter] = "i32"
        else:
            signature[parameter] = pointer if parameter in SEQUENCES else "*fp32"
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    warps = 4 if name == "scan_combine" else 1
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})


if __name__ == "__main__":
    torch.manual_seed(0)
    for kernel_name in KERNELS:
        print(kernel_name, len(compiled(kernel_name, int(sys.argv[1])).asm["cubin"]))
