"""Vector arithmetic for compiled loops: sixteen float32 lanes, emitted as LLVM vectors.

Numba has no vector type, and LLVM's own vectoriser prefers 256-bit vectors and leaves the state in memory. LLVM maps
sixteen lanes onto AVX-512, AVX2 (two registers) or NEON (four) by itself.
"""

import os
from collections.abc import Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils

LANES = 16
LOG2_E = 1.4426950408889634

_FLOAT = ir.FloatType()
_INT = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_BITS = ir.VectorType(ir.IntType(32), LANES)

_HALF = ir.VectorType(ir.HalfType(), LANES)
_SHORTS = ir.VectorType(ir.IntType(16), LANES)

# minimax polynomials, coefficients from the constant term upward, with their largest relative error
_EXP2 = (1.0, 0.693146978, 0.240222421, 0.0555073374, 0.00967151264, 0.00132647271)  # 2**f, |f| <= 1/2: 9.2e-8
_EXP2_OF_FRACTION = (  # 2**f, 0 <= f <= 1, exact at both ends, so that a decay near 1 stays so: 9.3e-8
    1.0, 0.693151739, 0.240159271, 0.055818676, 0.00899099511, 0.00187931864,
)  # fmt: skip
_LOG1P = (  # log(1 + t) / t, 0 <= t <= 1: 2.5e-8
    0.999999975, -0.499995526, 0.333203435, -0.248529456, 0.191451159, -0.137466211, 0.0792107279, -0.0301109576,
    0.00538406008,
)  # fmt: skip
_INVERSE = (  # 1 / (1 + t), 0 <= t <= 1: 4.5e-8
    0.999999956, -0.999991114, 0.99969933, -0.995964503, 0.971688131, -0.881056362, 0.675075103, -0.385343269,
    0.139071242, -0.0231785383,
)  # fmt: skip
_ROUND = 12582912.0  # 1.5 * 2**23: adding it leaves the nearest integer in the low bits of the mantissa


def integers(count: int) -> Any:
    """The signature of code that takes `count` addresses or numbers and gives nothing."""
    return types.void(*([types.int64] * count))


def constant(value: int) -> ir.Constant:
    return ir.Constant(_INT, value)


def processor_features() -> frozenset[str]:
    """What numba compiles for here: the processor's features, or what numba's variables ask for in their place."""
    named = os.environ.get("NUMBA_CPU_FEATURES")
    if named is not None:
        return frozenset(name[1:] for name in named.split(",") if name.startswith("+"))
    if os.environ.get("NUMBA_CPU_NAME", "").lower() == "generic":
        return frozenset()
    return frozenset(name for name, present in binding.get_host_cpu_features().items() if present)


def reads_half_precision() -> bool:
    """Whether float16 can be converted by an instruction; x86 without it would call a function that is not there."""
    return not is_x86() or "f16c" in processor_features()


def is_x86() -> bool:
    return binding.get_process_triple().startswith(("x86_64", "i686", "amd64"))


def is_arm() -> bool:
    return binding.get_process_triple().startswith(("aarch64", "arm64"))


