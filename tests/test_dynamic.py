"""A slice whose start is a value is clamped into the array; its pullback puts the cotangent back where it came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
from funcgrad import errors, lax
from funcgrad.core.ir import evaluate
from funcgrad.ops.dynamic import (
    DynamicSlice,
    DynamicUpdateSlice,
    dynamic_index_in_dim,
    dynamic_slice,
    dynamic_slice_in_dim,
    dynamic_update_index_in_dim,
    dynamic_update_slice,
    dynamic_update_slice_in_dim,
)

X = np.arange(12.0).reshape(3, 4)


def corner(shape: tuple[int, ...], sizes: tuple[int, ...], starts: Any) -> tuple[slice, ...]:
    """Where the slice lies."""
    first = [min(max(0, i + n if i < 0 else i), n - m) for i, n, m in zip(starts, shape, sizes, strict=True)]
    return tuple(slice(i, i + m) for i, m in zip(first, sizes, strict=True))


@st.composite
def slices(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    sizes = tuple(draw(st.integers(0, n)) for n in shape)
    starts = tuple(draw(st.integers(-n - 3, n + 3)) for n in shape)
    return np.arange(float(np.prod(shape))).reshape(shape), sizes, starts


def in_one_jaxpr(f: Any, *args: Any) -> Any:
    """`f(*args)`, computed by a program that was made without knowing the numbers."""
    return evaluate(fg.make_jaxpr(f)(*args), args)[0]


@settings(max_examples=50)
@given(slices())
def test_the_slice_begins_at_the_clamped_start(drawn: Any) -> None:
    x, sizes, starts = drawn
    expected = x[corner(x.shape, sizes, starts)]
    np.testing.assert_array_equal(dynamic_slice(x, starts, sizes), expected)
    np.testing.assert_array_equal(dynamic_slice(x, np.array(starts), sizes), expected)
    np.testing.assert_array_equal(in_one_jaxpr(lambda x, *i: dynamic_slice(x, i, sizes), x, *starts), expected)
    np.testing.assert_array_equal(in_one_jaxpr(lambda i: dynamic_slice(x, i, sizes), np.array(starts)), expected)


@settings(max_examples=50)
@given(slices())
def test_what_was_written_is_what_is_read_there(drawn: Any) -> None:
    x, sizes, starts = drawn
    before = x.copy()
    v = -1 - np.arange(float(np.prod(sizes))).reshape(sizes)
    y = dynamic_update_slice(x, v, starts)
    np.testing.assert_array_equal(dynamic_slice(y, starts, sizes), v)
    np.testing.assert_array_equal(dynamic_update_slice(y, dynamic_slice(x, starts, sizes), starts), x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(in_one_jaxpr(lambda x, v, *i: dynamic_update_slice(x, v, i), x, v, *starts), y)


@settings(max_examples=30)
@given(slices())
def test_reading_and_writing_are_adjoint(drawn: Any) -> None:
    x, sizes, starts = drawn
    random = np.random.default_rng(0)
    g = random.standard_normal(sizes)
    y, pullback = fg.vjp(lambda x: dynamic_slice(x, starts, sizes), x)
    (ct,) = pullback(g)
    np.testing.assert_array_equal(ct, dynamic_update_slice(np.zeros(x.shape), g, starts))
    np.testing.assert_allclose((g * y).sum(), (ct * x).sum())


def test_the_pullback_of_a_write_knows_what_was_written_over() -> None:
    ct_x, ct_v = fg.grad(lambda x, v: (dynamic_update_slice(x, v, (2,)) * [1, 2, 4, 8]).sum(), (0, 1))(
        np.ones(4), np.ones(2)
    )
    np.testing.assert_array_equal(ct_x, [1, 2, 0, 0])
    np.testing.assert_array_equal(ct_v, [4, 8])


def test_what_was_written_over_is_structurally_zero() -> None:
    def f(x: Any) -> Any:
        return dynamic_update_slice(np.log(x), np.zeros(1), (0,)).sum()

    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(fg.grad(f)(np.array([0.0, 2.0])), [0.0, 0.5])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_of_higher_order(order: int) -> None:
    def f(x: Any) -> Any:
        part = dynamic_slice(x, (1,), (2,))
        return (dynamic_update_slice(x**2, part**3, (7,)) ** 2).sum()

    if order == 3:
        f = lambda x, f=f: fg.grad(f)(x).sum()
    fg.testing.check_grads(f, (np.array([0.5, 1.5, -0.5, 1.0]),), order=min(order, 2), rtol=1e-5)


def test_the_pullback_inside_a_program_does_not_need_the_start() -> None:
    def f(x: Any, i: Any) -> Any:
        return fg.grad(lambda x: (dynamic_slice(x, (i,), (2,)) ** 2).sum())(x)

    x = np.array([1.0, 2.0, 3.0])
    for i in (0, 1, 9, -1):
        np.testing.assert_array_equal(in_one_jaxpr(f, x, i), f(x, i))
    assert "dynamic_update_slice" in repr(fg.make_jaxpr(f)(x, 0))


def test_slices_of_one_array_are_collected_into_one_buffer() -> None:
    def total(x: Any) -> Any:
        return sum(dynamic_slice(x, (i,), (1,))[0] ** 2 for i in range(9))

    np.testing.assert_array_equal(fg.grad(total)(np.ones(10)), [*2 * np.ones(9), 0])
    equations = fg.make_jaxpr(fg.grad(total))(np.ones(10)).equations
    names = [equation.primitive.name for equation in equations if 10 in equation.outputs[0].shape]
    assert names == ["index_add"]


# ── along one axis


def test_index_in_dim() -> None:
    np.testing.assert_array_equal(dynamic_index_in_dim(X, 1), X[1:2])
    np.testing.assert_array_equal(dynamic_index_in_dim(X, -1, axis=-1), X[:, 3:])
    np.testing.assert_array_equal(dynamic_index_in_dim(X, 9, axis=1, keepdims=False), X[:, 3])
    np.testing.assert_array_equal(in_one_jaxpr(lambda i: dynamic_index_in_dim(X, i, keepdims=False), np.array(2)), X[2])


def test_slice_in_dim() -> None:
    np.testing.assert_array_equal(dynamic_slice_in_dim(X, 1, 2), X[1:3])
    np.testing.assert_array_equal(dynamic_slice_in_dim(X, 1, 2, axis=-1), X[:, 1:3])


def test_update_in_dim() -> None:
    expected = X.copy()
    expected[:, 2:] = -1
    np.testing.assert_array_equal(dynamic_update_slice_in_dim(X, -np.ones((3, 2)), 3, axis=1), expected)
    expected = X.copy()
    expected[1] = -1
    np.testing.assert_array_equal(dynamic_update_index_in_dim(X, -np.ones(4), 1, axis=0), expected)
    np.testing.assert_array_equal(dynamic_update_index_in_dim(X, -np.ones((1, 4)), 1, 0), expected)
    np.testing.assert_array_equal(
        fg.make_jaxpr(dynamic_update_index_in_dim, (3,))(X, X[0], 1, 0).out_types[0].shape, (3, 4)
    )


# ── in every transformation


def test_slices_in_jit_vmap_and_grad() -> None:
    def moved(x: Any, i: Any) -> Any:
        return lax.dynamic_update_slice_in_dim(x, lax.dynamic_slice_in_dim(x, i, 2) ** 2, i + 1, 0)

    x, starts = np.arange(12.0).reshape(4, 3), np.array([0, 1, 9, -1])
    gradient = fg.grad(lambda x, i: (moved(x, i) ** 2).sum())
    for f in (moved, gradient):
        rows = np.stack([f(x, i) for i in starts])
        np.testing.assert_allclose(np.stack([fg.jit(f)(x, i) for i in starts]), rows)
        np.testing.assert_allclose(fg.vmap(f, (None, 0))(x, starts), rows)
        np.testing.assert_allclose(fg.jit(fg.vmap(f))(np.stack([x] * 4), starts), rows)
    np.testing.assert_array_equal(x, np.arange(12.0).reshape(4, 3))


# ── dtypes, and what may be overwritten


def test_the_result_has_the_dtype_of_the_array() -> None:
    x = np.ones(3, np.float32)
    assert dynamic_slice(x, (np.int8(1),), (2,)).dtype == np.float32
    assert dynamic_update_slice(x, np.zeros(1), (np.uint64(1),)).dtype == np.float32
    assert fg.grad(lambda x: dynamic_slice(x, (1,), (2,)).sum())(x).dtype == np.float32


def test_a_small_dtype_of_the_start_does_not_overflow() -> None:
    x = np.arange(1000.0)
    assert dynamic_slice(x, (np.int8(-1),), (1,)) == 999
    batch = DynamicSlice((1,)).batch((False, True), x, np.array([-1, 100], np.int8))
    np.testing.assert_array_equal(batch, [[999], [100]])


def test_overwriting_takes_the_memory_of_the_array() -> None:
    x = np.zeros(4)
    assert DynamicUpdateSlice((2,)).overwrite(x, np.ones(2), 1) is x
    np.testing.assert_array_equal(x, [0, 1, 1, 0])


def test_numbers_and_lists_are_arrays() -> None:
    np.testing.assert_array_equal(dynamic_slice([1, 2, 3], [1], [2]), [2, 3])
    assert dynamic_slice(2.0, (), ()) == 2.0
    assert dynamic_update_slice(2.0, 3.0, ()) == 3.0


def test_a_start_per_row_reads_rows_of_one_array_without_copying_it() -> None:
    x = np.arange(20.0).reshape(10, 2)
    jaxpr = fg.make_jaxpr(lambda i: DynamicSlice((1, 2)).batch((False, True, False), x, i, 0))(np.arange(4))
    assert [e.primitive.name for e in jaxpr.equations if e.primitive.name == "broadcast_to"] == []
    np.testing.assert_array_equal(evaluate(jaxpr, (np.array([3, -1, 99, 0]),))[0], x[[3, 9, 9, 0]][:, None])


# ── misuse


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize(
    ("do", "error", "words"),
    [
        (lambda x, i: dynamic_slice(x, (i, 0), (4, 1)), errors.ShapeError, "(4, 1) does not fit | (3, 4)"),
        (lambda x, i: dynamic_slice(x, (i, 0), (-1, 1)), errors.ShapeError, "(-1, 1) does not fit"),
        (lambda x, i: dynamic_slice(x, (i, 0), (1,)), errors.ShapeError, "(1,) does not fit | each of the 2 axes"),
        (lambda x, i: dynamic_slice(x, (i,), (1, 1)), errors.ShapeError, "1 start indices | (3, 4) | (0, 0)"),
        (lambda x, i: dynamic_slice(x, i, (1, 1)), errors.ShapeError, "start_indices must be a sequence | (start,)"),
        (lambda x, i: dynamic_slice(x, (i, i), 1), errors.ShapeError, "slice_sizes must be a sequence | (1,)"),
        (lambda x, i: dynamic_slice(x, (i, 0.5), (1, 1)), errors.DTypeError, "axis 1 is float64[] | astype(int)"),
        (lambda x, i: dynamic_slice(x, (i, True), (1, 1)), errors.DTypeError, "axis 1 is bool[]"),
        (lambda x, i: dynamic_slice(x, (i, np.array([1])), (1, 1)), errors.DTypeError, "int64[1] | start[0]"),
        (lambda x, i: dynamic_update_slice(x, X.T, (i, 0)), errors.ShapeError, "(4, 3) does not fit"),
        (lambda x, i: dynamic_update_slice(x, 1.0, (i, 0)), errors.ShapeError, "() does not fit"),
        (lambda x, i: dynamic_update_slice(x, 1j * X, (i, 0)), errors.DTypeError, "complex128[3,4] | x.astype"),
        (lambda x, i: dynamic_index_in_dim(x, i, axis=2), errors.AxisError, "axis 2"),
        (lambda x, i: dynamic_slice_in_dim(x, i, 5, axis=1), errors.ShapeError, "(3, 5) does not fit"),
    ],
)
def test_misuse_is_answered_with_the_values(do: Any, error: Any, words: str, staged: bool) -> None:
    with pytest.raises(error) as caught:
        fg.make_jaxpr(do)(X, 0) if staged else do(X, 0)
    for part in words.split(" | "):
        assert part in str(caught.value)
    assert "test_dynamic.py" in str(caught.value)


def test_a_size_that_is_traced_is_refused() -> None:
    with pytest.raises(errors.TracedShapeError, match="argument 'n'"):
        fg.make_jaxpr(lambda n: dynamic_slice(X, (0, 0), (n, 1)))(2)
