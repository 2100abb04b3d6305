"""What a Mamba layer does to each token by itself, over the rows of a tile: products with small matrices, LayerNorm,
residuals and the short convolution, as LLVM vectors.

A row is one token: vectors of LANES channels side by side, `by_row` bytes from one token to the next; channels that
fill up the last vector are zeros. Pointers are addresses, all values float32. Rows are taken ROWS at a time so that
each weight is read once for all of them; tiles are therefore a multiple of ROWS long, and the rows beyond the last
token hold whatever was there.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .numba_simd import LANES, Lanes, constant, integers, processor_features

ROWS = 8 if "avx512f" in processor_features() else 4  # accumulators that fit into registers beside a row of weights
TAPS = 4  # of the convolution: Mamba's d_conv


@intrinsic
def multiply_rows_by_matrix(_typing, x, x_by_row, depth, weights, bias, target, target_by_row, groups):
    """target = x W + bias for LANES outputs, `depth` inputs and ROWS * groups rows.

    weights: (depth, LANES). bias: (LANES,).
    """

    def codegen(context, builder, _signature, arguments):
        x, x_by_row, depth, weights, bias, target, target_by_row, groups = arguments
        lanes = Lanes(builder)
        start = lanes.load(bias)
        with cgutils.for_range(builder, groups) as group:
            first = builder.mul(group.index, constant(ROWS))
            rows = [builder.add(first, constant(row)) for row in range(ROWS)]
            inputs = [builder.add(x, builder.mul(row, x_by_row)) for row in rows]
            slots = [cgutils.alloca_once_value(builder, start) for _ in rows]
            for slot in slots:
                builder.store(start, slot)
            with cgutils.for_range(builder, depth) as inner:
                weight = lanes.load(lanes.row(weights, inner.index))
                for address, slot in zip(inputs, slots, strict=True):
                    value = lanes.broadcast(lanes.offset(address, inner.index))
                    builder.store(lanes.fma(value, weight, builder.load(slot)), slot)
            for row, slot in zip(rows, slots, strict=True):
                lanes.store(builder.add(target, builder.mul(row, target_by_row)), builder.load(slot))
        return context.get_dummy_value()

    return integers(8), codegen


@intrinsic
def normalise_rows(_typing, source, target, by_row, vectors, inside, weight, bias, inverse_count, epsilon, rows):
    """LayerNorm of each row: (x - mean) / sqrt(variance + epsilon) * weight + bias.

    inside, weight, bias: `vectors` rows of LANES, zeros beyond the real channels, `inside` one in them.
    inverse_count: one over the number of real channels.
    """

    def codegen(context, builder, _signature, arguments):
        source, target, by_row, vectors, inside, weight, bias, inverse_count, epsilon, rows = arguments
        lanes = Lanes(builder)
        sqrt = builder.module.declare_intrinsic("llvm.sqrt", [ir.FloatType()])
        one = ir.Constant(ir.FloatType(), 1.0)
        with cgutils.for_range(builder, rows) as row:
            here = builder.mul(row.index, by_row)
            read, write = builder.add(source, here), builder.add(target, here)
            slot = cgutils.alloca_once_value(builder, lanes.constant(0.0))
            builder.store(lanes.constant(0.0), slot)
            with cgutils.for_range(builder, vectors) as part:
                builder.store(lanes.add(builder.load(slot), lanes.load(lanes.row(read, part.index))), slot)
            mean = lanes.splat(builder.fmul(lanes.sum(builder.load(slot)), inverse_count))
            builder.store(lanes.constant(0.0), slot)
            with cgutils.for_range(builder, vectors) as part:
                centred = lanes.sub(lanes.load(lanes.row(read, part.index)), mean)
                centred = lanes.mul(centred, lanes.load(lanes.row(inside, part.index)))
                builder.store(lanes.fma(centred, centred, builder.load(slot)), slot)
            variance = builder.fmul(lanes.sum(builder.load(slot)), inverse_count)
            factor = lanes.splat(builder.fdiv(one, builder.call(sqrt, [builder.fadd(variance, epsilon)])))
            with cgutils.for_range(builder, vectors) as part:
                centred = lanes.mul(lanes.sub(lanes.load(lanes.row(read, part.index)), mean), factor)
                scaled = lanes.fma(
                    centred, lanes.load(lanes.row(weight, part.index)), lanes.load(lanes.row(bias, part.index))
                )
                lanes.store(lanes.row(write, part.index), scaled)
        return context.get_dummy_value()

    integer, single = types.int64, types.float32
    return types.void(*([integer] * 7), single, single, integer), codegen


@intrinsic
def add_scaled_vectors(_typing, source, factor, target, vectors):
    """target += factor * source over `vectors` vectors that lie side by side; factor is one row."""

    def codegen(context, builder, _signature, arguments):
        source, factor, target, vectors = arguments
        lanes = Lanes(builder)
        scale = lanes.load(factor)
        with cgutils.for_range(builder, vectors) as part:
            lanes.accumulate(lanes.row(target, part.index), scale, lanes.load(lanes.row(source, part.index)))
        return context.get_dummy_value()

    return integers(4), codegen


@intrinsic
def convolve_rows(_typing, window, weights, bias, target, by_row, target_by_row, rows):
    """target_t = SiLU(bias + sum over j of w_j window_(t + j)) for LANES channels, TAPS weights (TAPS, LANES)."""

    def codegen(context, builder, _signature, arguments):
        window, weights, bias, target, by_row, target_by_row, rows = arguments
        lanes = Lanes(builder)
        taps = [lanes.load(lanes.row(weights, constant(tap))) for tap in range(TAPS)]
        start = lanes.load(bias)
        with cgutils.for_range(builder, rows) as row:
            value = start
            for tap, weight in enumerate(taps):
                here = builder.add(window, builder.mul(builder.add(row.index, constant(tap)), by_row))
                value = lanes.fma(weight, lanes.load(here), value)
            value = lanes.mul(value, lanes.sigmoid(value))
            lanes.store(builder.add(target, builder.mul(row.index, target_by_row)), value)
        return context.get_dummy_value()

    return integers(7), codegen


@intrinsic
def scale_and_rectify_rows(_typing, target, by_row, vectors, scale, shift, rows):
    """target = max(scale target + shift, 0), channel by channel; what is not a number stays so."""

    def codegen(context, builder, _signature, arguments):
        target, by_row, vectors, scale, shift, rows = arguments
        lanes = Lanes(builder)
        with cgutils.for_range(builder, vectors) as part:
            factor, offset = lanes.load(lanes.row(scale, part.index)), lanes.load(lanes.row(shift, part.index))
            first = lanes.row(target, part.index)
            with cgutils.for_range(builder, rows) as row:
                place = builder.add(first, builder.mul(row.index, by_row))
                value = lanes.fma(lanes.load(place), factor, offset)
                lanes.store(place, lanes.maximum(value, lanes.constant(0.0)))
        return context.get_dummy_value()

    return integers(6), codegen


@intrinsic
def add_moments(_typing, source, by_row, origin, sums, squares, rows):
    """Sums, and sums of squares, of source - origin over the rows, lane by lane: the two are written."""

    def codegen(context, builder, _signature, arguments):
        source, by_row, origin, sums, squares, rows = arguments
        lanes = Lanes(builder)
        zero, start = lanes.constant(0.0), lanes.load(origin)
        slots = [cgutils.alloca_once_value(builder, zero) for _ in range(2)]
        for slot in slots:
            builder.store(zero, slot)
        with cgutils.for_range(builder, rows) as row:
            value = lanes.sub(lanes.load(builder.add(source, builder.mul(row.index, by_row))), start)
            builder.store(lanes.add(builder.load(slots[0]), value), slots[0])
            builder.store(lanes.fma(value, value, builder.load(slots[1])), slots[1])
        lanes.store(sums, builder.load(slots[0]))
        lanes.store(squares, builder.load(slots[1]))
        return context.get_dummy_value()

    return integers(6), codegen


assert LANES % ROWS == 0
