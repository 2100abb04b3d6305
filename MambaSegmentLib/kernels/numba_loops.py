"""The inner loops of the scan over one tile: LANES channels side by side, time step after time step.

A tile is a contiguous float32 array (time, LANES), B and C of a tile too: a row holds LANES states. Pointers are
addresses (`array.ctypes.data`). `by_row` is the distance in bytes from one step's row to the next one's, negative for a
direction that runs backwards through memory; pointers to tiles then point to their last row.
The forward loop takes STATES states through the whole tile at once: enough to read each step's inputs and add to its
output once for all of them, few enough to stay in registers. The backward loop takes one.
"""

from numba.core import cgutils
from numba.extending import intrinsic

from .numba_simd import LANES, Lanes, constant, integers, processor_features

STATES = 8 if "avx512f" in processor_features() else 2  # 32 registers of 16 lanes, or the equivalent of 8
LN_2 = 0.6931471805599453


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

    return integers(5), codegen


@intrinsic
def transpose_squares(_typing, source, source_row, source_square, target, target_row, target_square, squares):
    """Transpose `squares` squares of LANES x LANES floats; each side has a row stride and a stride between squares."""

    def codegen(context, builder, _signature, arguments):
        source, source_row, source_square, target, target_row, target_square, squares = arguments
        lanes = Lanes(builder)

        def address(base, row_stride, square_stride, square, row):
            start = builder.add(builder.mul(square, square_stride), builder.mul(constant(row), row_stride))
            return lanes.offset(base, start)

        with cgutils.for_range(builder, squares) as loop:
            rows = [lanes.load(address(source, source_row, source_square, loop.index, row)) for row in range(LANES)]
            for row, column in enumerate(lanes.transpose(rows)):
                lanes.store(address(target, target_row, target_square, loop.index, row), column)
        return context.get_dummy_value()

    return integers(7), codegen


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
def sigmoid_rows(_typing, source, bias, target, rows):
    """target = 1 / (1 + exp(-(source + bias))); bias is one row."""
    return integers(4), _applied_to_rows(Lanes.sigmoid)


@intrinsic
def prepare_rows(_typing, raw, raw_by_row, x, x_by_row, bias, d, step, drive, out, total, rows):
    """Without softplus: see _prepare."""
    return integers(11), _prepare(lambda _lanes, value: value)


@intrinsic
def prepare_rows_softplus(_typing, raw, raw_by_row, x, x_by_row, bias, d, step, drive, out, total, rows):
    """step = log(1 + exp(raw + bias)): see _prepare."""
    return integers(11), _prepare(Lanes.softplus)


def _prepare(activation):
    """Code for step = activation(raw + bias), drive = step x, out = d x; the steps are added up in the row `total`.

    `raw_by_row`, `x_by_row`: bytes between rows.
    """

    def codegen(context, builder, _signature, arguments):
        raw, raw_by_row, x, x_by_row, bias, d, step, drive, out, total, rows = arguments
        lanes = Lanes(builder)
        bias_row, d_row = lanes.load(bias), lanes.load(d)
        slot = cgutils.alloca_once_value(builder, lanes.load(total))
        with cgutils.for_range(builder, rows) as loop:
            raw_t = lanes.load(builder.add(raw, builder.mul(loop.index, raw_by_row)))
            x_t = lanes.load(builder.add(x, builder.mul(loop.index, x_by_row)))
            value = activation(lanes, lanes.add(raw_t, bias_row))
            lanes.store(lanes.row(step, loop.index), value)
            lanes.store(lanes.row(drive, loop.index), lanes.mul(value, x_t))
            lanes.store(lanes.row(out, loop.index), lanes.mul(d_row, x_t))
            builder.store(lanes.add(builder.load(slot), value), slot)
        lanes.store(total, builder.load(slot))
        return context.get_dummy_value()

    return codegen


@intrinsic
def gate_rows(_typing, z, z_by_row, out, target, target_by_row, rows):
    """target = out z / (1 + exp(-z)); distances between rows of z and target in bytes."""

    def codegen(context, builder, _signature, arguments):
        z, z_by_row, out, target, target_by_row, rows = arguments
        lanes = Lanes(builder)
        with cgutils.for_range(builder, rows) as loop:
            z_t = lanes.load(builder.add(z, builder.mul(loop.index, z_by_row)))
            gate = lanes.mul(z_t, lanes.sigmoid(z_t))
            gated = lanes.mul(lanes.load(lanes.row(out, loop.index)), gate)
            lanes.store(builder.add(target, builder.mul(loop.index, target_by_row)), gated)
        return context.get_dummy_value()

    return integers(6), codegen


