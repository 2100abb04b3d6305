"""What no scan on this GPU can be faster than: copying its memory, and its exponentials; both measured."""

from typing import Any

import torch

from .gpu_timing import median_ms

_EXPONENTIALS = """
struct Parameters { unsigned long long out; int rounds; };
extern "C" __global__ void exponentials(const Parameters p) {
  float x[8];
  for (int i = 0; i < 8; i++) x[i] = -0.001f * (threadIdx.x + i);
  for (int r = 0; r < p.rounds; r++) {
#pragma unroll
    for (int i = 0; i < 8; i++) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[i]));
  }
  float sum = 0.0f;
  for (int i = 0; i < 8; i++) sum += x[i];
  ((float*)p.out)[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
"""
_ROUNDS, _THREADS, _BLOCKS_PER_PROCESSOR = 4096, 512, 4


def measure(device: torch.device, copy_bytes: int) -> dict[str, Any]:
    """bytes_per_s of a copy (read plus written), exponentials_per_s (None, and why, if not measured)."""
    source = torch.randn(copy_bytes // 4, device=device)
    target = torch.empty_like(source)
    copied = median_ms([lambda: target.copy_(source)], device)
    result: dict[str, Any] = {"bytes_per_s": 2 * copy_bytes / (copied["median_ms"] * 1e-3), "copy": copied}
    try:
        result["exponentials_per_s"] = _exponentials_per_s(device)
    except Exception as error:  # whatever it is, the other numbers are still worth having
        result["exponentials_per_s"], result["exponentials_reason"] = None, f"{type(error).__name__}: {error}"
    return result


def _exponentials_per_s(device: torch.device) -> float:
    if device.type != "cuda":
        raise RuntimeError("no GPU here")
    import ctypes

    from MambaSegmentLib.kernels import cuda_driver

    class Parameters(ctypes.Structure):
        _fields_ = [("out", ctypes.c_uint64), ("rounds", ctypes.c_int)]

    facts = torch.cuda.get_device_properties(device)
    module = cuda_driver.Module(cuda_driver.compiled(_EXPONENTIALS, 10 * facts.major + facts.minor, ()), device)
    blocks = _BLOCKS_PER_PROCESSOR * facts.multi_processor_count
    out = torch.empty(blocks * _THREADS, device=device)
    parameters = Parameters(out.data_ptr(), _ROUNDS)
    timed = median_ms([lambda: module.launch("exponentials", blocks, (_THREADS, 1), parameters)], device)
    return blocks * _THREADS * _ROUNDS * 8 / (timed["median_ms"] * 1e-3)


def floor_ms(
    floors: dict[str, Any], batch: int, channels: int, length: int, states: int, bytes_each: int, tensors: int
) -> dict[str, float | None]:
    """The two floors of a walk over the sequence that reads and writes `tensors` of size (B, D, L), in milliseconds."""
    elements = batch * channels * length
    moved = (elements * tensors + 2 * batch * states * length) * bytes_each
    rate = floors["exponentials_per_s"]
    return {
        "memory_floor_ms": 1e3 * moved / floors["bytes_per_s"],
        "exponential_floor_ms": None if rate is None else 1e3 * elements * states / rate,
    }
