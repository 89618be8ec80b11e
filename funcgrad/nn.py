"""Activations, and the other small functions that neural networks are made of.

Names and arguments are those of `jax.nn` (and `jax.scipy.special.logsumexp`). None of them overflows, whatever the
argument, and float32 stays float32.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.core.errors import DTypeError, ShapeError
from funcgrad.core.trace import Tracer
from funcgrad.core.types import Array, Axis, is_inexact, normalize_axes, normalize_axis, promote, show_long, type_of
from funcgrad.numpy import asarray, max, sum, tanh
from funcgrad.ops.elementwise import absolute, direction, equal, erfc, exp, expm1, log, maximum, minimum
from funcgrad.ops.elementwise import relu as _relu
from funcgrad.ops.elementwise import sigmoid as _sigmoid
from funcgrad.ops.elementwise import sign as _sign
from funcgrad.ops.elementwise import softplus as _softplus
from funcgrad.ops.flow import stop_gradient
from funcgrad.ops.index import getitem
from funcgrad.ops.pointwise import convert, select
from funcgrad.ops.reduce import kept
from funcgrad.ops.shape import reshape
from funcgrad.ops.softmax import LogSoftmax, LogSumExp, Softmax
from funcgrad.ops.special import gelu as _gelu

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "mish",
    "one_hot",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "swish",
    "tanh",
]


# Making a primitive costs about as much as applying it to a small array.
@functools.cache
def _logsumexp_over(axis: Axis, ndim: int) -> LogSumExp:
    return LogSumExp(normalize_axes(axis, ndim))


@functools.cache
def _softmax_over(axis: Axis, ndim: int, nothing: float) -> Softmax:
    return Softmax(normalize_axes(axis, ndim), nothing)


@functools.cache
def _log_softmax_over(axis: Axis, ndim: int) -> LogSoftmax:
    return LogSoftmax(normalize_axes(axis, ndim))


def _array(x: Array) -> Array:
    """`asarray`, which has nothing to do for most."""
    return x if isinstance(x, np.ndarray | Tracer) else asarray(x)


def _inexact(x: Array) -> Array:
    """`x` as an array of floating-point numbers."""
    x = asarray(x)
    return x if is_inexact(x.dtype) else convert(x, np.dtype(float))


def _real(x: Array, name: str) -> Array:
    """`x` as an array of real floating-point numbers."""
    if isinstance(x, np.ndarray | Tracer) and x.dtype.kind == "f":
        return x
    x = _inexact(x)
    if x.dtype.kind == "c":
        raise DTypeError(f"{name} is not defined for {show_long(x)}: complex numbers have no order", f"{name}(x.real)")
    return x


def relu(x: Array) -> Array:
    """The positive part, max(x, 0). Its slope at 0 is 0.

    Examples:
        >>> fg.grad(lambda x: fg.nn.relu(x).sum())(np.array([-1.0, 0.0, 2.0]))
        array([0., 0., 1.])
    """
    return _relu(_array(x))


def relu6(x: Array) -> Array:
    """The positive part, but at most 6. Its slope at 0 and at 6 is 0.

    Examples:
        >>> fg.nn.relu6(np.array([-1.0, 3.0, 8.0]))
        array([0., 3., 6.])
    """
    x = asarray(x)
    return select((x > 0) & (x < 6), x, minimum(maximum(stop_gradient(x), 0), 6))


def leaky_relu(x: Array, negative_slope: Array = 0.01) -> Array:
    """`x` where it is not negative, else `negative_slope * x`.

    Examples:
        >>> fg.nn.leaky_relu(np.array([-1.0, 2.0]))
        array([-0.01,  2.  ])
    """
    x = asarray(x)
    return select(x >= 0, x, negative_slope * x)


def elu(x: Array, alpha: Array = 1.0) -> Array:
    """The exponential linear unit: `x` where it is positive, else `alpha * (exp(x) - 1)`.

    Examples:
        >>> fg.nn.elu(np.array([-1e4, 1e4]))
        array([-1.e+00,  1.e+04])
    """
    x = _inexact(x)
    return select(x > 0, x, alpha * expm1(select(x > 0, 0, x)))


def selu(x: Array) -> Array:
    """The self-normalizing ELU, which keeps mean 0 and variance 1 (Klambauer et al. 2017, equation 2).

    Examples:
        >>> fg.nn.selu(np.array([-1.0, 1.0]))
        array([-1.11133074,  1.05070099])
    """
    return 1.0507009873554804934193349852946 * elu(x, 1.6732632423543772848170429916717)


def gelu(x: Array, approximate: bool = True) -> Array:
    """`x` times the standard normal distribution function (Hendrycks and Gimpel 2016, section 2).

    Args:
        x: The array.
        approximate: False for the distribution function itself, True for its approximation by a tanh.

    Examples:
        >>> fg.nn.gelu(np.array([-1.0, 1.0]), approximate=False)
        array([-0.15865525,  0.84134475])
    """
    x = _inexact(x)
    return _gelu(x) if approximate else x * (0.5 * erfc(-math.sqrt(0.5) * x))


def silu(x: Array) -> Array:
    """`x * sigmoid(x)`, also called swish.

    Examples:
        >>> fg.nn.silu(np.array([-1000.0, 0.0, 1000.0]))
        array([  -0.,    0., 1000.])
    """
    x = _array(x)
    return x * _sigmoid(x)


swish = silu
"""The same as `silu`."""


def mish(x: Array) -> Array:
    """`x * tanh(softplus(x))` (Misra 2019, equation 1).

    Examples:
        >>> fg.nn.mish(np.array([-1000.0, 0.0, 1000.0]))
        array([  -0.,    0., 1000.])
    """
    x = _array(x)
    return x * tanh(_softplus(x))


def glu(x: Array, axis: int = -1) -> Array:
    """The gated linear unit: one half of `x` times the sigmoid of the other half.

    Raises:
        ShapeError: The axis has an odd length.

    Examples:
        >>> fg.nn.glu(np.array([1.0, 2.0, 0.0, 0.0]))
        array([0.5, 1. ])
    """
    x = _inexact(x)
    axis = normalize_axis(axis, len(x.shape))
    n, odd = divmod(x.shape[axis], 2)
    if odd:
        raise ShapeError(
            f"glu splits an axis in two halves; axis {axis} of {show_long(x)} has odd length", "x[..., :2 * n]"
        )
    before = (slice(None),) * axis
    return getitem(x, (*before, slice(n))) * _sigmoid(getitem(x, (*before, slice(n, None))))


def sigmoid(x: Array) -> Array:
    """The logistic function, `1 / (1 + exp(-x))`.

    Examples:
        >>> fg.nn.sigmoid(np.array([-1000.0, 0.0, 1000.0]))
        array([0. , 0.5, 1. ])
    """
    return _sigmoid(_array(x))


def log_sigmoid(x: Array) -> Array:
    """The logarithm of the sigmoid.

    Examples:
        >>> fg.nn.log_sigmoid(np.array([-1000.0, 1000.0]))
        array([-1000.,    -0.])
    """
    return -_softplus(-asarray(x))


def softplus(x: Array) -> Array:
    """A smooth positive part, `log(1 + exp(x))`.

    Examples:
        >>> fg.nn.softplus(np.array([-1000.0, 1000.0]))
        array([   0., 1000.])
    """
    return _softplus(_array(x))


def hard_sigmoid(x: Array) -> Array:
    """A sigmoid of straight lines: `relu6(x + 3) / 6`.

    Examples:
        >>> fg.nn.hard_sigmoid(np.array([-4.0, 0.0, 4.0]))
        array([0. , 0.5, 1. ])
    """
    return relu6(asarray(x) + 3.0) / 6.0


def hard_tanh(x: Array) -> Array:
    """`x`, but not less than -1 and not more than 1. Its slope at -1 and at 1 is 1.

    Examples:
        >>> fg.nn.hard_tanh(np.array([-2.0, 0.5, 2.0]))
        array([-1. ,  0.5,  1. ])
    """
    x = asarray(x)
    return select((x >= -1) & (x <= 1), x, minimum(maximum(stop_gradient(x), -1), 1))


def soft_sign(x: Array) -> Array:
    """`x / (1 + abs(x))`.

    Examples:
        >>> fg.nn.soft_sign(np.array([-1.0, 0.0, 3.0]))
        array([-0.5 ,  0.  ,  0.75])
    """
    x = _inexact(x)
    return x / (1 + absolute(x))


def softmax(x: Array, axis: Axis = -1, where: Array | None = None) -> Array:
    """The exponentials of `x`, divided by their sum.

    Of several infinite elements each gets an equal part. NaN where all are -inf.

    Args:
        x: The array.
        axis: The axis or axes along which the result sums to 1; None for all.
        where: Which elements take part; the others get 0.

    Examples:
        >>> fg.nn.softmax(np.array([1000.0, 1000.0, 0.0]))
        array([0.5, 0.5, 0. ])
    """
    x = _real(x, "softmax")
    if where is None:
        return _softmax_over(axis, len(x.shape), math.nan)(x)
    return _softmax_over(axis, len(x.shape), 0.0)(select(_array(where), x, -math.inf))


def log_softmax(x: Array, axis: Axis = -1, where: Array | None = None) -> Array:
    """The logarithm of the softmax, without overflow or loss of digits.

    Args:
        x: The array.
        axis: The axis or axes along which the softmax sums to 1; None for all.
        where: Which elements take part; the others get -inf.

    Examples:
        >>> fg.nn.log_softmax(np.array([-np.inf, 0.0]))
        array([-inf,   0.])
    """
    x = _real(x, "log_softmax")
    apply = _log_softmax_over(axis, len(x.shape))
    if where is None:
        return apply(x)
    where = _array(where)
    return select(where, apply(select(where, x, -math.inf)), -math.inf)


def logsumexp(
    a: Array,
    axis: Axis = None,
    b: Array | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: Array | None = None,
) -> Any:
    """The logarithm of the sum of exponentials, without overflow. Its gradient is the softmax.

    Args:
        a: The exponents.
        axis: The axis or axes that are summed over; all by default.
        b: Factors of the exponentials; they broadcast against `a` and may be negative or 0.
        keepdims: True to keep the axes, with length 1.
        return_sign: True to return the sign of the sum, too, and the logarithm of its absolute value.
        where: Which elements take part.

    Returns:
        The logarithm, NaN where the sum is negative; with `return_sign` the pair of logarithm and sign.

    Examples:
        >>> fg.nn.logsumexp(np.array([1000.0, 1000.0]))
        np.float64(1000.6931471805599)
        >>> fg.grad(fg.nn.logsumexp)(np.array([-np.inf, 0.0]))
        array([0., 1.])
    """
    a = _real(a, "logsumexp")
    if where is not None:
        a = select(_array(where), a, -math.inf)
    if b is None and not return_sign:
        primitive = _logsumexp_over(axis, len(a.shape))
        y = primitive(a)
        return reshape(y, kept(a.shape, primitive.axes)) if keepdims else y
    y, sign = _signed_logsumexp(a, axis, asarray(1.0 if b is None else b), keepdims)
    return (y, sign) if return_sign else select(sign < 0, math.nan, y)


def _signed_logsumexp(a: Array, axis: Axis, b: Array, keepdims: bool) -> tuple[Array, Array]:
    """The logarithm of |Σ b exp(a)|, and the sign of the sum."""
    b = convert(b, promote(type_of(b), type_of(a)) if is_inexact(b.dtype) else a.dtype)
    a = select(b == 0, -math.inf, a)
    axes = normalize_axes(axis, len(a.shape))
    top = max(stop_gradient(a), axes, keepdims=True, initial=-math.inf)
    top = select(absolute(top) == math.inf, 0, top)
    total = sum(b * exp(a - top), axes, keepdims=keepdims)
    size = absolute(total)
    y = select(size == 0, -math.inf, log(select(size == 0, 1, size)))
    sign = direction(total) if total.dtype.kind == "c" else _sign(total)
    return y + (top if keepdims else reshape(top, total.shape)), sign


def one_hot(x: Array, num_classes: int, *, dtype: DTypeLike = float, axis: int = -1) -> Array:
    """1 at the place that `x` names and 0 elsewhere, along a new axis. Piecewise constant: the derivative is 0.

    Args:
        x: The classes, integers from 0; any other number gives zeros only.
        num_classes: The length of the new axis.
        dtype: The dtype of the result.
        axis: Where the new axis lies in the result.

    Examples:
        >>> fg.nn.one_hot([0, 2], 3)
        array([[1., 0., 0.],
               [0., 0., 1.]])
    """
    x = asarray(x)
    axis = normalize_axis(axis, len(x.shape) + 1)
    classes = np.arange(num_classes).reshape(-1, *(1,) * (len(x.shape) - axis))
    return convert(equal(reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])), classes), np.dtype(dtype))
