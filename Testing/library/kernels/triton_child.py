"""The Triton kernels in Triton's interpreter, in a process of its own: it is chosen before triton is imported.

Prints a JSON object: for each case the largest error of each value, relative to the largest value.
"""

import json

import torch

from MambaSegmentLib.kernels import all_directions
from MambaSegmentLib.kernels import gpu_passes as passes
from MambaSegmentLib.kernels.gpu_plan import ChunkPlan
from Testing.library.kernels import test_directions
from Testing.library.kernels.test_selective_scan import run, scan_inputs

# what is small here is slow there: the interpreter takes a millisecond for ten steps of one state
CASES = {
    "one chunk, two batches": (0, {"batch": 2, "length": 18, "channels": 3, "states": 1}, ()),
    "chunks, two blocks": (16, {"length": 37, "channels": 34, "states": 1}, ()),
    "groups, contiguous": (16, {"length": 20, "channels": 4, "groups": 2, "states": 2, "layout": "contiguous"}, ()),
    "strided": (0, {"length": 17, "channels": 3, "states": 3, "layout": "strided"}, ()),
    "one step": (0, {"length": 1, "channels": 3, "states": 2}, ()),
    "nothing optional": (16, {"length": 20, "channels": 2, "states": 2}, ("D", "z", "delta_bias", "initial_state")),
}


def cut_every(steps):
    """Replace the plan: chunks of so many steps, or one for 0."""

    def plan(batch, channels, groups, length, processors):
        each = steps or -(-length // 16) * 16
        return ChunkPlan(each, -(-length // each))

    passes.plan_chunks = plan


def errors(actual, expected):
    def error(name):
        difference = (actual[name].double() - expected[name].double()).abs().max()
        return float(difference / (expected[name].abs().max() + 1e-30))

    return {name: error(name) for name in expected}


def main():
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN: what a kernel forgets to write shows
    found = {}
    for name, (steps, sizes, absent) in CASES.items():
        cut_every(steps)
        inputs = {key: tensor for key, tensor in scan_inputs(**sizes).items() if key not in absent}
        found[name] = errors(run(inputs, "triton", torch.float32), run(inputs, "reference", torch.float64))

    cut_every(64)
    rounded = {key: tensor.bfloat16().double() for key, tensor in scan_inputs(length=150, states=16).items()}
    with torch.no_grad():
        results = [forward(rounded, *how) for how in (("triton", torch.bfloat16), ("reference", torch.float64))]
    found["half precision"] = errors(*results)

    cut_every(16)
    inputs = test_directions.inputs_for(all_directions(2), channels=2, states=1, batch=1)
    four = [
        test_directions.run(inputs, all_directions(2), *how)
        for how in (("triton", torch.float32), ("reference", torch.float64))
    ]
    found["four directions"] = errors(*four)
    print(json.dumps(found))


def forward(inputs, backend, dtype):
    from MambaSegmentLib.kernels import selective_scan

    cast = {key: tensor.to(dtype) for key, tensor in inputs.items()}
    y, state = selective_scan(**cast, delta_softplus=True, return_last_state=True, backend=backend)
    return {"y": y, "state": state}


if __name__ == "__main__":
    main()
