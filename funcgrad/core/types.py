"""What is known of an array without its numbers: shape, dtype, and whether a Python scalar gave it its dtype.

Promotion is NumPy 2's (NEP 50): a Python scalar is *weak*, it takes the dtype of the array it meets. NumPy itself
is asked for every answer, so there is no second promotion table that could differ from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeAlias, cast

import numpy as np

from funcgrad.core.errors import ArgumentError, AxisError, DTypeError, RangeError, UnsupportedError, shown

# An ndarray, a NumPy scalar, a Python scalar or a tracer. The operators of that union cannot be spelled with NumPy's
# stubs (ndarray * tracer is a tracer), so rules are written against `Any` under a name that says what is meant.
Array: TypeAlias = Any
Shape: TypeAlias = tuple[int, ...]
Axis: TypeAlias = int | tuple[int, ...] | None
DType: TypeAlias = "np.dtype[Any]"

_SHORT = {"float": "f", "int": "i", "uint": "u", "complex": "c"}


class Typed(Protocol):
    """Anything that knows its array type: an `ArrayType`, a variable of the IR."""

    @property
    def shape(self) -> Shape: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def weak(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class ArrayType:
    """The type of an array: `f64[3,2]`.

    Args:
        shape: The length of each axis.
        dtype: The NumPy dtype of the elements; anything that `numpy.dtype` accepts.
        weak: True for a Python scalar, whose dtype gives way to that of an array (NEP 50).

    Examples:
        >>> import numpy as np
        >>> from funcgrad import ShapeDtypeStruct
        >>> ShapeDtypeStruct((3, 2), np.float32)
        f32[3,2]
    """

    shape: Shape
    dtype: DType
    weak: bool = False

    def __post_init__(self) -> None:
        if type(self.shape) is not tuple or not isinstance(self.dtype, np.dtype):
            object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
            object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if not self.dtype.isnative:
            object.__setattr__(self, "dtype", native(self.dtype))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __repr__(self) -> str:
        return show(self)


def native(dtype: DType) -> DType:
    """The dtype in the byte order of this machine; that in which an array keeps its bytes is not part of its type."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def show(t: Typed) -> str:
    """`f64[3,2]`; a weak scalar is marked with `~`."""
    name = t.dtype.name
    stem = name.rstrip("0123456789")
    short = _SHORT.get(stem, stem) + name[len(stem) :]
    return f"{'~' if t.weak else ''}{short}[{','.join(map(str, t.shape))}]"


def show_long(t: Typed) -> str:
    """`float64[3,2]`: the form that error messages use."""
    return f"{t.dtype.name}[{','.join(map(str, t.shape))}]"


def kind_of(x: Any) -> str:
    """What messages call a value of any kind: `float64[3]`, `a tuple of 2`, `a str`."""
    if isinstance(x, tuple):
        return f"a tuple of {len(x)}"
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return show_long(x)
    return "None" if x is None else f"a {type(x).__name__}"


PYTHON_SCALARS: dict[type, ArrayType] = {
    bool: ArrayType((), np.dtype(bool)),
    int: ArrayType((), np.dtype(np.int64), True),
    float: ArrayType((), np.dtype(np.float64), True),
    complex: ArrayType((), np.dtype(np.complex128), True),
}
_WEAK_STANDIN: dict[str, type] = {"i": int, "f": float, "c": complex}


def type_of(x: Array) -> ArrayType:
    """The type of an array, a scalar, or anything else that has a shape and a dtype."""
    known = PYTHON_SCALARS.get(type(x))
    if known is not None:
        return known
    if isinstance(x, np.ndarray | np.generic):
        return ArrayType(x.shape, x.dtype)
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return ArrayType(x.shape, x.dtype, getattr(x, "weak", False))
    x = np.asarray(x)
    return ArrayType(x.shape, x.dtype)


