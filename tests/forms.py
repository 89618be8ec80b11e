"""The forms that an argument may have: its dtype, special values of that, and how an array lies in memory.

Numbers are drawn by seed, so that an example is small; shapes, dtypes and layouts are drawn one by one, so that a
failing example shrinks to the simplest one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

Array = Any
Shape = tuple[int, ...]

BOOL = ["?"]
INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
FLOATS = ["f8", "f4", "f2"]
COMPLEX = ["c16", "c8"]
REAL = [*FLOATS, *INTEGERS, *BOOL]
DTYPES = [*REAL, *COMPLEX]

# lengths at, below and above those of vectors of every width, and of several of them
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 130, 257]
_LARGEST = 3000


@st.composite
def shapes(draw: st.DrawFn, min_dims: int = 0, max_dims: int = 4, empty: bool = True) -> Shape:
    """Shapes with long and short axes, axes of length 1, and none at all; of no more than some thousand elements."""
    sides: list[int] = []
    for _ in range(draw(st.integers(min_dims, max_dims))):
        room = _LARGEST // max(1, int(np.prod(sides)))
        lengths = [*(n for n in LENGTHS if n <= max(1, room)), *([0] if empty else [])]
        sides.append(draw(st.sampled_from(lengths)))
    return tuple(sides)


@st.composite
def broadcast_to(draw: st.DrawFn, shape: Shape) -> Shape:
    """A shape that broadcasts to this one."""
    kept = shape[draw(st.integers(0, len(shape))) :] if draw(st.booleans()) else shape
    return tuple(draw(st.sampled_from([n, n, 1])) for n in kept)


# ── numbers


def special(dtype: Any) -> list[Any]:
    """The numbers of a dtype at which something may go wrong."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return [False, True]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        bits = 8 * dtype.itemsize
        around = [0, 1, 2, 3, 7, bits - 1, bits, bits + 1, 100, info.max, info.max - 1, info.min, info.min + 1]
        return around if dtype.kind == "u" else [*around, -1, -2, -7, -bits]
    if dtype.kind == "c":
        parts = [0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan]
        return [complex(a, b) for a in parts for b in parts]
    info = np.finfo(dtype)
    positive = [
        0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 1 + info.eps, 127.0, 128.0, 255.0, 256.0, 32767.0, 32768.0, 2.0**31,
        2.0**31 - 1, 2.0**32, 2.0**53, 2.0**63, 2.0**64, 1e-3, info.eps, info.tiny, info.smallest_subnormal,
        3 * info.smallest_subnormal, info.max, np.inf, np.nan,
    ]  # fmt: skip
    with np.errstate(all="ignore"):
        return [float(sign * dtype.type(x)) for x in positive for sign in (1, -1)]


