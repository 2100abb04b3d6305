"""Moving values between memory of any floating dtype and tiles of float32, and how tiny values are treated.

A tile is a contiguous float32 array (time, LANES). Addresses are in bytes, strides in elements of the memory's dtype.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .numba_simd import LANES, Lanes, integers, is_arm, is_x86, reads_half_precision

SINGLE, BFLOAT, HALF = 0, 1, 2  # how the kernels are told a dtype
BYTES = (4, 2, 2)

_INT = ir.IntType(64)
_DENORMALS_ARE_ZERO = 0x8040  # in the control register of x86: flush results and read operands as zero
_DENORMALS_ARE_ZERO_ARM = 1 << 24


def _load(kind: int) -> Callable[[Lanes, ir.Value], ir.Value]:
    half = Lanes.load_half if reads_half_precision() else Lanes.load_bfloat  # the latter is then never called
    return (Lanes.load, Lanes.load_bfloat, half)[kind]


def _store(kind: int) -> Callable[[Lanes, ir.Value, ir.Value], None]:
    half = Lanes.store_half if reads_half_precision() else Lanes.store_bfloat
    return (Lanes.store, Lanes.store_bfloat, half)[kind]


def _add(lanes: Lanes, address: ir.Value, vector: ir.Value) -> None:
    lanes.store(address, lanes.add(lanes.load(address), vector))


def _at(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, stride: ir.Value, size: int) -> ir.Value:
    return builder.add(base, builder.mul(builder.mul(index, stride), ir.Constant(_INT, size)))


def _reader_of_rows(kind: int) -> Any:
    @intrinsic
    def read_rows(_typing, source, stride, tile, rows):
        """Rows of LANES adjacent values into a tile."""

        def codegen(context, builder, _signature, arguments):
            source, stride, tile, rows = arguments
            lanes = Lanes(builder)
            with cgutils.for_range(builder, rows) as loop:
                address = _at(builder, source, loop.index, stride, BYTES[kind])
                lanes.store(lanes.row(tile, loop.index), _load(kind)(lanes, address))
            return context.get_dummy_value()

        return integers(4), codegen

    return read_rows


def _writer_of_rows(size: int, store: Callable[[Lanes, ir.Value, ir.Value], None]) -> Any:
    @intrinsic
    def write_rows(_typing, tile, target, stride, rows):
        def codegen(context, builder, _signature, arguments):
            tile, target, stride, rows = arguments
            lanes = Lanes(builder)
            with cgutils.for_range(builder, rows) as loop:
                row = lanes.load(lanes.row(tile, loop.index))
                store(lanes, _at(builder, target, loop.index, stride, size), row)
            return context.get_dummy_value()

        return integers(4), codegen

    return write_rows


def _reader_of_squares(kind: int) -> Any:
    @intrinsic
    def read_squares(_typing, source, by_channel, tile, squares):
        """Memory whose steps are adjacent: each square of LANES channels x LANES steps is transposed."""

        def codegen(context, builder, _signature, arguments):
            source, by_channel, tile, squares = arguments
            lanes = Lanes(builder)
            with cgutils.for_range(builder, squares) as loop:
                first = builder.mul(loop.index, ir.Constant(_INT, LANES))
                corner = _at(builder, source, first, ir.Constant(_INT, 1), BYTES[kind])
                rows = []
                for channel in range(LANES):
                    address = _at(builder, corner, ir.Constant(_INT, channel), by_channel, BYTES[kind])
                    rows.append(_load(kind)(lanes, address))
                for step, row in enumerate(lanes.transpose(rows)):
                    lanes.store(lanes.row(tile, builder.add(first, ir.Constant(_INT, step))), row)
            return context.get_dummy_value()

        return integers(4), codegen

    return read_squares


def _writer_of_squares(size: int, store: Callable[[Lanes, ir.Value, ir.Value], None]) -> Any:
    @intrinsic
    def write_squares(_typing, tile, target, by_channel, squares):
        def codegen(context, builder, _signature, arguments):
            tile, target, by_channel, squares = arguments
            lanes = Lanes(builder)
            with cgutils.for_range(builder, squares) as loop:
                first = builder.mul(loop.index, ir.Constant(_INT, LANES))
                rows = [
                    lanes.load(lanes.row(tile, builder.add(first, ir.Constant(_INT, step)))) for step in range(LANES)
                ]
                corner = _at(builder, target, first, ir.Constant(_INT, 1), size)
                for channel, row in enumerate(lanes.transpose(rows)):
                    store(lanes, _at(builder, corner, ir.Constant(_INT, channel), by_channel, size), row)
            return context.get_dummy_value()

        return integers(4), codegen

    return write_squares


read_rows_single, read_rows_bfloat, read_rows_half = (_reader_of_rows(kind) for kind in (SINGLE, BFLOAT, HALF))
write_rows_single, write_rows_bfloat, write_rows_half = (
    _writer_of_rows(BYTES[kind], _store(kind)) for kind in (SINGLE, BFLOAT, HALF)
)
add_rows = _writer_of_rows(BYTES[SINGLE], _add)
read_squares_single, read_squares_bfloat, read_squares_half = (
    _reader_of_squares(kind) for kind in (SINGLE, BFLOAT, HALF)
)
write_squares_single, write_squares_bfloat, write_squares_half = (
    _writer_of_squares(BYTES[kind], _store(kind)) for kind in (SINGLE, BFLOAT, HALF)
)
add_squares = _writer_of_squares(BYTES[SINGLE], _add)


def _reader_of_one(kind: int) -> Any:
    @intrinsic
    def read_one(_typing, address):
        """One value as float32; for places where no sixteen lie side by side."""

        def codegen(_context, builder, _signature, arguments):
            float_type = ir.FloatType()
            if kind == BFLOAT or (kind == HALF and not reads_half_precision()):
                pointer = builder.inttoptr(arguments[0], ir.IntType(16).as_pointer())
                bits = builder.shl(builder.zext(builder.load(pointer), ir.IntType(32)), ir.IntType(32)(16))
                return builder.bitcast(bits, float_type)
            memory_type = float_type if kind == SINGLE else ir.HalfType()
            value = builder.load(builder.inttoptr(arguments[0], memory_type.as_pointer()))
            return value if kind == SINGLE else builder.fpext(value, float_type)

        return types.float32(types.int64), codegen

    return read_one


def _writer_of_one(kind: int) -> Any:
    @intrinsic
    def write_one(_typing, address, value):
        def codegen(context, builder, _signature, arguments):
            address, value = arguments
            short, integer = ir.IntType(16), ir.IntType(32)
            if kind == SINGLE:
                builder.store(value, builder.inttoptr(address, ir.FloatType().as_pointer()))
            elif kind == HALF and reads_half_precision():
                half = builder.fptrunc(value, ir.HalfType())
                builder.store(half, builder.inttoptr(address, ir.HalfType().as_pointer()))
            else:  # as Lanes.store_bfloat
                bits = builder.bitcast(value, integer)
                odd = builder.and_(builder.lshr(bits, integer(16)), integer(1))
                rounded = builder.add(builder.add(bits, integer(0x7FFF)), odd)
                unordered = builder.fcmp_unordered("uno", value, value)
                upper = builder.lshr(builder.select(unordered, integer(0x7FC00000), rounded), integer(16))
                builder.store(builder.trunc(upper, short), builder.inttoptr(address, short.as_pointer()))
            return context.get_dummy_value()

        return types.void(types.int64, types.float32), codegen

    return write_one


@intrinsic
def read_integer(_typing, address, index):
    """Number `index` of a row of int64."""

    def codegen(_context, builder, _signature, arguments):
        place = _at(builder, arguments[0], arguments[1], _INT(1), 8)
        return builder.load(builder.inttoptr(place, _INT.as_pointer()))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def zero_rows(_typing, target, rows):
    def codegen(context, builder, _signature, arguments):
        lanes = Lanes(builder)
        with cgutils.for_range(builder, arguments[1]) as loop:
            lanes.store(lanes.row(arguments[0], loop.index), lanes.constant(0.0))
        return context.get_dummy_value()

    return integers(2), codegen


@intrinsic
def copy_rows(_typing, source, target, rows):
    return integers(3), _between_rows(lambda _lanes, _target, row: row)


@intrinsic
def add_to_rows(_typing, source, target, rows):
    return integers(3), _between_rows(lambda lanes, target, row: lanes.add(lanes.load(target), row))


def _between_rows(combined: Callable[[Lanes, ir.Value, ir.Value], ir.Value]) -> Any:
    def codegen(context, builder, _signature, arguments):
        source, target, rows = arguments
        lanes = Lanes(builder)
        with cgutils.for_range(builder, rows) as loop:
            place = lanes.row(target, loop.index)
            lanes.store(place, combined(lanes, place, lanes.load(lanes.row(source, loop.index))))
        return context.get_dummy_value()

    return codegen


read_single, read_bfloat, read_half = (_reader_of_one(kind) for kind in (SINGLE, BFLOAT, HALF))
write_single, write_bfloat, write_half = (_writer_of_one(kind) for kind in (SINGLE, BFLOAT, HALF))


def _mode_access(builder: ir.IRBuilder, name: str, pointer: ir.Value) -> None:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()]), f"llvm.x86.sse.{name}"
    )
    builder.call(function, [builder.bitcast(pointer, ir.IntType(8).as_pointer())])


@intrinsic
def ignore_denormals(_typing):
    """Values below 1e-38 count as zero from here on: arithmetic on them is a hundred times slower. Returns the mode."""

    def codegen(_context, builder, _signature, _arguments):
        if is_x86():
            slot = cgutils.alloca_once(builder, ir.IntType(32))
            _mode_access(builder, "stmxcsr", slot)
            mode = builder.load(slot)
            builder.store(builder.or_(mode, ir.IntType(32)(_DENORMALS_ARE_ZERO)), slot)
            _mode_access(builder, "ldmxcsr", slot)
            return builder.zext(mode, _INT)
        if is_arm():
            read = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_INT, []), "llvm.aarch64.get.fpcr")
            mode = builder.call(read, [])
            _set_arm_mode(builder, builder.or_(mode, _INT(_DENORMALS_ARE_ZERO_ARM)))
            return mode
        return _INT(0)

    return types.int64(), codegen


@intrinsic
def restore_float_mode(_typing, mode):
    """Back to what `ignore_denormals` found: the thread is not ours."""

    def codegen(context, builder, _signature, arguments):
        if is_x86():
            slot = cgutils.alloca_once_value(builder, builder.trunc(arguments[0], ir.IntType(32)))
            _mode_access(builder, "ldmxcsr", slot)
        elif is_arm():
            _set_arm_mode(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def _set_arm_mode(builder: ir.IRBuilder, mode: ir.Value) -> None:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [_INT]), "llvm.aarch64.set.fpcr"
    )
    builder.call(function, [mode])
