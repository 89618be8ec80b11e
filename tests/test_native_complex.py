"""Complex numbers in machine code: what NumPy gives, for zeros, infinities and NaN too, in every layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.native.complex.scalars import RULES
from funcgrad.compiler.native.dispatch import runtime
from tests.jitted import LAYOUTS

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
DTYPES = [np.complex64, np.complex128]
PARTS = [0.0, -0.0, 1.0, -1.0, 0.5, -3.25, np.inf, -np.inf, np.nan, 1e-40, 1e-30, 3e38, 88.5, -103.0]
DOUBLE_PARTS = [*PARTS, 1e-320, 1e-300, 1e300, 1.7e308, 710.0, -745.0]


def special(dtype: Any) -> np.ndarray[Any, Any]:
    """Numbers of all combinations of odd parts."""
    parts = np.array(DOUBLE_PARTS if dtype is np.complex128 else PARTS).astype(dtype(0).real.dtype)
    z = np.empty((parts.size, parts.size), dtype)
    z.real, z.imag = parts[:, None], parts
    return z.ravel()


def random(*shape: int, dtype: Any = np.complex128, seed: int = 0, spread: float = 0.0) -> Any:
    """Numbers whose parts are of very different sizes if they spread."""
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal(shape) * np.exp(spread * rng.standard_normal(shape)) for _ in range(2))
    return (a + 1j * b).astype(dtype)


def all_native(f: Callable[..., Any], *args: Any) -> None:
    lines = fg.jit(f).lower(*args).compile().as_text().splitlines()
    python = [line for line in lines if line.startswith("  ") and lines[0].startswith("def")]
    assert [line for line in python if "native" not in line and "return" not in line] == []


def close(x: Any, y: Any, ulp: float) -> None:
    """Equal where not finite, part by part; else as near as so many units in the last place of the absolute value."""
    x, y = np.asarray(x), np.asarray(y)
    assert x.dtype == y.dtype
    assert x.shape == y.shape
    if x.dtype.kind not in "fc":
        np.testing.assert_array_equal(x, y)
        return
    finite = np.isfinite(y)
    for a, b in ((x.real, y.real), (x.imag, y.imag)):
        odd = ~np.isfinite(b) & ~(np.isnan(y.real) & np.isnan(y.imag))
        np.testing.assert_array_equal(a[odd], b[odd])
    np.testing.assert_array_equal(np.isfinite(x), finite)
    info = np.finfo(y.dtype)
    with np.errstate(all="ignore"):
        error = np.abs(x - y)[finite] / (np.abs(y)[finite] * info.eps + info.smallest_subnormal)
    assert error.size == 0 or error.max() <= ulp, error.max()


def agree(f: Callable[..., Any], *args: Any, ulp: float = 0) -> None:
    with np.errstate(all="ignore"), fg.disable_jit():
        expected = fg.tree.leaves(f(*args))
    for x, y in zip(fg.tree.leaves(fg.jit(f)(*args)), expected, strict=True):
        close(x, y, ulp)


# ── one number

# with the error in units in the last place that is allowed, where it is not 0
UNARY: dict[str, tuple[Callable[..., Any], float]] = {
    "negative": (lambda x: -x, 0),
    "conjugate": (np.conj, 0),
    "parts": (lambda x: (x.real, x.imag), 0),
    "square": (np.square, 0),
    "reciprocal": (lambda x: (np.reciprocal(x), 1 / x), 0),
    "absolute": (abs, 2),
    "sign": (np.sign, 3),
    "sqrt": (np.sqrt, 2),
    "exp": (np.exp, 4),
    "log": (np.log, 4),
    "angle": (np.angle, 2),
    "exponentials and logarithms to other bases": (lambda x: (np.exp2(x), np.log2(x), np.log10(x)), 4),
    "sinh": (np.sinh, 4),
    "cosh": (np.cosh, 4),
    "tanh": (np.tanh, 4),
    "sin": (np.sin, 4),
    "cos": (np.cos, 4),
    "tan": (np.tan, 4),
    "questions": (lambda x: (np.isnan(x), np.isinf(x), np.isfinite(x), np.logical_not(x), x == x, x != 1j), 0),
    "powers": (lambda x: (x**0, x**1, x**2, x**3, x**4, x**7, x**-1, x**-2, x**-5), 0),
    "root": (lambda x: x**0.5, 2),
    "converts": (lambda x: (x.astype(bool), x.astype(np.complex64), x.astype(np.complex128)), 0),
    "numbers": (lambda x: (x / 2.0, x * (1 + 2j), 3 - x, x + 1j, 2j * x), 0),
    "selects": (lambda x: (np.where(x, x, 1), np.where(x == 1, 2j, x)), 0),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_a_function_of_one_number_gives_what_numpy_gives(name: str, dtype: Any) -> None:
    f, ulp = UNARY[name]
    with np.errstate(all="ignore"):
        many = random(1003, dtype=dtype, spread=6)
    for x in (special(dtype), many, random(3, 5, dtype=dtype)):
        agree(f, x, ulp=ulp)
    # a product of two numbers is rounded otherwise than one of arrays, in NumPy
    agree(f, random(dtype=dtype), ulp=max(ulp, 4))
    all_native(f, many)


BINARY: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "equal": lambda x, y: (x == y, x != y),
    "logical": lambda x, y: (np.logical_and(x, y), np.logical_or(x, y), np.logical_xor(x, y)),
    "where": lambda x, y: np.where(x == y, x, y),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_a_function_of_two_numbers_gives_what_numpy_gives(name: str, dtype: Any) -> None:
    f = BINARY[name]
    few = special(dtype)[::3]
    pairs = [(np.repeat(few, few.size), np.tile(few, few.size))]
    pairs.append((random(1024, dtype=dtype, spread=3), random(1024, dtype=dtype, seed=1, spread=3)))
    for x, y in pairs:
        agree(f, x, y)
        all_native(f, x, y)


@pytest.mark.parametrize("name", ["bool", "int8", "int64", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_real_number_is_a_complex_one_beside_a_complex_one(dtype: Any, name: str) -> None:
    x, r = random(17, dtype=dtype), np.arange(17).astype(name)
    f = lambda x, r: (x + r, r - x, x * r, r / x, x == r, np.where(r > 3, x, r), r.astype(dtype))
    agree(f, x, r)
    all_native(f, x, r)


class Plain:
    """The rules' arithmetic on arrays."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)

    def number(self, x: Any) -> Any:
        return x if np.ndim(x) else self.dtype.type(x)

    def __call__(self, f: np.ufunc, *xs: Any) -> Any:
        return f(*map(self.number, xs))

    def select(self, c: Any, x: Any, y: Any) -> Any:
        return np.where(c, self.number(x), self.number(y))

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        return x * y + z


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_rule_of_the_logarithm_is_right_everywhere_and_near_the_unit_circle(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    near = np.exp(1j * rng.uniform(-4, 4, 9999)) * (1 + rng.standard_normal(9999) * 10.0 ** rng.uniform(-17, 0, 9999))
    with np.errstate(all="ignore"):
        for x in (special(dtype), near.astype(dtype), random(9999, dtype=dtype, spread=6)):
            y = np.empty_like(x)
            y.real, y.imag = RULES["log"][1](Plain(x.real.dtype), (x.real, x.imag))  # type: ignore[misc]
            close(y, np.log(x), 4)


# ── arrays


@pytest.mark.parametrize("other", [np.array([0.5, 0.0]), np.array([True, False]), np.array([0, 3]), 1.0, 0])
@pytest.mark.parametrize("f", [np.logical_and, np.logical_or, np.logical_xor])
def test_logic_asks_numbers_of_different_dtypes_one_by_one(f: Any, other: Any) -> None:
    z = np.array([0j, 1j])
    agree(lambda x: (f(x, other), f(other, x), f(x, x[::-1])), z)
    agree(lambda x, y: f(x, y), z, other)


def test_scalars_come_back_as_what_they_are() -> None:
    assert type(fg.jit(lambda x: x * 2)(1j)) is complex
    assert type(fg.jit(lambda x: x * 2j)(np.complex64(1j))) is np.complex64
    agree(lambda x, y: (x * y, x, -x, y), 2j, 3.0)
    agree(lambda x: (x + 1, x, x.real), np.complex64(1 + 2j))
    agree(lambda x: (x * 2j, 1 + x), np.complex64([[1 + 2j]]))
    agree(lambda x: x * np.complex64(2), 3 + 1j)
    # what is real of a Python number is a Python number
    agree(lambda x, y: (abs(x) * y, x == 1j), 1 + 1j, np.float32(2), ulp=1)
    agree(lambda x, y: (x.real * y, x.imag + y, x.real, np.real(x) - y), 1 + 1j, np.float32(2))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_argument_may_lie_in_memory_as_it_likes(layout: str, dtype: Any) -> None:
    agree(lambda x: (x * 2 + 1, x.T * 1j), LAYOUTS[layout](random(5, 7, dtype=dtype)))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4), (1, 1), (2, 1, 3), (17,), (5, 33), (2, 3, 4, 5)])
