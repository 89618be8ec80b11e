"""Elementwise operations: a table of calculus, one line per function.

Each line gives the name, the NumPy function, and the pullback with respect to each argument. A rule names what it
reads: `g` the cotangent of the result, `y` the result, `x` the argument (`x1` and `x2` where there are two). What no
rule names is not kept for the backward pass. Broadcasting, promotion and batching are written once, in `pointwise.py`.

Where `expand` stands, a compiler may do without code of its own for the function.

Derivatives follow the convention of JAX and autograd for complex numbers: the pullback multiplies by f'(z) without
conjugation, so that the gradient of a real function is dL/dRe − i dL/dIm.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.primitive import Cotangent
from funcgrad.core.types import PYTHON_SCALARS, Array, DType, Typed, type_of
from funcgrad.ops.pointwise import Binary, Unary, in_float, of_ufunc, only_where, select


def is_complex(x: Array) -> bool:
    """True if the dtype of `x` is complex."""
    return x.dtype.kind == "c" if hasattr(x, "dtype") else isinstance(x, complex)


def _to_first(g: Array, y: Array, x1: Array, x2: Array) -> Cotangent:
    """The pullback of a choice: all to the argument that was chosen, half to each of two equal ones."""
    return only_where(select(x1 == x2, g * _half(g), g), x1 == y)


def _to_second(g: Array, y: Array, x1: Array, x2: Array) -> Cotangent:
    return _to_first(g, y, x2, x1)


def _half(g: Array) -> Any:
    return g.dtype.type(0.5)


# Operators are faster than ufuncs on NumPy scalars, and have fast paths for x**2, whose last bit may differ. On two
# Python numbers they give a Python number, but raise, or leave the reals, where NumPy gives inf or nan: there NumPy
# decides.


def _power(x1: Array, x2: Array) -> Array:
    if x1.__class__ in PYTHON_SCALARS and x2.__class__ in PYTHON_SCALARS:
        if x1.__class__ is int and x2.__class__ is int and x2 >= 0:
            return x1**x2
        return np.power(np.asarray(x1), np.asarray(x2)).item()
    return x1**x2


def _or_numpy(compute: Callable[..., Any], ufunc: np.ufunc) -> Callable[..., Any]:
    def safe(x1: Array, x2: Array) -> Array:
        try:
            return compute(x1, x2)
        except ZeroDivisionError:
            return ufunc(x1, x2).item()

    return safe


def _of_integers(exact: Callable[..., Any], ufunc: np.ufunc) -> Callable[..., Any]:
    """The ufunc, with Python's own operator for Python integers."""
    return lambda *xs: exact(*xs) if all(x.__class__ is int for x in xs) else ufunc(*xs)


def _shift(exact: Callable[[int, int], int], ufunc: np.ufunc) -> Callable[..., Any]:
    """The same, but a count below 0, which Python refuses, is for NumPy."""
    return _of_integers(lambda x1, x2: exact(x1, x2) if x2 >= 0 else ufunc(x1, x2).item(), ufunc)