@intrinsic
def backward_gate_rows(_typing, z, dy, gate, rows):
    """The adjoint of gate_rows. On return dy is the derivative by out, and gate times out would be that by z."""

    def codegen(context, builder, _signature, arguments):
        z, dy, gate, rows = arguments
        lanes = Lanes(builder)
        one = lanes.constant(1.0)
        with cgutils.for_range(builder, rows) as loop:
            z_t, dy_t = lanes.load(lanes.row(z, loop.index)), lanes.load(lanes.row(dy, loop.index))
            sigmoid = lanes.sigmoid(z_t)
            by_gate = lanes.mul(dy_t, sigmoid)
            slope = lanes.fma(z_t, lanes.sub(one, sigmoid), one)  # of z / (1 + exp(-z)), over the sigmoid
            lanes.store(lanes.row(dy, loop.index), lanes.mul(by_gate, z_t))
            lanes.store(lanes.row(gate, loop.index), lanes.mul(by_gate, slope))
        return context.get_dummy_value()

    return integers(4), codegen


@intrinsic
def multiply_rows(_typing, factor, target, rows):
    """target *= factor"""

    def codegen(context, builder, _signature, arguments):
        factor, target, rows = arguments
        lanes = Lanes(builder)
        with cgutils.for_range(builder, rows) as loop:
            place = lanes.row(target, loop.index)
            lanes.store(place, lanes.mul(lanes.load(place), lanes.load(lanes.row(factor, loop.index))))
        return context.get_dummy_value()

    return integers(3), codegen


@intrinsic
def backward_prepare_rows(_typing, raw, x, bias, d, step, dy, d_step, d_drive, d_bias, d_d, rows):
    """Without softplus: see _backward_prepare."""
    return integers(11), _backward_prepare(None)


@intrinsic
def backward_prepare_rows_softplus(_typing, raw, x, bias, d, step, dy, d_step, d_drive, d_bias, d_d, rows):
    """With softplus: see _backward_prepare."""
    return integers(11), _backward_prepare(Lanes.sigmoid)


def _backward_prepare(slope):
    """Code for the adjoint of _prepare: d_step (per log2 e on entry) becomes the derivative by raw, d_drive that by x.

    The rows d_bias and d_d are added to. `slope` is the derivative of the activation.
    """

    def codegen(context, builder, _signature, arguments):
        raw, x, bias, d, step, dy, d_step, d_drive, d_bias, d_d, rows = arguments
        lanes = Lanes(builder)
        bias_row, d_row = lanes.load(bias), lanes.load(d)
        d_bias_slot, d_d_slot = (cgutils.alloca_once_value(builder, lanes.load(row)) for row in (d_bias, d_d))
        with cgutils.for_range(builder, rows) as loop:
            raw_t, x_t, step_t, dy_t, d_step_t, d_drive_t = (
                lanes.load(lanes.row(tile, loop.index)) for tile in (raw, x, step, dy, d_step, d_drive)
            )
            d_raw = lanes.fma(d_drive_t, x_t, lanes.mul(d_step_t, lanes.constant(LN_2)))
            if slope is not None:
                d_raw = lanes.mul(d_raw, slope(lanes, lanes.add(raw_t, bias_row)))
            lanes.store(lanes.row(d_step, loop.index), d_raw)
            lanes.store(lanes.row(d_drive, loop.index), lanes.fma(d_drive_t, step_t, lanes.mul(d_row, dy_t)))
            builder.store(lanes.add(builder.load(d_bias_slot), d_raw), d_bias_slot)
            builder.store(lanes.fma(dy_t, x_t, builder.load(d_d_slot)), d_d_slot)
        lanes.store(d_bias, builder.load(d_bias_slot))
        lanes.store(d_d, builder.load(d_d_slot))
        return context.get_dummy_value()

    return codegen


@intrinsic
def forward_states(
    _typing, step, drive, y, a_log2, states, b, b_by_row, c, c_by_row, by_row, rows,
    line, by_line, by_four, line2, by_line2, by_four2,
):  # fmt: skip
    """s = exp(step A) s + drive B;  y += s C, for STATES states of LANES channels.

    `a_log2` and `states` are STATES rows (A times log2 e); `states` is read and left at its last value. `b` and `c`
    point to the first of STATES neighbouring floats of the first step. At each step two cache lines are asked for, of
    two tensors: see lines_of_tile.
    """

    def codegen(context, builder, _signature, arguments):
        step, drive, y, a_log2, states, b, b_by_row, c, c_by_row, by_row, rows, *lines = arguments
        lanes = Lanes(builder)
        each = [constant(index) for index in range(STATES)]
        a = [lanes.load(lanes.row(a_log2, index)) for index in each]
        slots = [cgutils.alloca_once_value(builder, lanes.load(lanes.row(states, index))) for index in each]
        with cgutils.for_range(builder, rows) as loop:
            here = builder.mul(loop.index, by_row)
            step_t, drive_t = (lanes.load(builder.add(tile, here)) for tile in (step, drive))
            b_t = builder.add(b, builder.mul(loop.index, b_by_row))
            c_t = builder.add(c, builder.mul(loop.index, c_by_row))
            y_t = lanes.load(builder.add(y, here))
            four, within = builder.lshr(loop.index, constant(2)), builder.and_(loop.index, constant(3))
            for line, by_line, by_four in (lines[:3], lines[3:]):
                offset = builder.add(builder.mul(within, by_line), builder.mul(four, by_four))
                lanes.prefetch(builder.add(line, offset))
            for index, a_n, slot in zip(each, a, slots, strict=True):
                inflow = lanes.mul(drive_t, lanes.broadcast(lanes.offset(b_t, index)))
                s = lanes.fma(lanes.decay(step_t, a_n), builder.load(slot), inflow)
                builder.store(s, slot)
                y_t = lanes.fma(s, lanes.broadcast(lanes.offset(c_t, index)), y_t)
            lanes.store(builder.add(y, here), y_t)
        for index, slot in zip(each, slots, strict=True):
            lanes.store(lanes.row(states, index), builder.load(slot))
        return context.get_dummy_value()

    return integers(17), codegen


