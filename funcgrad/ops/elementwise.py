"""Elementwise operations: a table of calculus, one line per function.

Each line gives the name, the NumPy function, and the pullback with respect to each argument. A rule names what it
reads: `g` the cotangent of the result, `y` the result, `x` the argument (`x1` and `x2` where there are two). What no
rule names is not kept for the backward pass. Broadcasting, promotion and batching are written once, above the table.

Derivatives follow the convention of JAX and autograd for complex numbers: the pullback multiplies by f'(z) without
conjugation, so that the gradient of a real function is dL/dRe − i dL/dIm.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.errors import DTypeError, ShapeError
from funcgrad.core.kinds import Elementwise
from funcgrad.core.primitive import Cotangent, Masked, Wanted
from funcgrad.core.types import (
    PYTHON_SCALARS,
    Array,
    ArrayType,
    DType,
    Typed,
    broadcast_shapes,
    is_inexact,
    promotable,
    promote,
    show_long,
)
from funcgrad.ops.broadcast import broadcast_to, reshape, unbroadcast, unbroadcast_mask
from funcgrad.ops.rules import Rule, adapt

_table: dict[str, Unary | Binary] = {}
_LARGE = 4096


def fit(ct: Cotangent, wanted: Typed) -> Cotangent:
    """`ct` with the shape and the dtype of the input it belongs to: summed where broadcasting repeated it."""
    if type(ct) is Masked:
        return Masked(fit(ct.value, wanted), unbroadcast_mask(ct.mask, wanted.shape))
    if ct.shape != wanted.shape:
        ct = unbroadcast(ct, wanted.shape)
    if ct.dtype is not wanted.dtype and ct.dtype != wanted.dtype:
        ct = convert(ct, wanted.dtype)
    return ct


def _mask(ct: Cotangent, mask: Array) -> Masked:
    """`ct` where the mask is true."""
    if type(ct) is Masked:
        mask = mask & ct.mask
        ct = ct.value
    return Masked(_or_zero(mask, ct), broadcast_to(mask, ct.shape))


def _carry(ct: Array, mask: Array) -> Masked:
    """`_mask` of a cotangent that is zero already where the mask is false: a rule that reads nothing only scales it."""
    return Masked(ct, broadcast_to(mask, ct.shape))


def _or_zero(mask: Array, x: Array) -> Array:
    """`x` where the mask is true, else 0."""
    large = type(x) is np.ndarray is type(mask) and x.size > _LARGE and x.shape == mask.shape
    if large and x.dtype.kind == "f" and x.dtype.itemsize <= 8:
        # numpy.where takes a branch per element, which costs five times as much where the mask is irregular
        bits = mask.astype(f"i{x.dtype.itemsize}")
        np.negative(bits, out=bits)
        bits &= x.view(bits.dtype)
        return bits.view(x.dtype)
    return select(mask, x, np.zeros((), x.dtype))


def _join(types: tuple[Typed, ...], name: str) -> tuple[int, ...]:
    try:
        return broadcast_shapes(*(t.shape for t in types))
    except ValueError:
        raise ShapeError(
            f"{name}: shapes {' and '.join(str(t.shape) for t in types)} do not broadcast",
            "each axis, counted from the last, must be equal or 1: add axes with x[:, None] or x[None, :]",
        ) from None


def _batch(primitive: Elementwise, batched: tuple[bool, ...], xs: tuple[Array, ...]) -> Array:
    ndim = max(len(np.shape(x) if not b else x.shape[1:]) for b, x in zip(batched, xs, strict=True))
    return primitive(
        *(
            reshape(x, (x.shape[0], *(1,) * (ndim + 1 - len(x.shape)), *x.shape[1:])) if b else x
            for b, x in zip(batched, xs, strict=True)
        )
    )


class _Table(Elementwise):
    """What a line of the table says."""

    __slots__ = ("_dtype", "constant", "impl", "keeps_weak", "name")

    impl: Callable[..., Any]

    def __init__(
        self,
        name: str,
        ufunc: Callable[..., Any],
        *,
        constant: bool = False,
        keeps_weak: bool = False,
        dtype: Callable[..., DType] | None = None,
        compute: Callable[..., Any] | None = None,
    ) -> None:
        self.name = name
        self.impl = compute or ufunc
        self.constant = constant
        self.keeps_weak = keeps_weak
        self._dtype = dtype or (lambda *types: ufunc.resolve_dtypes((*map(promotable, types), None))[-1])
        _table[name] = self

    def out_type(self, *xs: Typed) -> ArrayType:
        shape = _join(xs, self.name)
        try:
            dtype = self._dtype(*xs)
        except TypeError:
            raise DTypeError(
                f"{self.name} is not defined for {' and '.join(map(show_long, xs))}",
                "convert first, for example x.astype(float)",
            ) from None
        return ArrayType(shape, dtype, self.keeps_weak and all(x.weak for x in xs))

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Array:
        return _batch(self, batched, xs)


@final
class Unary(_Table):
    """A function of one argument. Its pullback is `rule`; without one it is `constant`."""

    __slots__ = ("_kept", "_masking", "_rule", "_unread")

    def __init__(self, name: str, ufunc: Callable[..., Any], rule: Rule | None = None, **options: Any) -> None:
        super().__init__(name, ufunc, constant=rule is None, **options)
        self._rule, names = adapt(rule, "x")
        self._masking = _mask if names else _carry
        self._kept = ("x" in names, "y" in names)
        self._unread = Elementwise.unread(self, (None,))

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        return self._kept

    def unread(self, wanted: Wanted) -> Sequence[int]:
        return self._unread

    def vjp(self, wanted: Wanted, g: Array, y: Array, x: Array) -> tuple[Cotangent | None]:
        (w,) = wanted
        if w is None:
            return (None,)
        ct = self._rule(g, y, x)
        return (ct if ct.dtype is w.dtype else fit(ct, w),)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Array, *xs: Array) -> tuple[Cotangent | None]:
        (w,) = wanted
        return (None if w is None else fit(self._masking(self._rule(g.value, y, *xs), g.mask), w),)


@final
class Binary(_Table):
    """A function of two arguments that broadcast. It has a pullback for each, or is `constant`."""

    __slots__ = ("_masking", "_names", "_rule1", "_rule2", "_unread_both", "_unread_one")

    def __init__(
        self,
        name: str,
        ufunc: Callable[..., Any],
        rule1: Rule | None = None,
        rule2: Rule | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, ufunc, constant=rule1 is None, **options)
        self._rule1, names1 = adapt(rule1, "x1", "x2")
        self._rule2, names2 = adapt(rule2, "x1", "x2")
        self._names = (names1, names2)
        self._masking = (_mask if names1 else _carry, _mask if names2 else _carry)
        some = ArrayType((), np.dtype(float))
        self._unread_both = Elementwise.unread(self, (some, some))
        self._unread_one = (Elementwise.unread(self, (some, None)), Elementwise.unread(self, (None, some)))

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        return tuple(
            any(want and letter in names for want, names in zip(wanted, self._names, strict=True))
            for letter in ("x1", "x2", "y")
        )

    def unread(self, wanted: Wanted) -> Sequence[int]:
        w1, w2 = wanted
        return self._unread_both if w1 is not None and w2 is not None else self._unread_one[w1 is None]

    def vjp(self, wanted: Wanted, g: Array, y: Array, x1: Array, x2: Array) -> tuple[Cotangent | None, ...]:
        w1, w2 = wanted
        ct1 = ct2 = None
        if w1 is not None:
            ct1 = self._rule1(g, y, x1, x2)
            if ct1.dtype is not w1.dtype or ct1.shape != w1.shape:
                ct1 = fit(ct1, w1)
        if w2 is not None:
            ct2 = self._rule2(g, y, x1, x2)
            if ct2.dtype is not w2.dtype or ct2.shape != w2.shape:
                ct2 = fit(ct2, w2)
        return ct1, ct2

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Array, *xs: Array) -> tuple[Cotangent | None, ...]:
        return tuple(
            None if w is None else fit(masking(rule(g.value, y, *xs), g.mask), w)
            for rule, masking, w in zip((self._rule1, self._rule2), self._masking, wanted, strict=True)
        )


@final
@dataclass(frozen=True, slots=True)
class Convert(Elementwise):
    """`x` with another dtype. Complex to real takes the real part."""

    name: ClassVar[str] = "convert"
    dtype: DType

    @property
    def constant(self) -> bool:  # type: ignore[override]  # follows from the dtype here
        return not is_inexact(self.dtype)

    def out_type(self, x: Typed) -> ArrayType:
        return ArrayType(x.shape, self.dtype)

    def impl(self, x: Array) -> Array:
        x = np.asarray(x)
        return (x.real if x.dtype.kind == "c" and self.dtype.kind == "f" else x).astype(self.dtype)

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        return (False, False)

    def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
        return (convert(g, wanted[0].dtype) if wanted[0] else None,)

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        return (Masked(convert(g.value, wanted[0].dtype), g.mask) if wanted[0] else None,)

    def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
        return self(x)


def convert(x: Array, dtype: DType) -> Array:
    """`x` as `dtype`; `x` itself where it has that dtype already and is not weak."""
    if getattr(x, "dtype", None) == dtype and not getattr(x, "weak", False):
        return x
    return Convert(dtype)(x)


@final
@dataclass(frozen=True, slots=True)
class Select(Elementwise):
    """`x1` where `c` is true, else `x2`. The branch not taken has no part in the result, whatever its value there."""

    name: ClassVar[str] = "select"

    def out_type(self, c: Typed, x1: Typed, x2: Typed) -> ArrayType:
        return ArrayType(_join((c, x1, x2), "where"), promote(x1, x2))

    def impl(self, c: Array, x1: Array, x2: Array) -> Array:
        return np.where(c, x1, x2)

    def reads(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        return (True, False, False, False)

    def vjp(self, wanted: Wanted, g: Array, y: None, c: Array, *xs: Array) -> tuple[Cotangent | None, ...]:
        _, w1, w2 = wanted
        return (
            None,
            None if w1 is None else fit(_mask(g, c), w1),
            None if w2 is None else fit(_mask(g, logical_not(c)), w2),
        )

    def vjp_masked(self, wanted: Wanted, g: Masked, y: Any, *xs: Array) -> tuple[Cotangent | None, ...]:
        c = xs[0]
        _, w1, w2 = wanted
        return (
            None,
            None if w1 is None else fit(_mask(g, c), w1),
            None if w2 is None else fit(_mask(g, logical_not(c)), w2),
        )

    def batch(self, batched: tuple[bool, ...], *xs: Array) -> Array:
        return _batch(self, batched, xs)


select = Select()


def is_complex(x: Array) -> bool:
    """True if the dtype of `x` is complex."""
    return x.dtype.kind == "c" if hasattr(x, "dtype") else isinstance(x, complex)


def _to_first(g: Array, y: Array, x1: Array, x2: Array) -> Cotangent:
    """The pullback of a choice: all to the argument that was chosen, half to each of two equal ones."""
    return _mask(select(x1 == x2, g * _half(g), g), x1 == y)


def _to_second(g: Array, y: Array, x1: Array, x2: Array) -> Cotangent:
    return _to_first(g, y, x2, x1)


def _half(g: Array) -> Any:
    return g.dtype.type(0.5)


# Operators are faster than ufuncs on NumPy scalars, and have fast paths for x**2. On two Python numbers they give a
# Python number, but raise, or leave the reals, where NumPy gives inf or nan: there NumPy decides.


def _power(x1: Array, x2: Array) -> Array:
    if x1.__class__ in PYTHON_SCALARS and x2.__class__ in PYTHON_SCALARS:
        return np.power(x1, x2).item()
    return x1**x2


def _or_numpy(compute: Callable[..., Any], ufunc: np.ufunc) -> Callable[..., Any]:
    def safe(x1: Array, x2: Array) -> Array:
        try:
            return compute(x1, x2)
        except ZeroDivisionError:
            return ufunc(x1, x2).item()

    return safe


def _power_base(g: Array, x1: Array, x2: Array) -> Array:
    """x2 · x1^(x2−1), and 0 for 0^0, where the product would be 0 · inf."""
    if type(x2) in (int, float):
        if x2 == 2:
            return g * (2 * x1)
        return g * (x2 * power(x1, x2 - 1)) if x2 else g * 0
    return g * (x2 * power(select((x1 == 0) & (x2 == 0), 1, x1), x2 - 1))


def _power_exponent(g: Array, y: Array, x1: Array, x2: Array) -> Array:
    """The slope y · log(x1), and 0 where the base is 0 and the exponent is not negative: 0^x2 is constant there."""
    return g * (y * log(select((x1 == 0) & (x2 >= 0), 1, x1)))


def _guarded(x: Array) -> Array:
    """`x` with 1 in place of 0: a denominator whose numerator is 0 there too."""
    return select(x == 0, 1, x)


def _size(x: Array) -> Array:
    """The absolute value, infinite at 0: what a direction is divided by, whose slope at 0 counts as 0."""
    return select(x == 0, math.inf, absolute(x))


def _slope_of_absolute(x: Array) -> Array:
    return conjugate(direction(x)) if is_complex(x) else sign(x)


def _float_part(*types: Typed) -> DType:
    return np.empty(0, types[0].dtype).real.dtype


def _scipy(name: str) -> Callable[..., Any]:
    """A ufunc of scipy.special, which is imported when it is first called."""
    loaded: list[Callable[..., Any]] = []

    def call(x: Array) -> Array:
        if not loaded:
            import scipy.special  # heavy: imported when first needed

            loaded.append(getattr(scipy.special, name))
        y = loaded[0](x)
        # SciPy has no loop for half precision and answers in another
        return y.astype(np.float16) if getattr(x, "dtype", None) == np.float16 else y

    return call


def _power_dtype(*types: Typed) -> DType:
    return np.power.resolve_dtypes((*map(promotable, types), None))[-1]


def _float_dtype(*types: Typed) -> DType:
    return np.sqrt.resolve_dtypes((promotable(types[0]), None))[-1]


_LN2 = math.log(2)
_LN10 = math.log(10)
_OP = {"keeps_weak": True}

# ── arithmetic
add = Binary("add", np.add, lambda g: g, lambda g: g, compute=operator.add, **_OP)
subtract = Binary("subtract", np.subtract, lambda g: g, lambda g: -g, compute=operator.sub, **_OP)
multiply = Binary("multiply", np.multiply, lambda g, x2: g * x2, lambda g, x1: g * x1, compute=operator.mul, **_OP)
divide = Binary("divide", np.divide, lambda g, x2: g / x2, lambda g, x2, y: -g / x2 * y, compute=_or_numpy(operator.truediv, np.divide), **_OP)
power = Binary("power", np.power, _power_base, _power_exponent, compute=_power, **_OP)
remainder = Binary("remainder", np.remainder, lambda g: g, lambda g, x1, x2: -g * floor_divide(x1, x2), compute=_or_numpy(operator.mod, np.remainder), **_OP)
fmod = Binary("fmod", np.fmod, lambda g: g, lambda g, x1, x2, y: -g * rint((x1 - y) / x2))
floor_divide = Binary("floor_divide", np.floor_divide, compute=_or_numpy(operator.floordiv, np.floor_divide), **_OP)
negative = Unary("negative", np.negative, lambda g: -g, compute=operator.neg, **_OP)
positive = Unary("positive", np.positive, lambda g: g, compute=operator.pos, **_OP)
absolute = Unary("absolute", np.absolute, lambda g, x: g * _slope_of_absolute(x), compute=abs, **_OP)
fabs = Unary("fabs", np.fabs, lambda g, x: g * sign(x))
square = Unary("square", np.square, lambda g, x: g * (2 * x))
reciprocal = Unary("reciprocal", np.reciprocal, lambda g, y: -g * (y * y))
sqrt = Unary("sqrt", np.sqrt, lambda g, y: g / (2 * y))
cbrt = Unary("cbrt", np.cbrt, lambda g, y: g / (3 * y * y))
hypot = Binary("hypot", np.hypot, lambda g, x1, y: g * (x1 / _guarded(y)), lambda g, x2, y: g * (x2 / _guarded(y)))

# ── exponentials and logarithms
exp = Unary("exp", np.exp, lambda g, y: g * y)
exp2 = Unary("exp2", np.exp2, lambda g, y: g * (y * _LN2))
expm1 = Unary("expm1", np.expm1, lambda g, x: g * exp(x))
log = Unary("log", np.log, lambda g, x: g / x)
log2 = Unary("log2", np.log2, lambda g, x: g / (x * _LN2))
log10 = Unary("log10", np.log10, lambda g, x: g / (x * _LN10))
log1p = Unary("log1p", np.log1p, lambda g, x: g / (1 + x))
logaddexp = Binary("logaddexp", np.logaddexp, lambda g, x1, x2: g * _part(x1, x2), lambda g, x1, x2: g * _part(x2, x1))
sigmoid = Unary("sigmoid", _scipy("expit"), lambda g, y: g * (y * (1 - y)), dtype=_float_dtype)
softplus = Unary("softplus", lambda x: np.logaddexp(x, 0), lambda g, x: g * sigmoid(x), dtype=_float_dtype)
erf = Unary("erf", _scipy("erf"), lambda g, x: g * (2 / math.sqrt(math.pi) * exp(-x * x)), dtype=_float_dtype)
erfc = Unary("erfc", _scipy("erfc"), lambda g, x: g * (-2 / math.sqrt(math.pi) * exp(-x * x)), dtype=_float_dtype)

# ── trigonometric and hyperbolic functions
sin = Unary("sin", np.sin, lambda g, x: g * cos(x))
cos = Unary("cos", np.cos, lambda g, x: -g * sin(x))
tan = Unary("tan", np.tan, lambda g, y: g * (1 + y * y))
arcsin = Unary("arcsin", np.arcsin, lambda g, x: g / sqrt((1 - x) * (1 + x)))
arccos = Unary("arccos", np.arccos, lambda g, x: -g / sqrt((1 - x) * (1 + x)))
arctan = Unary("arctan", np.arctan, lambda g, x: g / (1 + x * x))
arctan2 = Binary(
    "arctan2",
    np.arctan2,
    lambda g, x1, x2: g * _over_square(x2, x1),
    lambda g, x1, x2: -g * _over_square(x1, x2),
)
sinh = Unary("sinh", np.sinh, lambda g, x: g * cosh(x))
cosh = Unary("cosh", np.cosh, lambda g, x: g * sinh(x))
tanh = Unary("tanh", np.tanh, lambda g, y: g * (1 - y * y))
arcsinh = Unary("arcsinh", np.arcsinh, lambda g, x: g / sqrt(1 + x * x))
arccosh = Unary("arccosh", np.arccosh, lambda g, x: g / (sqrt(x - 1) * sqrt(x + 1)))
arctanh = Unary("arctanh", np.arctanh, lambda g, x: g / ((1 - x) * (1 + x)))
deg2rad = Unary("deg2rad", np.deg2rad, lambda g: g * (math.pi / 180))
rad2deg = Unary("rad2deg", np.rad2deg, lambda g: g * (180 / math.pi))

# ── choices: the max gate routes
maximum = Binary("maximum", np.maximum, _to_first, _to_second)
minimum = Binary("minimum", np.minimum, _to_first, _to_second)
fmax = Binary("fmax", np.fmax, _to_first, _to_second)
fmin = Binary("fmin", np.fmin, _to_first, _to_second)
relu = Unary("relu", lambda x: np.maximum(x, 0), lambda g, y: _mask(g, y > 0), dtype=lambda t: t.dtype)
copysign = Binary("copysign", np.copysign, lambda g, x1, x2: g * (sign(x1) * copysign(1, x2)), lambda g: g * 0)
heaviside = Binary("heaviside", np.heaviside, lambda g: g * 0, lambda g, x1: g * (x1 == 0))

# ── complex numbers
conjugate = Unary("conjugate", np.conjugate, lambda g: conjugate(g))
real = Unary("real", np.real, lambda g: g, dtype=_float_part)
imag = Unary("imag", np.imag, lambda g: g * -1j, dtype=_float_part)
direction = Unary("direction", np.sign, lambda g, x, y: (g - real(g * y) * conjugate(y)) / _size(x))

# ── piecewise constant: the derivative is zero wherever it exists
sign = Unary("sign", np.sign)
floor = Unary("floor", np.floor)
ceil = Unary("ceil", np.ceil)
rint = Unary("rint", np.rint)
trunc = Unary("trunc", np.trunc)
isnan = Unary("isnan", np.isnan)
isinf = Unary("isinf", np.isinf)
isfinite = Unary("isfinite", np.isfinite)
signbit = Unary("signbit", np.signbit)
equal = Binary("equal", np.equal)
not_equal = Binary("not_equal", np.not_equal)
less = Binary("less", np.less)
less_equal = Binary("less_equal", np.less_equal)
greater = Binary("greater", np.greater)
greater_equal = Binary("greater_equal", np.greater_equal)
logical_and = Binary("logical_and", np.logical_and)
logical_or = Binary("logical_or", np.logical_or)
logical_xor = Binary("logical_xor", np.logical_xor)
logical_not = Unary("logical_not", np.logical_not)
bitwise_and = Binary("bitwise_and", np.bitwise_and, **_OP)
bitwise_or = Binary("bitwise_or", np.bitwise_or, **_OP)
bitwise_xor = Binary("bitwise_xor", np.bitwise_xor, **_OP)
bitwise_not = Unary("bitwise_not", np.invert, **_OP)
left_shift = Binary("left_shift", np.left_shift, **_OP)
right_shift = Binary("right_shift", np.right_shift, **_OP)


def _part(x1: Array, x2: Array) -> Array:
    """The part of x1 in logaddexp(x1, x2), and ½ for two equal infinite ones."""
    return sigmoid(select(isinf(x1) & (x1 == x2), 0, x1 - x2))


def _over_square(a: Array, b: Array) -> Array:
    """The quotient a / (a² + b²) without overflow, and 0 at the origin."""
    h = _guarded(hypot(a, b))
    return a / h / h


def table() -> dict[str, Unary | Binary]:
    """Every line of the table by name."""
    return dict(_table)