def _of_bool(part: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The function, for which a Python bool is a bool: NumPy asks it for its part, and it answers as an int."""
    return lambda x: part(np.bool_(x) if x.__class__ is bool else x)


_divide = _or_numpy(operator.truediv, np.divide)
_mod = _or_numpy(operator.mod, np.remainder)
_floor_divide = _or_numpy(operator.floordiv, np.floor_divide)


def _power_base(g: Array, x1: Array, x2: Array) -> Array:
    """x2 · x1^(x2−1), and 0 for 0^0, where the product would be 0 · inf."""
    if type(x2) in (int, float):
        if x2 == 2:
            return g * (2 * x1)
        return g * (x2 * power(x1, x2 - 1)) if x2 else g * 0
    # minus a float: an unsigned integer has nothing below 0
    return g * (x2 * power(select((x1 == 0) & (x2 == 0), 1, x1), x2 - 1.0))


def _power_exponent(g: Array, y: Array, x1: Array, x2: Array) -> Array:
    """The slope y · log(x1), and 0 where the base is 0 and the exponent is not negative: 0^x2 is constant there."""
    return g * (y * log(select((x1 == 0) & (x2 >= 0), 1, x1)))


def _guarded(x: Array) -> Array:
    """`x` with 1 in place of 0: a denominator whose numerator is 0 there too."""
    return select(x == 0, 1, x)


def _size(x: Array) -> Array:
    """The absolute value, infinite at 0: what a direction is divided by, whose slope at 0 counts as 0."""
    return select(x == 0, math.inf, absolute(x))


def _part(x1: Array, x2: Array) -> Array:
    """The part of x1 in logaddexp(x1, x2), and ½ for two equal infinite ones."""
    return sigmoid(select(isinf(x1) & (x1 == x2), 0, x1 - x2))


def _over_square(a: Array, b: Array) -> Array:
    """The quotient a / (a² + b²) without overflow, and 0 at the origin."""
    h = _guarded(hypot(a, b))
    return a / h / h


def _slope_of_absolute(x: Array) -> Array:
    return conjugate(direction(x)) if is_complex(x) else sign(x)


def _float_part(*types: Typed) -> DType:
    return np.empty(0, types[0].dtype).real.dtype


def _with_zero(ufunc: np.ufunc) -> Callable[[Typed], DType]:
    """The dtype rule of `ufunc(x, 0)`."""
    return lambda t: of_ufunc(ufunc)(t, PYTHON_SCALARS[int])


_float_dtype = of_ufunc(np.sqrt)
# the same, but for no complex numbers
real_dtype = of_ufunc(np.cbrt)
_logaddexp_dtype = of_ufunc(np.logaddexp)
_float_dtype_of_two = of_ufunc(np.true_divide)
_UNKNOWN = frozenset({*PYTHON_SCALARS, *map(np.dtype, ("?", "i1", "u1", "<i2", ">i2", "<u2", ">u2", "<f2", ">f2"))})


def of_scipy(name: str, dtype: Callable[..., DType]) -> Callable[..., Any]:
    """A ufunc of scipy.special, which is imported when it is first called, with the dtype rule of its results."""
    loaded: list[Callable[..., Any]] = []

    def call(*xs: Array) -> Array:
        if not loaded:
            import scipy.special  # heavy: imported when first needed

            loaded.append(getattr(scipy.special, name))
        y = loaded[0](*xs)
        # SciPy has no loops for half precision, small integers and numbers of Python, and answers in another dtype
        unknown = any(getattr(x, "dtype", x.__class__) in _UNKNOWN for x in xs)
        return y.astype(dtype(*map(type_of, xs)), copy=False) if unknown else y

    return call


# What follows is for compilers: the same functions by simpler ones.


def _simple_logaddexp(x1: Array, x2: Array) -> Array:
    """The larger one plus log(1 + exp(−|x1 − x2|)); for two equal ones, which may be infinite, x + log 2."""
    apart = add(maximum(x1, x2), log1p(exp(negative(absolute(subtract(x1, x2))))))
    return select(equal(x1, x2), add(x1, _LN2), apart)


def _simple_xlogy(x1: Array, x2: Array) -> Array:
    """x1 · log(x2), and 0 for x1 = 0 unless x2 is NaN."""
    return select(logical_and(equal(x1, 0), equal(x2, x2)), 0, multiply(x1, log(x2)))


def _simple_logit(x: Array) -> Array:
    """log(x / (1 − x)). Near ½, where that cancels, x / (1 − x) is written as 1 + (2x − 1) / (1 − x)."""
    rest = subtract(1, x)
    far = log(divide(x, rest))
    return select(less(x, 0.25), far, log1p(divide(subtract(multiply(2, x), 1), rest)))


def _times(a: float, b: float) -> Callable[[Array], Array]:
    """The product with a / b, a quotient of two numbers of the dtype of `x`."""
    return lambda x: multiply(x, x.dtype.type(a) / x.dtype.type(b))


_LN2 = math.log(2)
_LN10 = math.log(10)
# the slope of erf at 0
_ERF = 2 / math.sqrt(math.pi)

# Python's operators: on Python numbers alone they give a Python number
_operator1 = functools.partial(Unary, keeps_weak=True)
_operator2 = functools.partial(Binary, keeps_weak=True)

# fmt: off
# ── arithmetic
add = _operator2("add", np.add, lambda g: g, lambda g: g, compute=operator.add)
subtract = _operator2("subtract", np.subtract, lambda g: g, lambda g: -g, compute=operator.sub)
multiply = _operator2("multiply", np.multiply, lambda g, x2: g * x2, lambda g, x1: g * x1, compute=operator.mul)
divide = _operator2("divide", np.divide, lambda g, x2: g / x2, lambda g, x2, y: -g / x2 * y, compute=_divide)
power = _operator2("power", np.power, _power_base, _power_exponent, compute=_power, in_place=False)
remainder = _operator2("remainder", np.remainder, lambda g: g, lambda g, x1, x2: -g * (x1 // x2), compute=_mod)
fmod = Binary("fmod", np.fmod, lambda g: g, lambda g, x1, x2, y: -g * rint((x1 - y) / x2))
floor_divide = _operator2("floor_divide", np.floor_divide, compute=_floor_divide)
negative = _operator1("negative", np.negative, lambda g: -g, compute=operator.neg)
positive = _operator1("positive", np.positive, lambda g: g, compute=operator.pos)
absolute = _operator1("absolute", np.absolute, lambda g, x: g * _slope_of_absolute(x), compute=abs)
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
logaddexp = Binary(
    "logaddexp",
    np.logaddexp,
    lambda g, x1, x2: g * _part(x1, x2),
    lambda g, x1, x2: g * _part(x2, x1),
    expand=in_float(_logaddexp_dtype, _simple_logaddexp),
)
xlogy = Binary(
    "xlogy",
    of_scipy("xlogy", _float_dtype_of_two),
    lambda g, x2: g * log(x2),
    lambda g, x1, x2: g * (x1 / select(x1 == 0, 1, x2)),
    dtype=_float_dtype_of_two,
    expand=in_float(_float_dtype_of_two, _simple_xlogy),
)
logit = Unary(
    "logit",
    of_scipy("logit", real_dtype),
    lambda g, x: g / (x * (1 - x)),
    dtype=real_dtype,
    expand=in_float(real_dtype, _simple_logit),
)
sigmoid = Unary("sigmoid", of_scipy("expit", real_dtype), lambda g, y: g * (y * (1 - y)), dtype=real_dtype)
softplus = Unary(
    "softplus",
    lambda x: np.logaddexp(x, 0),
    lambda g, x: g * sigmoid(x),
    dtype=_with_zero(np.logaddexp),
    expand=lambda x: logaddexp(x, 0),
)
erf = Unary("erf", of_scipy("erf", _float_dtype), lambda g, x: g * (_ERF * exp(-x * x)), dtype=_float_dtype)
erfc = Unary("erfc", of_scipy("erfc", _float_dtype), lambda g, x: g * (-_ERF * exp(-x * x)), dtype=_float_dtype)

# ── trigonometric and hyperbolic functions
sin = Unary("sin", np.sin, lambda g, x: g * cos(x))
cos: Unary = Unary("cos", np.cos, lambda g, x: -g * sin(x))
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
cosh: Unary = Unary("cosh", np.cosh, lambda g, x: g * sinh(x))
tanh = Unary("tanh", np.tanh, lambda g, y: g * (1 - y * y))
arcsinh = Unary("arcsinh", np.arcsinh, lambda g, x: g / sqrt(1 + x * x))
arccosh = Unary("arccosh", np.arccosh, lambda g, x: g / (sqrt(x - 1) * sqrt(x + 1)))
arctanh = Unary("arctanh", np.arctanh, lambda g, x: g / ((1 - x) * (1 + x)))
deg2rad = Unary(
    "deg2rad", np.deg2rad, lambda g: g * (math.pi / 180), expand=in_float(_float_dtype, _times(math.pi, 180))
)
rad2deg = Unary(
    "rad2deg", np.rad2deg, lambda g: g * (180 / math.pi), expand=in_float(_float_dtype, _times(180, math.pi))
)

# ── choices: the max gate routes
maximum = Binary("maximum", np.maximum, _to_first, _to_second)
minimum = Binary("minimum", np.minimum, _to_first, _to_second)
fmax = Binary("fmax", np.fmax, _to_first, _to_second)
fmin = Binary("fmin", np.fmin, _to_first, _to_second)
relu = Unary(
    "relu",
    lambda x: np.maximum(x, 0),
    lambda g, y: only_where(g, y > 0),
    dtype=_with_zero(np.maximum),
    expand=lambda x: maximum(x, 0),
)
copysign: Binary = Binary("copysign", np.copysign, lambda g, x1, x2: g * (sign(x1) * copysign(1, x2)), lambda g: g * 0)
heaviside = Binary("heaviside", np.heaviside, lambda g: g * 0, lambda g, x1: g * (x1 == 0))

# ── complex numbers
conjugate: Unary = Unary("conjugate", np.conjugate, lambda g: conjugate(g))
real = Unary("real", np.real, lambda g: g, dtype=_float_part, keeps_weak=True, compute=_of_bool(np.real))
imag = Unary("imag", np.imag, lambda g: g * -1j, dtype=_float_part, keeps_weak=True, compute=_of_bool(np.imag))
direction = Unary("direction", np.sign, lambda g, x, y: (g - real(g * y) * conjugate(y)) / _size(x))

# ── piecewise constant: the derivative is zero wherever it exists
sign: Unary = Unary("sign", np.sign)
floor = Unary("floor", np.floor)
ceil = Unary("ceil", np.ceil)
rint: Unary = Unary("rint", np.rint)
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
bitwise_and = _operator2("bitwise_and", np.bitwise_and, compute=_of_integers(operator.and_, np.bitwise_and))
bitwise_or = _operator2("bitwise_or", np.bitwise_or, compute=_of_integers(operator.or_, np.bitwise_or))
bitwise_xor = _operator2("bitwise_xor", np.bitwise_xor, compute=_of_integers(operator.xor, np.bitwise_xor))
bitwise_not = _operator1("bitwise_not", np.invert, compute=_of_integers(operator.invert, np.invert))
left_shift = _operator2("left_shift", np.left_shift, compute=_shift(operator.lshift, np.left_shift))
right_shift = _operator2("right_shift", np.right_shift, compute=_shift(operator.rshift, np.right_shift))
# fmt: on
