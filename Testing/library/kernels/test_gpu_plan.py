"""How a scan is cut for a GPU."""

from hypothesis import given
from hypothesis import strategies as st

from MambaSegmentLib.kernels.gpu_plan import SHORTEST_CHUNK, TILE, ChunkPlan, plan_chunks

PROCESSORS = 132


def test_many_channels_need_no_cut_and_few_do():
    assert plan_chunks(32, 768, 1, 4096, PROCESSORS) == ChunkPlan(4096, 1)  # 768 warps are enough
    assert plan_chunks(1, 64, 1, 100_000, PROCESSORS) == ChunkPlan(64, 1563)  # 2 warps a chunk, 1584 chunks wanted
    assert plan_chunks(1, 64, 1, 2_000_000, PROCESSORS) == ChunkPlan(1264, 1583)
    assert plan_chunks(1, 768, 1, 16_384, PROCESSORS) == ChunkPlan(128, 128)


def test_a_short_sequence_is_never_cut():
    assert plan_chunks(1, 32, 1, 64, PROCESSORS).chunks == 1
    assert plan_chunks(1, 32, 1, 1, PROCESSORS) == ChunkPlan(TILE, 1)


@given(
    batch=st.integers(1, 64), width=st.integers(1, 300), groups=st.integers(1, 8), length=st.integers(1, 3_000_000),
    processors=st.integers(1, 200),
)  # fmt: skip
def test_chunks_cover_the_sequence_once_in_whole_tiles(batch, width, groups, length, processors):
    plan = plan_chunks(batch, width * groups, groups, length, processors)
    assert plan.steps % TILE == 0
    assert (plan.chunks - 1) * plan.steps < length <= plan.chunks * plan.steps
    assert plan.chunks == 1 or plan.steps >= SHORTEST_CHUNK
