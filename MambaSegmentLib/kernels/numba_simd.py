"""Vector arithmetic for compiled loops: sixteen float32 lanes, emitted as LLVM vectors.

Numba has no vector type, and LLVM's own vectoriser prefers 256-bit vectors and leaves the state in memory. LLVM maps
sixteen lanes onto AVX-512, AVX2 (two registers) or NEON (four) by itself.
"""

from collections.abc import Sequence

from llvmlite import ir
from numba.core import cgutils

LANES = 16
LOG2_E = 1.4426950408889634

_FLOAT = ir.FloatType()
_INT = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_BITS = ir.VectorType(ir.IntType(32), LANES)

# 2**f on [-1/2, 1/2]: minimax polynomial, relative error below 2e-7
_EXP2 = (1.0, 6.9314718e-1, 2.4022651e-1, 5.5504109e-2, 9.6181291e-3, 1.3333558e-3)
_ROUND = 12582912.0  # 1.5 * 2**23: adding it leaves the nearest integer in the low bits of the mantissa


class Lanes:
    """Arithmetic on vectors of LANES floats: a thin, readable skin over an LLVM builder."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

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
        """2**x for -126 <= x <= 126 (the caller clamps)."""
        shifted = self.add(x, self.constant(_ROUND))
        fraction = self.sub(x, self.sub(shifted, self.constant(_ROUND)))
        mantissa = self.polynomial(fraction, _EXP2)
        exponent = self.builder.shl(self.builder.bitcast(shifted, _BITS), ir.Constant(_BITS, [23] * LANES))
        return self.builder.bitcast(self.builder.add(self.builder.bitcast(mantissa, _BITS), exponent), _VECTOR)

    def decay(self, step: ir.Value, a_log2: ir.Value) -> ir.Value:
        """exp(step * A) for step * A <= 126 ln 2, with A given times log2(e)."""
        return self.exp2(self.clamped(self.mul(step, a_log2)))

    def clamped(self, x: ir.Value) -> ir.Value:
        return self.minimum(self.maximum(x, self.constant(-126.0)), self.constant(126.0))

    def exp(self, x: ir.Value) -> ir.Value:
        return self.exp2(self.clamped(self.mul(x, self.constant(LOG2_E))))

    def sigmoid(self, x: ir.Value) -> ir.Value:
        return self.div(self.constant(1.0), self.add(self.constant(1.0), self.exp(self.sub(self.constant(0.0), x))))

    def softplus(self, x: ir.Value) -> ir.Value:
        """log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)), the logarithm through the series of 2 artanh(s)."""
        zero = self.constant(0.0)
        positive = self.maximum(x, zero)
        y = self.exp(self.sub(self.minimum(x, zero), positive))
        s = self.div(y, self.add(y, self.constant(2.0)))
        series = self.polynomial(self.mul(s, s), [2.0 / k for k in (1, 3, 5, 7, 9, 11, 13)])
        return self.fma(s, series, positive)

    def load(self, address: ir.Value) -> ir.Value:
        return self.builder.load(self._pointer(address, _VECTOR), align=4)

    def store(self, address: ir.Value, vector: ir.Value) -> None:
        self.builder.store(vector, self._pointer(address, _VECTOR), align=4)

    def broadcast(self, address: ir.Value) -> ir.Value:
        return self.splat(self.builder.load(self._pointer(address, _FLOAT), align=4))

    def accumulate(self, address: ir.Value, a: ir.Value, b: ir.Value) -> None:
        """memory += a * b"""
        self.store(address, self.fma(a, b, self.load(address)))

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

    def transpose(self, rows: list[ir.Value]) -> list[ir.Value]:
        width = 1
        while width < LANES:
            for first in range(LANES):
                if first & width == 0:
                    second = first | width
                    rows[first], rows[second] = self.interleave(rows[first], rows[second], width)
            width *= 2
        return rows

    def _call(self, name: str, *operands: ir.Value) -> ir.Value:
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * len(operands)), f"{name}.v{LANES}f32"
        )
        return self.builder.call(function, operands)

    def _pointer(self, address: ir.Value, pointee: ir.Type) -> ir.Value:
        return self.builder.inttoptr(address, pointee.as_pointer())