def test_every_shape_is_right(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    agree(lambda x: (x + 1j, x.T * 2, x.sum(), x.sum(axis=0), x.reshape(-1)[::-1], x.reshape(-1)[::2]), x, ulp=8)


I = np.array([0, 3, -1, 2, 3])
MOVES: dict[str, Callable[..., Any]] = {
    "transpose": lambda x: (x.T, x.T * 2),
    "reshape": lambda x: (x.T.reshape(-1) * 2, x.reshape(-1)),
    "slices": lambda x: (x[1:5:2, ::-1], x[1:5:2, ::-1] * 2, x[-1], x[..., None, 2]),
    "broadcast": lambda x: np.broadcast_to(x[0], (3, 6)) + 1j,
    "concatenate": lambda x: (np.concatenate([x, x[:1].real, x * 2]), fnp.stack([x, x.T.T, x + x])),
    "gather": lambda x: (x[I], (x * 2)[I, I], x.T[I] + x.T[I], x[:, I]),
    "set": lambda x: (fg.at(x)[I].set(1j), fg.at(x * 3)[I, 2].set(x[0, 0].real), fg.at(x)[1:3].set(x[:2])),
    "add": lambda x: (fg.at(x)[I].add(2 - 1j), fg.at(x)[I, 1].add(x[0, :5]), fg.at(x)[::2].add(1)),
    "dynamic slices": lambda x: fg.lax.dynamic_slice(x, (I[1], I[2]), (2, 3)) * 1j,
    "flip": lambda x: (fnp.flip(x, 1), fnp.flip(x) + x),
    "as it is": lambda x: (x, np.conj(x), x, fg.stop_gradient(x) + 1),
    "made of parts": lambda x: (x.real + 1j * x.imag, fnp.real(x) + fnp.imag(x), x.real * 1j),
}


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_move_with_both_parts(name: str, dtype: Any) -> None:
    x = random(6, 6, dtype=dtype)
    agree(MOVES[name], x)
    all_native(MOVES[name], x)


def test_an_index_out_of_bounds_is_an_error() -> None:
    for f in (lambda x, i: x[i], lambda x, i: fg.at(x)[i].set(1j), lambda x, i: fg.at(x)[i].add(1j)):
        with pytest.raises(IndexError):
            fg.jit(f)(random(3), np.array([0, 3]))


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (0, 1)])
def test_reductions_over_any_axes(axis: Any) -> None:
    x = random(5, 7, 19)
    f = lambda x: (x.sum(axis=axis), x.mean(axis=axis), fnp.any(x, axis=axis), fnp.all(x, axis=axis), fnp.var(x, axis))
    agree(f, x, ulp=8)
    all_native(f, x)


