"""Scans through cuda_scan.py and NVIDIA's bindings with fake_driver.cpp as the driver, in a process of its own.

Fakes what PyTorch would say of a GPU: its stream and its capability.
"""

import os
import sys
import types

import torch

from MambaSegmentLib.kernels import backends, cuda_driver, cuda_scan, cuda_source_text
from Testing.library.kernels import cuda_on_cpu
from Testing.library.kernels.test_selective_scan import assert_same, run, scan_inputs


def code_of(backward, on_fma=0, states=4, sequence=torch.float32, out=torch.float32, grouped=torch.float32):
    text = cuda_source_text.joined(cuda_source_text.BACKWARD if backward else cuda_source_text.FORWARD)
    return cuda_driver.compiled(text, 90, cuda_scan.macros_of(states, sequence, out, grouped, on_fma))


def module_on_the_fake(backward, on_fma, device, states, sequence, out, grouped):
    names = [cuda_on_cpu.TYPE_NAMES[dtype] for dtype in (sequence, out, grouped)]
    os.environ["LAUNCHES_WITH"] = cuda_on_cpu.library(states, on_fma, *names)._name
    code = code_of(backward, on_fma, states, sequence, out, grouped)
    return cuda_driver.Module(code, torch.device("cuda", 0))


def main():
    if "--compile" in sys.argv:  # NVRTC itself talks to a driver if one is there, and not to a fake: so before, without
        return [code_of(backward) for backward in (False, True)] and None
    torch.cuda.current_stream = lambda device: types.SimpleNamespace(cuda_stream=0x77)
    cuda_scan._module = module_on_the_fake
    row = backends.BACKENDS["cuda"]
    backends.BACKENDS["cuda"] = backends.Backend(row.module, lambda: (True, "fake"), ("cpu",), row.dtypes, 64)
    inputs = scan_inputs(batch=2, channels=40, length=200, states=4)
    assert_same(run(inputs, "cuda", torch.float32), run(inputs, "reference", torch.float64), 2e-6)
    print("launched and right")
    try:
        cuda_driver._primary_context(1)
    except RuntimeError as error:
        print(error)


if __name__ == "__main__":
    sys.exit(main())
