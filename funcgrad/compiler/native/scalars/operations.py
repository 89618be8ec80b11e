"""The code of elementwise operations, for one element or for the lanes of a vector.

An operation is known by its NumPy function, or by its name where it has none. NumPy says in which dtype it computes;
operands are converted to that. All but the transcendental functions give NumPy's result bit for bit: half precision is
computed in single and rounded after each operation, integers wrap around, and what a processor would trap on, or LLVM
leave undefined, gives what NumPy gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeAlias

import numpy as np

from funcgrad.compiler.identities import key_of
from funcgrad.compiler.native.machine.builder import Builder, Value
from funcgrad.compiler.native.scalars import division, shared
from funcgrad.compiler.native.scalars.convert import INT64, convert, lane_of, operand, truth
from funcgrad.compiler.native.scalars.exact import is_exact, too_large
from funcgrad.compiler.native.scalars.integers import COMPARISONS, compare, compared_apart, fits, is_lost, narrowed
from funcgrad.compiler.native.vectormath import FUNCTIONS
from funcgrad.compiler.native.vectormath.power import power_of_number
from funcgrad.core.ir import Atom, Equation, Literal
from funcgrad.core.kinds import Elementwise
from funcgrad.core.trace import Var
from funcgrad.core.types import DType, Typed, is_inexact, promotable

Code: TypeAlias = Callable[[Builder, DType, Sequence[Value]], Value]
"""Code on operands of one dtype."""


# ── arithmetic


def _binary(of_float: str, of_integer: str, of_bool: str = "") -> Code:
    def code(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
        return b.op({"f": of_float, "b": of_bool}.get(dtype.kind, of_integer), *xs)

    return code


def _negative(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    (x,) = xs
    return b.negative(x) if dtype.kind == "f" else b.op("sub", b.like(x, 0), x)


def _absolute(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    (x,) = xs
    if dtype.kind == "f":
        return b.intrinsic("fabs", x)
    if dtype.kind == "i":
        return b.select(b.compare("slt", x, b.like(x, 0)), b.op("sub", b.like(x, 0), x), x)
    return x


def _square(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    (x,) = xs
    return b.op("fmul" if dtype.kind == "f" else "mul", x, x)


def _sign(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    (x,) = xs
    zero = b.like(x, 0)
    if dtype.kind == "f":
        y = b.select(b.compare("olt", x, zero), b.like(x, -1), b.select(b.compare("oeq", x, zero), zero, x))
        return b.select(b.compare("ogt", x, zero), b.like(x, 1), y)
    one = b.like(x, 1)
    if dtype.kind == "u":
        return b.select(b.compare("ne", x, zero), one, zero)
    return b.select(b.compare("slt", x, zero), b.like(x, -1), b.select(b.compare("sgt", x, zero), one, zero))


def _rounded(how: str) -> Code:
    def code(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
        return b.intrinsic(how, xs[0]) if dtype.kind == "f" else xs[0]

    return code


def _heaviside(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    x, at_zero = xs
    zero = b.like(x, 0)
    y = b.select(b.compare("oeq", x, zero), at_zero, x)
    y = b.select(b.compare("ogt", x, zero), b.like(x, 1), y)
    return b.select(b.compare("olt", x, zero), zero, y)


def _times(factor: float) -> Code:
    def code(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
        return b.op("fmul", xs[0], b.like(xs[0], factor))

    return code


def _chosen(b: Builder, dtype: DType, xs: Sequence[Value], largest: bool, ignores_nan: bool) -> Value:
    x, y = xs
    if dtype.kind == "b":
        return b.op("or" if largest else "and", x, y)
    if dtype.kind != "f":
        return b.intrinsic(f"{dtype.kind if dtype.kind == 'u' else 's'}{'max' if largest else 'min'}", x, y)
    # false where either is NaN
    better = b.select(b.compare("oge" if largest else "ole", x, y), x, y)
    odd = y if ignores_nan else x
    return b.select(b.compare("uno", odd, odd), x, better)


# ── questions


def _compared(of_float: str, of_integer: str) -> Code:
    def code(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
        if dtype.kind == "f":
            return b.compare(of_float, *xs)
        ordered = of_integer not in ("eq", "ne")
        return b.compare(("s" if dtype.kind == "i" else "u") + of_integer if ordered else of_integer, *xs)

    return code


def _is_nan(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    return b.compare("uno" if dtype.kind == "f" else "ne", xs[0], xs[0])


def _is_inf(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    if dtype.kind != "f":
        return b.compare("ne", xs[0], xs[0])
    return b.compare("oeq", b.intrinsic("fabs", xs[0]), b.like(xs[0], math.inf))


def _is_finite(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    if dtype.kind != "f":
        return b.compare("eq", xs[0], xs[0])
    return b.compare("olt", b.intrinsic("fabs", xs[0]), b.like(xs[0], math.inf))


def _sign_bit(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    bits = b.cast("bitcast", xs[0], f"i{xs[0].type.bits}")
    return b.compare("slt", bits, b.like(bits, 0))


def _logical(opcode: str) -> Code:
    def code(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
        return b.op(opcode, truth(b, xs[0]), truth(b, xs[1]))

    return code


def _logical_not(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    x = truth(b, xs[0])
    return b.op("xor", x, b.like(x, True))


# ── bits


def _bitwise(opcode: str) -> Code:
    return lambda b, dtype, xs: b.op(opcode, *xs)


def _invert(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    (x,) = xs
    return b.op("xor", x, b.like(x, True if dtype.kind == "b" else -1))


def _left_shift(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    x, n = xs
    inside = b.compare("ult", n, b.like(n, x.type.bits))
    return b.select(inside, b.op("shl", x, b.select(inside, n, b.like(n, 0))), b.like(x, 0))


def _right_shift(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
    x, n = xs
    inside = b.compare("ult", n, b.like(n, x.type.bits))
    if dtype.kind == "i":
        return b.op("ashr", x, b.select(inside, n, b.like(n, x.type.bits - 1)))
    return b.select(inside, b.op("lshr", x, b.select(inside, n, b.like(n, 0))), b.like(x, 0))


_TABLE: Mapping[np.ufunc, Code] = {
    np.add: _binary("fadd", "add", "or"),
    np.subtract: _binary("fsub", "sub"),
    np.multiply: _binary("fmul", "mul", "and"),
    np.divide: _binary("fdiv", "sdiv"),
    np.negative: _negative,
    np.positive: lambda b, dtype, xs: xs[0],
    np.absolute: _absolute,
    np.fabs: _absolute,
    np.square: _square,
    np.reciprocal: lambda b, dtype, xs: b.op("fdiv", b.like(xs[0], 1), xs[0]),
    np.sqrt: lambda b, dtype, xs: b.intrinsic("sqrt", xs[0]),
    np.sign: _sign,
    np.floor: _rounded("floor"),
    np.ceil: _rounded("ceil"),
    np.trunc: _rounded("trunc"),
    np.rint: _rounded("rint"),
    np.copysign: lambda b, dtype, xs: b.intrinsic("copysign", *xs),
    np.heaviside: _heaviside,
    np.maximum: partial(_chosen, largest=True, ignores_nan=False),
    np.minimum: partial(_chosen, largest=False, ignores_nan=False),
    np.fmax: partial(_chosen, largest=True, ignores_nan=True),
    np.fmin: partial(_chosen, largest=False, ignores_nan=True),
    np.equal: _compared("oeq", "eq"),
    np.not_equal: _compared("une", "ne"),
    np.less: _compared("olt", "lt"),
    np.less_equal: _compared("ole", "le"),
    np.greater: _compared("ogt", "gt"),
    np.greater_equal: _compared("oge", "ge"),
    np.isnan: _is_nan,
    np.isinf: _is_inf,
    np.isfinite: _is_finite,
    np.signbit: _sign_bit,
    np.logical_and: _logical("and"),
    np.logical_or: _logical("or"),
    np.logical_xor: _logical("xor"),
    np.logical_not: _logical_not,
    np.bitwise_and: _bitwise("and"),
    np.bitwise_or: _bitwise("or"),
    np.bitwise_xor: _bitwise("xor"),
    np.invert: _invert,
    np.left_shift: _left_shift,
    np.right_shift: _right_shift,
}
_DIVISIONS = {np.floor_divide: division.floor_divide, np.remainder: division.remainder, np.fmod: division.fmod}
# of these the code is for floats only
_FLOATS = frozenset({np.divide, np.reciprocal, np.sqrt, np.signbit, np.fabs})
_ROUNDED_LAST = {np.deg2rad: (math.pi, 180.0), np.rad2deg: (180.0, math.pi)}


def has_code(equation: Equation) -> bool:
    """True if there is code for an elementwise operation on operands of these dtypes."""
    primitive = equation.primitive
    assert isinstance(primitive, Elementwise)
    out = equation.outputs[0]
    key = key_of(primitive)
    if key in _TABLE and out.dtype.kind == "f" and all(x.dtype == out.dtype for x in equation.inputs):
        # the usual case, decided without a look at NumPy's rules
        return lane_of(out.dtype) is not None
    if any(lane_of(x.dtype) is None for x in (*equation.inputs, out)):
        return False
    if key in ("convert", "select", "weaken", np.power) and not all(fits(x, out.dtype) for x in equation.inputs):
        return False
    if key in ("convert", "select", "weaken"):
        return True
    if key is np.power:
        return _power_code(equation.inputs, out) is not None
    if key in COMPARISONS and compared_apart(equation.inputs):
        return all(fits(x, INT64) for x in equation.inputs)
    loop = _loop(primitive, equation.inputs)
    if loop is None or any(lane_of(dtype) is None for dtype in loop):
        return False
    if not all(map(fits, equation.inputs, loop)):
        return False
    if key in _DIVISIONS or key in _ROUNDED_LAST:
        return loop[0].kind in "iuf" and (key in _DIVISIONS or loop[0].kind == "f")
    if len(set(loop[:-1])) > 1:
        return False
    if isinstance(key, np.ufunc) and key in _TABLE:
        return loop[0].kind == "f" or key not in _FLOATS
    return loop[0].kind == "f" and primitive.name in FUNCTIONS


def _loop(primitive: Elementwise, inputs: Sequence[Typed]) -> tuple[DType, ...] | None:
    """The dtypes in which NumPy computes: those of the operands, and that of the result."""
    ufunc = primitive.ufunc
    if ufunc is not None:
        # a comparison of Python numbers only is no matter for NumPy's rules
        weak = all(x.weak for x in inputs)
        try:
            return _resolved(ufunc, *(x.dtype if weak else promotable(x) for x in inputs))
        except TypeError:
            return None
    out: DType = primitive.out_type(*inputs).dtype
    return (*(out for _ in inputs), out) if is_inexact(out) else None


@cache
def _resolved(ufunc: np.ufunc, *dtypes: Any) -> tuple[DType, ...]:
    return tuple(ufunc.resolve_dtypes((*dtypes, None)))


def code(b: Builder, primitive: Elementwise, xs: Sequence[Value], atoms: Sequence[Atom], out: Var) -> Value:
    """The result of an operation.

    Args:
        b: Where to write the code.
        primitive: The operation, which `has_code`.
        xs: The operands, each of the dtype of its atom, and all of the same number of lanes.
        atoms: What they stand for in the program.
        out: What the result stands for.
    """
    key = key_of(primitive)
    if key in ("convert", "weaken"):
        return operand(b, xs[0], atoms[0], out.dtype)
    if key == "select":
        yes, no = (operand(b, x, a, out.dtype) for x, a in zip(xs[1:], atoms[1:], strict=True))
        return b.select(truth(b, xs[0]), yes, no)
    if key == "fma":
        return b.fma(*xs)
    if key is np.power:
        power = _power_code(atoms, out)
        assert power is not None
        converted = [operand(b, x, a, out.dtype) for x, a in zip(xs, atoms, strict=True)]
        return _in_float(power)(b, out.dtype, converted)
    if key in COMPARISONS and compared_apart(atoms):
        return compare(b, COMPARISONS[key], xs, atoms)
    loop = _loop(primitive, atoms)
    assert loop is not None
    xs = [operand(b, x, a, dtype) for x, a, dtype in zip(xs, atoms, loop[:-1], strict=True)]
    y = _in_float(_code_of(primitive, key, atoms))(b, loop[0], xs)
    # a question in half precision is answered in one bit all the same
    return convert(b, y, loop[-1], out.dtype)


def overflow(b: Builder, primitive: Elementwise, xs: Sequence[Value], atoms: Sequence[Atom]) -> Iterator[Value]:
    """Where Python integers are operands: whether one is too large for a dtype, or the result for int64."""
    key = key_of(primitive)
    if is_exact(key, atoms):
        yield from too_large(b, key, xs, atoms)
    if not any(x.weak and isinstance(x, Var) for x in atoms) or key in ("convert", "weaken", "select", np.power):
        return
    loop = _loop(primitive, atoms)
    if loop is None or (key in COMPARISONS and compared_apart(atoms)):
        return
    yield from (is_lost(b, x, d) for x, a, d in zip(xs, atoms, loop[:-1], strict=True) if narrowed(a, d))


def _code_of(primitive: Elementwise, key: Any, atoms: Sequence[Atom]) -> Code:
    if key in _DIVISIONS:
        number = atoms[1].value if isinstance(atoms[1], Literal) else None
        return lambda b, dtype, xs: _DIVISIONS[key](b, dtype, xs[0], xs[1], number)
    if key in _ROUNDED_LAST:
        top, bottom = _ROUNDED_LAST[key]
        return lambda b, dtype, xs: _times(float(dtype.type(top) / dtype.type(bottom)))(b, dtype, xs)
    if isinstance(key, np.ufunc) and key in _TABLE:
        return _TABLE[key]
    return lambda b, dtype, xs: shared.call(b, primitive.name, xs)


def _in_float(inner: Code) -> Code:
    """The code, computed in single where the operands are half, and rounded."""

    def code(b: Builder, dtype: DType, xs: Sequence[Value]) -> Value:
        if dtype != np.float16:
            return inner(b, dtype, xs)
        y = inner(b, np.dtype(np.float32), [b.cast("fpext", x, "float") for x in xs])
        return y if y.type.lane == "i1" else b.cast("fptrunc", y, "half")

    return code


def _power_code(atoms: Sequence[Atom], out: Typed) -> Code | None:
    """A power with an exponent that is part of the program, as NumPy's operator has it; or the general one."""
    number = atoms[1].value if isinstance(atoms[1], Literal) else None
    if out.dtype.kind in "iu":
        if number is None or not 0 <= int(number) < 64:
            return None
        return lambda b, dtype, xs: _whole_power(b, dtype, xs[0], int(number))
    if out.dtype.kind != "f":
        return None
    special: dict[float, Code] = {
        2.0: _TABLE[np.square],
        1.0: _TABLE[np.positive],
        0.5: _TABLE[np.sqrt],
        -1.0: _TABLE[np.reciprocal],
        0.0: lambda b, dtype, xs: b.like(xs[0], 1),
        # within one unit in the last place
        3.0: lambda b, dtype, xs: _whole_power(b, dtype, xs[0], 3),
        4.0: lambda b, dtype, xs: _whole_power(b, dtype, xs[0], 4),
    }
    if number is not None and float(number) in special:
        return lambda b, dtype, xs: special[float(number)](b, dtype, xs[:1])
    if number is None:
        return lambda b, dtype, xs: shared.call(b, "power", xs)
    return lambda b, dtype, xs: power_of_number(b, xs[0], float(number)) or shared.call(b, "power", xs)