@pytest.mark.parametrize("shape", [(5,), (1,), (1000,), (7, 33), (33, 7), (3, 4, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_running_sums_along_any_axis(dtype: Any, shape: tuple[int, ...]) -> None:
    x = random(*shape, dtype=dtype)
    for axis in range(len(shape)):
        f = lambda x, axis=axis: (fnp.cumsum(x, axis), fnp.cumsum(x[::-1] * 2, axis)[::-1])
        gradient = fg.grad(lambda x, f=f: fnp.sum(abs(f(x)[0]) ** 2))
        for g in (f, gradient):
            all_native(g, x)
            with fg.disable_jit():
                expected = g(x)
            for y, z in zip(fg.tree.leaves(fg.jit(g)(x)), fg.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(y, z, rtol=1e-4 if dtype is np.complex64 else 1e-11, atol=1e-11)
    agree(lambda x: fnp.cumsum(x), np.array([1j, np.inf, 2, complex(0, np.nan), 3], dtype))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 31, 100, 1000])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "bool"])
def test_every_second_element_is_read_and_written(dtype: str, n: int) -> None:
    x = (np.arange(2 * n) % 7).astype(dtype)
    agree(lambda x: (x[::2] + x[1::2], x[1::2] * 3, x[::2][:-1] + x[2::2]), x)
    agree(lambda x: (fg.at(x)[::2].set(x[1::2]), fg.at(x)[1::2].set(1)), x)


# ── products

