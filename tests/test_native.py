"""Machine code computes what NumPy computes: in every dtype, layout and shape, with the same errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.engine import Executable
from funcgrad.compiler.native.dispatch import runtime
from funcgrad.core.ir import Jaxpr, evaluate
from tests.jitted import LAYOUTS
from tests.programs import RandomProgram, inputs, programs

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
A = np.arange(12.0).reshape(3, 4) - 5


def all_native(f: Callable[..., Any], *args: Any) -> str:
    """The kernels of a function that has code for everything."""
    compiled = fg.jit(f).lower(*args).compile()
    assert not compiled.as_text().startswith("def"), compiled.as_text()
    return compiled.as_text()


def agree(f: Callable[..., Any], *args: Any, rtol: float = 1e-13) -> None:
    with np.errstate(all="ignore"):
        got, expected = fg.tree.leaves(fg.jit(f)(*args)), fg.tree.leaves(f(*args))
    for x, y in zip(got, expected, strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol, equal_nan=True)


# ── whole programs


@settings(max_examples=150)
@given(program=programs(), seed=st.integers(0, 1000))
def test_a_program_computes_what_evaluation_does(program: RandomProgram, seed: int) -> None:
    args = inputs(seed)
    with np.errstate(all="ignore"):
        staged = fg.make_jaxpr(program)(*args)
        constants = [x for _, x in staged.constants]
        jaxpr = Jaxpr((*staged.inputs, *(v for v, _ in staged.constants)), (), staged.equations, staged.outputs)
        before = [np.copy(x) for x in args]
        got, expected = Executable(jaxpr)(*args, *constants), evaluate(jaxpr, [*args, *constants])
    for x, y in zip(got, expected, strict=True):
        scale = np.max(np.abs(y), initial=0, where=np.isfinite(y)) if np.asarray(y).dtype.kind == "f" else 0
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-11 * scale, equal_nan=True)
    for x, y in zip(args, before, strict=True):
        np.testing.assert_array_equal(x, y)


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "arithmetic": lambda x, y: (x + y, x - y, x * y, -x, abs(x)),
    "quotients": lambda x, y: (x // y, x % y, np.fmod(x, y)),
    "comparisons": lambda x, y: (x < y, x <= y, x == y, x != y, np.maximum(x, y), np.minimum(x, y)),
    "converts": lambda x, y: (x.astype(np.int8), y.astype(np.float32), x.astype(bool), y.astype(np.int64)),
    "selects": lambda x, y: (np.where(x > y, x, y), np.where(x, y, 3)),
    "powers": lambda x, y: (x**2, x**1, x * 2 + 1),
}


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_operations_agree_bit_for_bit_in_every_dtype(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    special: list[Any] = [0, 1, 2, 7, 100]
    if dtype[0] == "f":
        special += [-1.5, -0.0, np.inf, -np.inf, np.nan, 6e-8, 60000.0]
    if dtype[0] == "i":
        special += [-1, -3, -7, np.iinfo(dtype).min, np.iinfo(dtype).max]
    values = np.array([*special, *rng.integers(0, 100, 30)]).astype(dtype)
    x, y = np.repeat(values, values.size), np.tile(values, values.size)
    f = ELEMENTWISE[name]
    with np.errstate(all="ignore"):
        for a, b in zip(fg.jit(f)(x, y), f(x, y), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


# ── layouts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_argument_may_lie_in_memory_as_it_likes(layout: str) -> None:
    x = LAYOUTS[layout](A)
    agree(lambda x: (x * 2 + 1, x.sum(axis=0), x.T @ x), x)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4), (1, 1), (2, 1, 3), (17,), (5, 33), (2, 3, 4, 5)])
def test_every_shape_is_right(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    agree(lambda x: (x + 1, x.T * 2, x.sum(), x.sum(axis=0), fnp.cumsum(x), x.reshape(-1)[::-1]), x)
    agree(lambda x: (x - x.mean(axis=-1, keepdims=True), x[..., None] * np.ones(3)) if x.size else x, x)


# ── nests


def test_a_softmax_is_one_nest() -> None:
    text = all_native(lambda x: fg.nn.softmax(x, axis=1), A)
    assert text.count("for each") == 1
    agree(lambda x: fg.nn.softmax(x, axis=1), A)
    agree(lambda x: fg.nn.softmax(x, axis=0), A)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_softmax_divides_once_for_each_row_and_is_as_exact(dtype: Any) -> None:
    random = np.random.default_rng(0)
    for x in (random.integers(-9, 9, (50, 300)).astype(dtype), np.zeros((2, 20_000), dtype)):
        y = fg.jit(fg.nn.softmax)(x)
        e = np.exp(np.longdouble(1) * (x - x.max(axis=1, keepdims=True)))
        expected = e / e.sum(axis=1, keepdims=True)
        # besides the sum, which is as exact as the processor has lanes
        few = 4 + (x.shape[1] / 16 if x.any() else 0)
        assert np.max(np.abs(y - expected) / np.spacing(expected.astype(dtype))) <= few
    assert "divide 1.0" in all_native(fg.nn.softmax, A)
    special = np.array([[np.inf, 1, np.inf], [-np.inf] * 3, [-np.inf, 0, 1], [np.nan, 0, 1]], dtype)
    agree(fg.nn.softmax, special, rtol=2e-3 if dtype is np.float16 else 1e-6)
    agree(fg.grad(lambda x: fnp.sum(fg.nn.logsumexp(x, axis=1))), special, rtol=2e-3 if dtype is np.float16 else 1e-6)


def test_mean_and_variance_are_one_nest() -> None:
    f = lambda x: (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    assert all_native(f, A).count("for each") == 1
    agree(f, A)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (1, 2), (0, 1)])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "any", "all", "mean", "var"])
def test_reductions_over_any_axes(name: str, axis: Any) -> None:
    x = np.random.default_rng(0).standard_normal((5, 7, 19))
    agree(lambda x: getattr(fnp, name)(x, axis=axis), x)
    agree(lambda x: getattr(fnp, name)(np.where(x > 1, np.nan, x), axis=axis), x)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_first_of_equal_elements_is_found(axis: int | None) -> None:
    rng = np.random.default_rng(0)
    some_nan = np.where(rng.random((9, 9)) < 0.1, np.nan, 1.0)
    for x in (rng.integers(0, 3, (40, 50)), rng.integers(0, 3, (7, 130)) * 1.0, some_nan, rng.random((9, 33)) < 0.2):
        agree(lambda x: (fnp.argmax(x, axis=axis), fnp.argmin(x, axis=axis)), x)
    assert "argmax" in all_native(lambda x: fnp.argmax(x, axis=axis), x)


def test_a_long_sum_is_as_exact_as_numpy() -> None:
    x = np.random.default_rng(0).random(1_000_003).astype(np.float32)
    true = x.astype(np.longdouble).sum()
    assert abs(fg.jit(fnp.sum)(x) - true) / true < 1e-6


# ── memory


def test_writes_share_no_memory_that_is_still_read() -> None:
    def f(x: Any) -> Any:
        y = fg.at(x)[np.array([0, 0, 2])].add(x * x)
        z = fg.at(y)[1].set(x[0] * x[2])
        return (z * z * x).sum(), y

    agree(fg.grad(lambda x: f(x)[0]), np.array([1.0, 2.0, 3.0]))
    agree(f, np.array([1.0, 2.0, 3.0]))


def test_results_belong_to_the_caller() -> None:
    x = np.arange(3.0)
    y, z, w = fg.jit(lambda x: (x, x * 1, x[::-1]))(x)
    for out in (y, z, w):
        assert out.flags.writeable
        assert out.flags.owndata
        assert not np.may_share_memory(out, x)


# ── errors


def test_an_index_out_of_bounds_says_which_and_where() -> None:
    f = fg.jit(lambda x, i: x[i] * 2)
    np.testing.assert_array_equal(f(A, np.array([0, -1])), A[[0, -1]] * 2)
    with pytest.raises(IndexError, match=r"index 3 is out of bounds for axis 0 with size 3") as error:
        f(A, np.array([0, 3]))
    assert "test_native.py" in str(error.value)
    np.testing.assert_array_equal(f(A, np.array([1])), A[[1]] * 2)


def test_an_integer_is_divided_by_zero_as_numpy_does() -> None:
    x = np.array([7, -7, np.iinfo(np.int64).min])
    agree(lambda x, y: (x // y, x % y), x, np.array([0, 0, -1]))


# ── parts of a program


def test_what_has_no_code_runs_through_numpy_in_between() -> None:
    f = lambda x: (fnp.sort(x * 2, axis=0) + 1).sum()
    text = fg.jit(f).lower(A).compile().as_text()
    assert text.count("# native") == 2
    assert "sort" in text
    agree(f, A)
    agree(fg.grad(f), A)


@pytest.mark.parametrize("stage", ["jaxpr", "kernels", "llvm", "asm"])
def test_each_stage_can_be_read(stage: str) -> None:
    assert fg.jit(lambda x: x * 2).lower(A).as_text(stage)


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(fg.errors.ArgumentError, match="'kernels'"):
        fg.jit(lambda x: x * 2).lower(A).as_text("hlo")


# ── the same on many arrays


def lines(f: Callable[..., Any], *args: Any) -> int:
    return len(fg.jit(f).lower(*args).as_text("llvm").splitlines())


def updated(p: dict[str, Any], g: dict[str, Any]) -> Any:
    return {name: p[name] - 0.1 * g[name] for name in p}, sum(np.sum(x * x) for x in g.values())


def test_the_code_of_an_update_does_not_grow_with_the_number_of_arrays() -> None:
    trees = [({f"{i}": np.ones((3, 4)) for i in range(n)},) * 2 for n in (10, 100)]
    assert lines(lambda p, g: updated(p, g)[0], *trees[0]) == lines(lambda p, g: updated(p, g)[0], *trees[1])


@pytest.mark.parametrize("count", [3, 4, 9])
def test_an_update_of_many_arrays_is_that_of_each(count: int) -> None:
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (2, 5), ()]
    p, g = ({f"{i}": rng.standard_normal(shapes[i % len(shapes)]) for i in range(count * 3)} for _ in range(2))
    agree(updated, p, g)
    agree(lambda p: {name: x * float(name) + (x if name == "5" else 2) for name, x in p.items()}, p)
    agree(lambda p: {name: x * (-0.0 if int(name) % 2 else 0.0) for name, x in p.items()}, p)


def test_arrays_that_some_of_many_share_are_read_by_all_of_them() -> None:
    x = {f"{i}": np.arange(6.0) + i for i in range(8)}
    agree(lambda x, y: {name: x[name] * y + x["3"] for name in x}, x, np.arange(6.0))
    agree(lambda x: [x[f"{i}"][::-1] + x[f"{(i + 1) % 8}"] for i in range(8)], x)
    # what one of them writes, later ones read
    agree(lambda x: {name: np.sum(a * 2) + (a + 1) @ (a - 1) for name, a in x.items()}, x)
    agree(lambda x: [np.exp(a - np.max(a)) / np.sum(np.exp(a)) for a in x.values()], x)


def test_rows_that_are_written_one_element_after_the_other_are_right() -> None:
    # the gradient by the positions of particles: a sum over one axis, and what is summed, go to rows of three
    def potential(x: Any) -> Any:
        d = x[None, :, :] - x[:, None, :]
        return (1.0 / np.sqrt((d * d).sum(axis=2) + 0.01)).sum()

    for n in (5, 40, 67):
        x = np.random.default_rng(n).standard_normal((n, 3))
        gradient = fg.grad(potential)
        np.testing.assert_allclose(fg.jit(gradient)(x), gradient(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("step", [17, -17, 20])
def test_elements_that_are_evenly_apart_are_read_at_one_address_and_fixed_distances(step: int) -> None:
    x = np.random.default_rng(0).standard_normal((64 * abs(step), 3))
    f = lambda x: (np.exp(x[::step, 1]), fg.at(x)[::step, 2].set(np.cos(x[::step, 0])))
    assert "x ptr>" not in fg.jit(f).lower(x).as_text("llvm")
    agree(f, x, rtol=1e-13)
    agree(f, x[: 37 * abs(step)], rtol=1e-13)
    # of five and a half vectors the last one has a mask, and no other
    sums = lambda x, y: y * fnp.sum(x * x, axis=2)
    y = np.ones(44)
    agree(sums, np.random.default_rng(1).standard_normal((5, 44, 19)), y, rtol=1e-12)
