"""The inner loops of the scan over one tile: LANES channels side by side, time step after time step.

A tile is a contiguous float32 array (time, LANES). Pointers are addresses (`array.ctypes.data`), strides in elements.
One call handles one state n over the whole tile: the loop needs few registers whatever the number of states, and the
exponentials of the next steps overlap with the recurrence of this one.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .numba_simd import LANES, Lanes


def _integers(count: int):
    return types.void(*([types.int64] * count))


def _constant(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


@intrinsic
def move_rows(_typing, source, source_stride, target, target_stride, rows):
    """Copy `rows` rows of LANES contiguous floats."""

    def codegen(context, builder, _signature, arguments):
        source, source_stride, target, target_stride, rows = arguments
        lanes = Lanes(builder)
        with cgutils.for_range(builder, rows) as loop:
            row = lanes.load(lanes.offset(source, builder.mul(loop.index, source_stride)))
            lanes.store(lanes.offset(target, builder.mul(loop.index, target_stride)), row)
        return context.get_dummy_value()

    return _integers(5), codegen


@intrinsic
def transpose_squares(_typing, source, source_row, source_square, target, target_row, target_square, squares):
    """Transpose `squares` squares of LANES x LANES floats; each side has a row stride and a stride between squares."""

    def codegen(context, builder, _signature, arguments):
        source, source_row, source_square, target, target_row, target_square, squares = arguments
        lanes = Lanes(builder)

        def address(base, row_stride, square_stride, square, row):
            start = builder.add(builder.mul(square, square_stride), builder.mul(_constant(row), row_stride))
            return lanes.offset(base, start)

        with cgutils.for_range(builder, squares) as loop:
            rows = [lanes.load(address(source, source_row, source_square, loop.index, row)) for row in range(LANES)]
            for row, column in enumerate(lanes.transpose(rows)):
                lanes.store(address(target, target_row, target_square, loop.index, row), column)
        return context.get_dummy_value()

    return _integers(7), codegen


def _applied_to_rows(operation):
    """Code for target = operation(source + bias), row by row; bias is one row."""

    def codegen(context, builder, _signature, arguments):
        source, bias, target, rows = arguments
        lanes = Lanes(builder)
        bias_row = lanes.load(bias)
        with cgutils.for_range(builder, rows) as loop:
            x = lanes.add(lanes.load(lanes.row(source, loop.index)), bias_row)
            lanes.store(lanes.row(target, loop.index), operation(lanes, x))
        return context.get_dummy_value()

    return codegen


@intrinsic
def softplus_rows(_typing, source, bias, target, rows):
    """target = log(1 + exp(source + bias)); bias is one row."""
    return _integers(4), _applied_to_rows(Lanes.softplus)


@intrinsic
def sigmoid_rows(_typing, source, bias, target, rows):
    """target = 1 / (1 + exp(-(source + bias))); bias is one row."""
    return _integers(4), _applied_to_rows(Lanes.sigmoid)


@intrinsic
def forward_state(_typing, step, drive, y, a_log2, state, b, b_stride, c, c_stride, rows):
    """s = exp(step A) s + drive B;  y += s C, for one state of LANES channels.

    `a_log2` and `state` are one row each (A times log2 e); `state` is read and left at its last value. `b` and `c` are
    one float a time step.
    """

    def codegen(context, builder, _signature, arguments):
        step, drive, y, a_log2, state, b, b_stride, c, c_stride, rows = arguments
        lanes = Lanes(builder)
        a = lanes.load(a_log2)
        slot = cgutils.alloca_once_value(builder, lanes.load(state))
        with cgutils.for_range(builder, rows) as loop:
            t = loop.index
            decay = lanes.decay(lanes.load(lanes.row(step, t)), a)
            b_t = lanes.broadcast(lanes.offset(b, builder.mul(t, b_stride)))
            c_t = lanes.broadcast(lanes.offset(c, builder.mul(t, c_stride)))
            inflow = lanes.mul(lanes.load(lanes.row(drive, t)), b_t)
            s = lanes.fma(decay, builder.load(slot), inflow)
            builder.store(s, slot)
            lanes.accumulate(lanes.row(y, t), s, c_t)
        lanes.store(state, builder.load(slot))
        return context.get_dummy_value()

    return _integers(10), codegen


@intrinsic
def replay_state(_typing, step, drive, y, a_log2, state, b, b_stride, c, c_stride, decays, states, rows):
    """forward_state once more, keeping exp(step A) of each step and the state BEFORE each step for the way back.

    `states` has one row more than there are steps: the last one is the state after the tile.
    """

    def codegen(context, builder, _signature, arguments):
        step, drive, y, a_log2, state, b, b_stride, c, c_stride, decays, states, rows = arguments
        lanes = Lanes(builder)
        a = lanes.load(a_log2)
        slot = cgutils.alloca_once_value(builder, lanes.load(state))
        with cgutils.for_range(builder, rows) as loop:
            t = loop.index
            decay = lanes.decay(lanes.load(lanes.row(step, t)), a)
            before = builder.load(slot)
            lanes.store(lanes.row(decays, t), decay)
            lanes.store(lanes.row(states, t), before)
            b_t = lanes.broadcast(lanes.offset(b, builder.mul(t, b_stride)))
            c_t = lanes.broadcast(lanes.offset(c, builder.mul(t, c_stride)))
            s = lanes.fma(decay, before, lanes.mul(lanes.load(lanes.row(drive, t)), b_t))
            builder.store(s, slot)
            lanes.accumulate(lanes.row(y, t), s, c_t)
        lanes.store(lanes.row(states, rows), builder.load(slot))
        return context.get_dummy_value()

    return _integers(12), codegen


@intrinsic
def backward_state(
    _typing,
    step,
    drive,
    dy,
    a_log2,
    adjoint,
    b,
    b_stride,
    c,
    c_stride,
    decays,
    states,
    d_step,
    d_drive,
    d_a,
    d_b,
    d_c,
    rows,
):
    """The adjoint of forward_state, from the last step to the first.

    `adjoint` is one row: the derivative by the state after the tile on entry, before the tile on return. Added up in
    place: d_step (per log2 e: the caller multiplies by ln 2), d_drive, and the row d_a. `d_b`, `d_c` receive one row a
    step; the caller sums over its lanes, since B and C are shared by all channels.
    """

    def codegen(context, builder, _signature, arguments):
        (
            step,
            drive,
            dy,
            a_log2,
            adjoint,
            b,
            b_stride,
            c,
            c_stride,
            decays,
            states,
            d_step,
            d_drive,
            d_a,
            d_b,
            d_c,
            rows,
        ) = arguments
        lanes = Lanes(builder)
        a = lanes.load(a_log2)
        g_slot = cgutils.alloca_once_value(builder, lanes.load(adjoint))
        s_slot = cgutils.alloca_once_value(builder, lanes.load(lanes.row(states, rows)))
        d_a_slot = cgutils.alloca_once_value(builder, lanes.load(d_a))
        with cgutils.for_range(builder, rows) as loop:
            t = builder.sub(builder.sub(rows, _constant(1)), loop.index)
            dy_t = lanes.load(lanes.row(dy, t))
            b_t = lanes.broadcast(lanes.offset(b, builder.mul(t, b_stride)))
            c_t = lanes.broadcast(lanes.offset(c, builder.mul(t, c_stride)))
            before = lanes.load(lanes.row(states, t))
            lanes.store(lanes.row(d_c, t), lanes.mul(dy_t, builder.load(s_slot)))
            g = lanes.fma(dy_t, c_t, builder.load(g_slot))  # derivative by the state after step t
            lanes.store(lanes.row(d_b, t), lanes.mul(g, lanes.load(lanes.row(drive, t))))
            lanes.accumulate(lanes.row(d_drive, t), g, b_t)
            carried = lanes.mul(g, lanes.load(lanes.row(decays, t)))
            by_exponent = lanes.mul(carried, before)
            lanes.accumulate(lanes.row(d_step, t), by_exponent, a)
            d_a_now = lanes.fma(by_exponent, lanes.load(lanes.row(step, t)), builder.load(d_a_slot))
            builder.store(d_a_now, d_a_slot)
            builder.store(carried, g_slot)
            builder.store(before, s_slot)
        lanes.store(adjoint, builder.load(g_slot))
        lanes.store(d_a, builder.load(d_a_slot))
        return context.get_dummy_value()

    return _integers(17), codegen


@intrinsic
def add_lane_sums(_typing, rows, target, squares):
    """target[t] += sum over the lanes of row t; target is contiguous in t, `squares` counts blocks of LANES steps."""

    def codegen(context, builder, _signature, arguments):
        rows, target, squares = arguments
        lanes = Lanes(builder)
        with cgutils.for_range(builder, squares) as loop:
            start = builder.mul(loop.index, _constant(LANES))
            vectors = [lanes.load(lanes.row(rows, builder.add(start, _constant(row)))) for row in range(LANES)]
            width = 1
            while len(vectors) > 1:  # fold halves: after log2(LANES) rounds lane t holds the sum of row t
                pairs = [
                    lanes.interleave(even, odd, width) for even, odd in zip(vectors[::2], vectors[1::2], strict=True)
                ]
                vectors = [lanes.add(low, high) for low, high in pairs]
                width *= 2
            address = lanes.offset(target, start)
            lanes.store(address, lanes.add(lanes.load(address), vectors[0]))
        return context.get_dummy_value()

    return _integers(3), codegen