def numbers(seed: int, dtype: Any, shape: Shape, some: float = 0.0, bound: float = np.inf) -> np.ndarray:
    """Ordinary numbers, and this share of special ones, as far as they are within a bound."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind == "u":
        x = rng.integers(0, 100, shape)
    elif dtype.kind == "i":
        x = rng.integers(-100, 100, shape)
    else:
        x = rng.standard_normal(shape) * rng.choice([0.1, 1.0, 4.0], shape)
        if dtype.kind == "c":
            x = x + 1j * rng.standard_normal(shape)
    x = np.asarray(x).astype(dtype)
    with np.errstate(all="ignore"):
        choice = np.array([v for v in special(dtype) if not np.isfinite(v) or abs(v) <= bound], dtype)
    return np.where(rng.random(shape) < some, rng.choice(choice, shape), x).astype(dtype)


# ── layouts


def _unaligned(x: Array) -> Array:
    buffer = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    buffer[...] = x
    return buffer


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def _every_other(x: Array) -> Array:
    wide = np.full([2 * n for n in x.shape], 7).astype(x.dtype)
    view = wide[(..., *(slice(None, None, 2) for _ in x.shape))]
    view[...] = x
    return view


def _within(x: Array) -> Array:
    wide = np.full([n + 2 for n in x.shape], 7).astype(x.dtype)
    view = wide[(..., *(slice(1, n + 1) for n in x.shape))]
    view[...] = x
    return view


def _repeated(x: Array) -> Array:
    """Stride 0 along the first axis; the elements are no longer those of `x`."""
    return np.broadcast_to(x[:1], x.shape) if x.ndim else np.broadcast_to(x, ())


def _reversed(x: Array) -> Array:
    back = (..., *(slice(None, None, -1) for _ in x.shape))
    return np.asarray(x[back]).copy()[back]


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "rows": lambda x: x,
    "columns": lambda x: np.asarray(x, order="F"),
    "rolled": lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0) if x.ndim else x,
    "reversed": _reversed,
    "first reversed": lambda x: x[::-1].copy()[::-1] if x.ndim else x,
    "every other": _every_other,
    "within": _within,
    "repeated": _repeated,
    "unaligned": _unaligned,
    "swapped": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "read-only": _read_only,
}


@st.composite
def layouts(draw: st.DrawFn) -> Callable[[Array], Array]:
    """One layout, or one on top of another."""
    names = draw(st.lists(st.sampled_from(list(LAYOUTS)), min_size=1, max_size=2))

    def apply(x: Array) -> Array:
        for name in names:
            x = LAYOUTS[name](x)
        return x

    return _named(apply, " of ".join(names))


def _named(f: Any, name: str) -> Any:
    f.__qualname__ = f.__name__ = name
    return f


@st.composite
def scalar_forms(draw: st.DrawFn, x: Array) -> Any:
    """A number as an array without axes, as one of NumPy or, if there is one like it, of Python."""
    forms: list[Callable[[Array], Any]] = [lambda x: x[()], np.asarray]
    if x.dtype.name in ("bool", "int64", "float64", "complex128"):
        forms.append(lambda x: x.item())
    return draw(st.sampled_from(forms))(x)


@st.composite
def arrays(draw: st.DrawFn, dtype: Any, shape: Shape, bound: float = np.inf) -> Any:
    """An array of a dtype and a shape, in any form."""
    some = draw(st.sampled_from([0.0, 0.1, 0.5]))
    x = numbers(draw(st.integers(0, 2**16)), dtype, shape, some, bound)
    return draw(formed(x))


@st.composite
def laid_out(draw: st.DrawFn, x: np.ndarray) -> Any:
    """An array in another layout."""
    return draw(layouts())(np.asarray(x))


@st.composite
def formed(draw: st.DrawFn, x: np.ndarray) -> Any:
    """An array in another layout, or a number in another form."""
    if x.ndim == 0 and draw(st.booleans()):
        return draw(scalar_forms(x))
    return draw(laid_out(x))


# ── comparing


def assert_same_form(got: Any, expected: Any) -> None:
    """Equal in shape and dtype; and what has no axes is a number, of Python where the other one is."""
    x, y = np.asarray(got), np.asarray(expected)
    assert x.shape == y.shape
    # what is only handed on may keep the order of its bytes
    assert x.dtype.newbyteorder("=") == y.dtype.newbyteorder("=")
    if x.ndim:
        assert type(got) is np.ndarray
        assert got.flags.writeable and got.flags.aligned
    else:
        assert isinstance(got, np.generic | bool | int | float | complex), type(got)
        assert (type(got) in (int, float, complex)) == (type(expected) in (int, float, complex))


def assert_equal(got: Any, expected: Any, signs: bool = True) -> None:
    """Equal bit for bit, but that one NaN is any other; without `signs`, −0.0 is 0.0."""
    x, y = np.asarray(got), np.asarray(expected)
    np.testing.assert_array_equal(x, y)
    if signs and x.dtype.kind in "fc":
        for a, b in ((x.real, y.real), (x.imag, y.imag)):
            np.testing.assert_array_equal(np.signbit(a) & (a == 0), np.signbit(b) & (b == 0))


def assert_ulps(got: Any, expected: Any, ulps: float) -> None:
    """Equal within some units in the last place; NaN and infinities are the same."""
    x, y = np.asarray(got), np.asarray(expected)
    if y.dtype.kind not in "fc":
        np.testing.assert_array_equal(x, y)
        return
    info = np.finfo(y.dtype)
    np.testing.assert_allclose(x, y, rtol=ulps * info.eps, atol=ulps * info.smallest_subnormal, equal_nan=True)


def assert_rounded(got: Any, expected: Any, terms: int, scale: Any) -> None:
    """Equal but for the rounding errors of a sum of so many terms with this sum of absolute values."""
    x, y = np.asarray(got), np.asarray(expected)
    if y.dtype.kind not in "fc":
        np.testing.assert_array_equal(x, y)
        return
    finite = np.isfinite(y)
    np.testing.assert_array_equal(x[~finite], y[~finite])
    bound = (2 + terms) * np.finfo(y.dtype).eps * np.broadcast_to(scale, y.shape)[finite]
    assert (np.abs(x[finite] - y[finite]) <= bound).all(), (x, y)