@intrinsic
def replay_state(_typing, step, drive, y, a_log2, state, b, c, decays, before, by_row, rows):
    """forward_states for one state, keeping exp(step A) of each step and the state BEFORE it for the way back.

    `state` is the state before the first step on entry, after the last one on return.
    """

    def codegen(context, builder, _signature, arguments):
        step, drive, y, a_log2, state, b, c, decays, before, by_row, rows = arguments
        lanes = Lanes(builder)
        a = lanes.load(a_log2)
        slot = cgutils.alloca_once_value(builder, lanes.load(state))
        with cgutils.for_range(builder, rows) as loop:
            here = builder.mul(loop.index, by_row)
            decay = lanes.decay(lanes.load(builder.add(step, here)), a)
            s_before = builder.load(slot)
            lanes.store(builder.add(decays, here), decay)
            lanes.store(builder.add(before, here), s_before)
            inflow = lanes.mul(lanes.load(builder.add(drive, here)), lanes.broadcast(builder.add(b, here)))
            s = lanes.fma(decay, s_before, inflow)
            builder.store(s, slot)
            lanes.accumulate(builder.add(y, here), s, lanes.broadcast(builder.add(c, here)))
        lanes.store(state, builder.load(slot))
        return context.get_dummy_value()

    return integers(11), codegen


@intrinsic
def backward_state(
    _typing, drive, dy, a_log2, state, adjoint, b, c, decays, before, step, d_step, d_drive, d_a, d_b, d_c, by_row, rows
):
    """The adjoint of replay_state, from the last step, where the pointers point, with `by_row` the way back.

    `state` is the state after the tile. `adjoint` is one row: the derivative by that state on entry, by the one before
    the tile on return. Added up in place: d_step (per log2 e: the caller multiplies by ln 2), d_drive, and the row d_a.
    `d_b`, `d_c` receive one row a step; the caller sums over its lanes, since B and C are shared by all channels.
    """

    def codegen(context, builder, _signature, arguments):
        (
            drive, dy, a_log2, state, adjoint, b, c, decays, before, step, d_step, d_drive, d_a, d_b, d_c, by_row, rows,
        ) = arguments  # fmt: skip
        lanes = Lanes(builder)
        a = lanes.load(a_log2)
        g_slot, s_slot, d_a_slot = (
            cgutils.alloca_once_value(builder, lanes.load(row)) for row in (adjoint, state, d_a)
        )
        with cgutils.for_range(builder, rows) as loop:
            here = builder.mul(loop.index, by_row)

            def at(tile, here=here):
                return builder.add(tile, here)

            dy_t = lanes.load(at(dy))
            lanes.store(at(d_c), lanes.mul(dy_t, builder.load(s_slot)))
            s_before = lanes.load(at(before))
            builder.store(s_before, s_slot)
            g = lanes.fma(dy_t, lanes.broadcast(at(c)), builder.load(g_slot))  # derivative by the state after this step
            lanes.store(at(d_b), lanes.mul(g, lanes.load(at(drive))))
            lanes.accumulate(at(d_drive), g, lanes.broadcast(at(b)))
            carried = lanes.mul(g, lanes.load(at(decays)))
            builder.store(carried, g_slot)
            by_exponent = lanes.mul(carried, s_before)
            lanes.accumulate(at(d_step), by_exponent, a)
            builder.store(lanes.fma(by_exponent, lanes.load(at(step)), builder.load(d_a_slot)), d_a_slot)
        lanes.store(adjoint, builder.load(g_slot))
        lanes.store(d_a, builder.load(d_a_slot))
        return context.get_dummy_value()

    return integers(17), codegen


@intrinsic
def add_lane_sums(_typing, rows, target, squares):
    """target[t] += sum over the lanes of row t; target is contiguous in t, `squares` counts blocks of LANES steps."""

    def codegen(context, builder, _signature, arguments):
        rows, target, squares = arguments
        lanes = Lanes(builder)
        with cgutils.for_range(builder, squares) as loop:
            start = builder.mul(loop.index, constant(LANES))
            vectors = [lanes.load(lanes.row(rows, builder.add(start, constant(row)))) for row in range(LANES)]
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

    return integers(3), codegen