def plain_array(x: Any) -> Array:
    """What an operation with a tracer takes `x` for: an ndarray.

    Raises:
        DTypeError: `x` is neither an array nor something that NumPy makes an array of numbers of.
        UnsupportedError: `x` is an array whose operators have a meaning of their own, such as a `numpy.matrix`.
    """
    if isinstance(x, np.ndarray):
        if type(x) in (np.ndarray, np.memmap):
            return x
        name = type(x).__name__
        raise UnsupportedError(
            f"a {name} meets a traced value: the operators of {name} differ from those of arrays",
            "convert it first: numpy.asarray(x)",
        )
    array = np.asarray(x)
    if array.dtype.kind not in "biufc" and not is_inexact(array.dtype):
        raise DTypeError(f"{shown(x)} is not a number or an array of numbers", "convert it first: float(x)")
    return array


def promotable(t: Typed) -> Any:
    """What NumPy's promotion wants to see for `t`: its dtype, or `int`, `float`, `complex` for a weak one."""
    return _WEAK_STANDIN[t.dtype.kind] if t.weak else t.dtype


def promote(*types: Typed) -> DType:
    """The dtype that NumPy 2 gives to an operation on these types (NEP 50)."""
    return np.result_type(*(_WEAK_STANDIN[t.dtype.kind](0) if t.weak else t.dtype for t in types))


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that these shapes broadcast to; `ValueError` where they do not.

    Written out because `numpy.broadcast_shapes` builds dummy arrays: it costs several microseconds and refuses
    more than 32 shapes.
    """
    if shapes and shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    ndim = max(map(len, shapes), default=0)
    out = [1] * ndim
    for shape in shapes:
        for i, n in enumerate(shape, ndim - len(shape)):
            if n != 1:
                if out[i] not in (1, n):
                    raise ValueError(f"shapes {', '.join(map(str, shapes))} do not broadcast")
                out[i] = n
    return tuple(out)


def is_inexact(dtype: DType) -> bool:
    """True for floating-point and complex dtypes: those that carry a derivative."""
    return dtype.kind in "fc" or dtype.name == "bfloat16"


def normalize_axis(axis: Any, ndim: int, name: str = "axis") -> int:
    """`axis` counted from the front; `AxisError` where the array has no such axis."""
    try:
        i = axis.__index__()
    except AttributeError:
        raise DTypeError(f"{name} must be an int, got {axis!r}", f"{name}=0") from None
    if not -ndim <= i < ndim:
        raise AxisError(
            f"{name} {i} is out of bounds for an array with {ndim} axes",
            f"axes run from {-ndim} to {ndim - 1} here; x[..., None] adds one" if ndim else "a 0-d array has no axis",
        )
    return cast(int, i + ndim if i < 0 else i)


def normalize_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """A reduction's `axis` argument (None, an int, or a tuple of ints) as a sorted tuple of distinct axes."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(normalize_axis(a, ndim) for a in (axis if isinstance(axis, tuple | list) else (axis,)))
    if len(set(axes)) != len(axes):
        raise ArgumentError(f"axis={axis} names an axis twice", "name each axis once")
    return tuple(sorted(axes))


def beyond_int64(x: Any) -> bool:
    """True for a Python int that is too large for a program, where it would be an int64."""
    return x.__class__ is int and not -(2**63) <= x < 2**63


def refuse_beyond(x: int, what: str, fix: str = "") -> NoReturn:
    """Refuse a Python int that is too large for a program.

    Raises:
        RangeError: Always.
    """
    text = str(x) if x.bit_length() < 256 else f"an int of {x.bit_length()} bits"
    whole = f"numpy.uint64({text})" if 0 <= x < 2**64 else ""
    ways = [f"float({text})" if x.bit_length() < 256 else "", whole, fix]
    raise RangeError(
        f"{what} is {text}, a Python int, which is an int64 in a program, from {-(2**63)} to {2**63 - 1}",
        ", or ".join(way for way in ways if way) or "a smaller number; its logarithm, for instance",
    )


def exactly(x: Any) -> Any:
    """A static value as a part of a key: unlike Python's `==`, it tells 1 from True and 1.0, and 0.0 from −0.0."""
    if isinstance(x, tuple):
        return x.__class__, tuple(map(exactly, x))
    if isinstance(x, frozenset):
        return x.__class__, frozenset(map(exactly, x))
    if isinstance(x, float | complex | np.inexact):
        return x.__class__, repr(x)
    return x.__class__, x