def _whole_power(b: Builder, dtype: DType, x: Value, n: int) -> Value:
    times = "fmul" if dtype.kind == "f" else "mul"
    y = None
    while n:
        if n & 1:
            y = x if y is None else b.op(times, y, x)
        n >>= 1
        x = b.op(times, x, x) if n else x
    return b.like(x, 1) if y is None else y


def combine(b: Builder, how: np.ufunc, x: Value, y: Value, dtype: DType) -> Value:
    """Two values of one dtype by the function of a fold or of a scatter."""
    return _in_float(_TABLE[how])(b, dtype, [x, y])


def neutral(how: np.ufunc | None, dtype: DType) -> float | int | bool:
    """What a fold begins with: combining it with a value gives that value."""
    if how is np.add:
        # −0 + x is x for every x
        return -0.0 if dtype.kind == "f" else 0
    if how is np.multiply:
        return 1
    if how in (np.logical_or, np.logical_and):
        return how is np.logical_and
    return extreme(dtype, how is np.maximum)


def extreme(dtype: DType, lowest: bool) -> float | int | bool:
    """The lowest value of a dtype, or the highest."""
    if dtype.kind == "f":
        return -np.inf if lowest else np.inf
    if dtype.kind == "b":
        return not lowest
    info = np.iinfo(dtype)
    return int(info.min if lowest else info.max)
