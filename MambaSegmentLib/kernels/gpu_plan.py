"""How a scan is cut into chunks for a GPU, from its shape alone.

A GPU is kept busy by warps: 32 channels of one chunk each. Where the channels alone give too few of them, the sequence
is cut, at a price: the state that enters a chunk is known only after a first walk over all chunks.

The cost model, in units of one walk over the sequence at full speed:

    one chunk           1 x max(1, full / warps)       warps = batch x blocks of 32 channels
    several chunks      2                              a walk for the summaries, a walk for the result

so the sequence is cut when the channels give less than half of the warps that fill the chip. What a walk costs is
counted in docs/scan_gpu.md. The numbers below were chosen from that arithmetic and the compiler's register counts; no
GPU has confirmed them yet.
"""

import math
from dataclasses import dataclass

LANES = 32  # channels of a warp; as in cuda_source/scan_common.cu
TILE = 16  # steps of a tile; chunks are whole tiles, but for the last one
FULL_WARPS = 8  # a multiprocessor: two for each of its four schedulers, as 16 states are 16 independent chains
WANTED_WARPS = 24  # a multiprocessor, when the sequence is cut: two rounds of the 12 that are resident at once
SHORTEST_CHUNK = 64  # steps: what is kept between the walks is then at most a quarter of u


@dataclass(frozen=True)
class ChunkPlan:
    """Chunks of `steps` steps each (a multiple of TILE), the last one shorter."""

    steps: int
    chunks: int


def plan_chunks(batch: int, channels: int, groups: int, length: int, processors: int) -> ChunkPlan:
    """Cut a scan of (batch, channels, length) for a GPU of so many multiprocessors."""
    warps = batch * groups * math.ceil(channels // groups / LANES)
    whole = ChunkPlan(max(TILE, math.ceil(length / TILE) * TILE), 1)
    if 2 * warps >= FULL_WARPS * processors or length <= SHORTEST_CHUNK:
        return whole
    wanted = math.ceil(WANTED_WARPS * processors / warps)
    steps = max(SHORTEST_CHUNK, math.ceil(length / wanted / TILE) * TILE)
    return ChunkPlan(steps, math.ceil(length / steps))