class Lanes:
    """Arithmetic on vectors of LANES floats: a thin, readable skin over an LLVM builder."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder
        self.features = processor_features()

    def constant(self, value: float) -> ir.Constant:
        return ir.Constant(_VECTOR, [value] * LANES)

    def splat(self, scalar: ir.Value) -> ir.Value:
        first = self.builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, first, zeros)

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fadd(a, b)

    def sub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fsub(a, b)

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fmul(a, b)

    def div(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fdiv(a, b)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a * b + c; separately rounded where the processor has no such instruction."""
        return self._call("llvm.fmuladd", a, b, c)

    def maximum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The larger one; a where a is not a number, so that such values are not hidden."""
        return self.builder.select(self.builder.fcmp_ordered(">", b, a), b, a)

    def minimum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.fcmp_ordered("<", b, a), b, a)

    def polynomial(self, x: ir.Value, coefficients: Sequence[float]) -> ir.Value:
        """Horner's rule; coefficients from the constant term upward."""
        value: ir.Value = self.constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = self.fma(value, x, self.constant(coefficient))
        return value

    def exp2(self, x: ir.Value) -> ir.Value:
        """2**x; 0 or infinity out of range with AVX-512, else clamped to 2**-126 .. 2**126."""
        if "avx512dq" in self.features:
            fraction = self._masked("reduce", x, last=ir.Constant(ir.IntType(32), 9))  # x minus the integer below
            return self._masked("scalef", self.polynomial(fraction, _EXP2_OF_FRACTION), x)  # times 2**floor(x)
        return self._exp2_by_bits(self.minimum(self.maximum(x, self.constant(-126.0)), self.constant(126.0)))

    def _exp2_by_bits(self, x: ir.Value) -> ir.Value:
        shifted = self.add(x, self.constant(_ROUND))
        fraction = self.sub(x, self.sub(shifted, self.constant(_ROUND)))
        mantissa = self.polynomial(fraction, _EXP2)
        exponent = self.builder.shl(self.builder.bitcast(shifted, _BITS), ir.Constant(_BITS, [23] * LANES))
        return self.builder.bitcast(self.builder.add(self.builder.bitcast(mantissa, _BITS), exponent), _VECTOR)

    def decay(self, step: ir.Value, a_log2: ir.Value) -> ir.Value:
        """exp(step * A), with A given times log2(e)."""
        return self.exp2(self.mul(step, a_log2))

    def _exp_of_minus_absolute(self, x: ir.Value) -> ir.Value:
        absolute = self._call("llvm.fabs", x)
        return self.exp2(self.mul(absolute, self.constant(-LOG2_E)))

    def sigmoid(self, x: ir.Value) -> ir.Value:
        """1 / (1 + exp(-x)), that is 1 / (1 + t) or t / (1 + t) with t = exp(-|x|): a polynomial, no division."""
        t = self._exp_of_minus_absolute(x)
        inverse = self.polynomial(t, _INVERSE)
        negative = self.builder.fcmp_ordered("<", x, self.constant(0.0))
        return self.builder.select(negative, self.mul(t, inverse), inverse)

    def softplus(self, x: ir.Value) -> ir.Value:
        """log(1 + exp(x)) as max(x, 0) + log(1 + exp(-|x|))."""
        t = self._exp_of_minus_absolute(x)
        return self.fma(t, self.polynomial(t, _LOG1P), self.maximum(x, self.constant(0.0)))

    def load(self, address: ir.Value) -> ir.Value:
        return self.builder.load(self._pointer(address, _VECTOR), align=4)

    def store(self, address: ir.Value, vector: ir.Value) -> None:
        self.builder.store(vector, self._pointer(address, _VECTOR), align=4)

    def broadcast(self, address: ir.Value) -> ir.Value:
        return self.splat(self.builder.load(self._pointer(address, _FLOAT), align=4))

    def accumulate(self, address: ir.Value, a: ir.Value, b: ir.Value) -> None:
        """memory += a * b"""
        self.store(address, self.fma(a, b, self.load(address)))

    def load_half(self, address: ir.Value) -> ir.Value:
        return self.builder.fpext(self.builder.load(self._pointer(address, _HALF), align=2), _VECTOR)

    def store_half(self, address: ir.Value, vector: ir.Value) -> None:
        self.builder.store(self.builder.fptrunc(vector, _HALF), self._pointer(address, _HALF), align=2)

    def load_bfloat(self, address: ir.Value) -> ir.Value:
        """bfloat16 is the upper half of a float32."""
        bits = self.builder.zext(self.builder.load(self._pointer(address, _SHORTS), align=2), _BITS)
        return self.builder.bitcast(self.builder.shl(bits, self._bits(16)), _VECTOR)

    def store_bfloat(self, address: ir.Value, vector: ir.Value) -> None:
        """Rounded to nearest, ties to even; not a number stays so."""
        bits = self.builder.bitcast(vector, _BITS)
        odd = self.builder.and_(self.builder.lshr(bits, self._bits(16)), self._bits(1))
        rounded = self.builder.add(self.builder.add(bits, self._bits(0x7FFF)), odd)
        unordered = self.builder.fcmp_unordered("uno", vector, vector)
        upper = self.builder.lshr(self.builder.select(unordered, self._bits(0x7FC00000), rounded), self._bits(16))
        self.builder.store(self.builder.trunc(upper, _SHORTS), self._pointer(address, _SHORTS), align=2)

    def prefetch(self, address: ir.Value) -> None:
        """Ask for the cache line into the second level; an address that does not exist does no harm."""
        flag = ir.IntType(32)
        pointer = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag]), "llvm.prefetch.p0"
        )
        read, second_level, data = (ir.Constant(flag, value) for value in (0, 2, 1))
        self.builder.call(function, [self.builder.inttoptr(address, pointer), read, second_level, data])

    def offset(self, address: ir.Value, elements: ir.Value) -> ir.Value:
        return self.builder.add(address, self.builder.shl(elements, ir.Constant(_INT, 2)))

    def row(self, address: ir.Value, index: ir.Value) -> ir.Value:
        """Address of row `index` of a tile."""
        return self.builder.add(address, self.builder.mul(index, ir.Constant(_INT, 4 * LANES)))

    def interleave(self, a: ir.Value, b: ir.Value, width: int) -> tuple[ir.Value, ir.Value]:
        """One step of a transposition: swap the off-diagonal squares of side `width`."""
        low, high = [], []
        for lane in range(LANES):
            block, inside = divmod(lane, 2 * width)
            start = block * 2 * width
            low.append(start + inside if inside < width else LANES + start + inside - width)
            high.append(start + inside + width if inside < width else LANES + start + inside)
        return tuple(
            self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask))
            for mask in (low, high)
        )

    def sum(self, vector: ir.Value) -> ir.Value:
        """Over all lanes, halves folded onto each other."""
        width = LANES // 2
        while width:
            mask = [(lane + width) % LANES for lane in range(LANES)]
            turned = self.builder.shuffle_vector(
                vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask)
            )
            vector = self.add(vector, turned)
            width //= 2
        return self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    def transpose(self, rows: list[ir.Value]) -> list[ir.Value]:
        width = 1
        while width < LANES:
            for first in range(LANES):
                if first & width == 0:
                    second = first | width
                    rows[first], rows[second] = self.interleave(rows[first], rows[second], width)
            width *= 2
        return rows

    def _bits(self, value: int) -> ir.Constant:
        return ir.Constant(_BITS, [value] * LANES)

    def _call(self, name: str, *operands: ir.Value) -> ir.Value:
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * len(operands)), f"{name}.v{LANES}f32"
        )
        return self.builder.call(function, operands)

    def _masked(self, name: str, *operands: ir.Value, last: ir.Value | None = None) -> ir.Value:
        """An AVX-512 instruction on all lanes."""
        flag, mask = ir.IntType(32), ir.IntType(LANES)
        operands = (*operands, *(() if last is None else (last,)))
        default, all_lanes, as_set = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(mask, -1), ir.Constant(flag, 4)
        arguments = [*operands, default, all_lanes, as_set]
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(_VECTOR, [argument.type for argument in arguments]),
            f"llvm.x86.avx512.mask.{name}.ps.512",
        )
        return self.builder.call(function, arguments)

    def _pointer(self, address: ir.Value, pointee: ir.Type) -> ir.Value:
        return self.builder.inttoptr(address, pointee.as_pointer())