PRODUCTS = [
    ("ij,jk->ik", (4, 4, 4)),
    ("ij,jk->ik", (33, 70, 45)),
    ("ij,jk->ik", (2, 300, 3)),
    ("ij,kj->ik", (7, 30, 20)),
    ("ji,jk->ik", (7, 30, 20)),
    ("ji,kj->ki", (7, 30, 20)),
    ("ij,j->i", (90, 80)),
    ("ij,i->j", (90, 80)),
    ("i,i->", (1001,)),
    ("ij,ji->", (20, 30)),
    ("i,j->ij", (20, 30)),
    ("i,i->i", (20,)),
    ("bij,bjk->bik", (9, 4, 5, 6)),
    ("bij,jk->ikb", (9, 4, 5, 6)),
    ("abij,bjc->iacb", (2, 3, 4, 5, 6)),
    ("ij,jk->ik", (3, 0, 4)),
    ("ij,jk->ik", (0, 2, 4)),
    ("ij,jk->ik", (1, 1, 4)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("spec", "lengths"), PRODUCTS, ids=lambda x: str(x))
def test_contractions_of_any_layout(spec: str, lengths: tuple[int, ...], dtype: Any) -> None:
    operands, _, out = spec.partition("->")
    known = dict(zip(dict.fromkeys(spec.replace(",", "").partition("->")[0]), lengths, strict=True))
    x1, x2 = (
        random(*(known[k] for k in letters), dtype=dtype, seed=i) for i, letters in enumerate(operands.split(","))
    )
    flipped = f"{operands.split(',')[0][::-1]},{operands.split(',')[1][::-1]}->{out}"
    functions: dict[str, Callable[..., Any]] = {
        "as they are": lambda x1, x2: fnp.einsum(spec, x1, x2),
        "computed": lambda x1, x2: fnp.einsum(spec, np.conj(x1), 1j * x2),
        "transposed": lambda x1, x2: fnp.einsum(flipped, x1.T, x2.T),
        "reversed": lambda x1, x2: fnp.einsum(spec, x1[::-1], x2)[::-1] if spec[0] == out[:1] else x1,
        "real first": lambda x1, x2: fnp.einsum(spec, x1.real, x2),
        "real last": lambda x1, x2: fnp.einsum(spec, x1, x2.real),
    }
    scale = np.finfo(dtype).eps * max(1, sum(lengths))
    for name, f in functions.items():
        with fg.disable_jit():
            expected = f(x1, x2)
        got = fg.jit(f)(x1, x2)
        assert got.dtype == expected.dtype, name
        np.testing.assert_allclose(got, expected, rtol=scale, atol=8 * scale, err_msg=name)
        if 0 not in lengths:
            all_native(f, x1, x2)


# ── gradients

A, B, V = random(6, 5), random(5, 4, seed=1), random(5, seed=2)
LOSSES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "least squares": (lambda w, x: np.sum(np.abs(x @ w - 1j) ** 2), (B, A)),
    "an exponential": (lambda w: np.sum(np.abs(np.exp(1j * w) + w**2) ** 2), (V,)),
    "a form": (lambda w, h: np.real(np.sum(np.conj(w) * (h @ w))), (V, B @ B.conj().T)),
    "a choice of elements": (lambda w: np.sum(np.abs(w[np.array([0, 0, 2])] / (1 + w[1:4]))), (V,)),
    "roots": (lambda w: np.sum(np.sqrt(w * np.conj(w) + 1).real), (V,)),
    "phases": (lambda w: np.sum(np.real(np.sign(w) * np.exp(2j))), (V,)),
    "the product of parts": (lambda w: np.sum(w.real * w.imag) + np.sum((w.real + 2j * w.imag).imag ** 2), (V,)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_of_a_real_function_of_complex_numbers_is_one_segment(name: str) -> None:
    f, args = LOSSES[name]
    gradient = fg.value_and_grad(f)
    all_native(gradient, *args)
    with fg.disable_jit():
        expected = gradient(*args)
    for x, y in zip(fg.tree.leaves(fg.jit(gradient)(*args)), fg.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-13)


# ── programs

STEPS: list[Callable[..., Any]] = [
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x / (np.abs(y) + 1),
    lambda x, y: np.conj(x) - y.T,
    lambda x, y: x @ y / 4,
    lambda x, y: np.exp(x / (1 + np.abs(x))) + y,
    lambda x, y: x[::-1] * y[:, ::-1],
    lambda x, y: x.sum(axis=0) / 4 + y,
    lambda x, y: np.where(x.real > y.imag, x, y),
    lambda x, y: fg.at(x)[np.array([1, 1, 3])].add(y[:3]) / 2,
    lambda x, y: x[np.array([2, 0, 1, 1])] - y.real,
    lambda x, y: np.concatenate([x[:2], y[2:]]),
    lambda x, y: y.imag * 1j + x.real,
    lambda x, y: np.sqrt(x) + y.mean(),
]


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 9), st.integers(0, 9)), max_size=9))
def test_a_program_computes_what_evaluation_does(steps: list[tuple[int, int, int]]) -> None:
    def program(x: Any, y: Any) -> Any:
        values = [x, y]
        for step, i, j in steps:
            values.append(STEPS[step](values[i % len(values)], values[j % len(values)]))
        return values[-1], values[len(values) // 2]

    args = random(4, 4), random(4, 4, seed=1)
    before = [x.copy() for x in args]
    with fg.disable_jit():
        expected = program(*args)
    for x, y in zip(fg.jit(program)(*args), expected, strict=True):
        scale = float(np.max(np.abs(y)))
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-11 * scale)
    for x, y in zip(args, before, strict=True):
        np.testing.assert_array_equal(x, y)


def test_what_has_no_rule_is_left_to_numpy() -> None:
    agree(lambda x: (np.arcsin(x * 2) + x, fnp.prod(x), fnp.cumprod(x), x**0.5j), random(5), ulp=4)
