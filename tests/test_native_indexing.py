"""Machine code that reads and writes at indices which only the call knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.compiler.native.dispatch import runtime
from funcgrad.compiler.native.nests.positions import BLOCK
from tests.jitted import native

pytestmark = pytest.mark.skipif(not runtime.available(), reason="no LLVM here")
SIGNED, UNSIGNED = ["i1", "i2", "i4", "i8"], ["u1", "u2", "u4", "u8"]
WRITES = ["set", "add", "subtract", "multiply", "min", "max"]
# shorter than a block of indices, one block, and blocks with a rest
COUNTS = [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5]


def agree(f: Callable[..., Any], *args: Any, rtol: float = 0) -> None:
    y, expected = native(f, *args)(*args), f(*args)
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y, expected, rtol=rtol)


def written(name: str) -> Callable[..., Any]:
    """`x.at[index].name(v)`, with the index in between."""

    def f(x: Any, v: Any, *index: Any) -> Any:
        return getattr(fg.at(x)[index], name)(v)

    return f


def written_along(name: str, x: Any, v: Any, i: Any) -> Any:
    return getattr(fg.at(x)[:, i], name)(v)


def whole_numbers(shape: tuple[int, ...], seed: int = 0, dtype: str = "f8") -> Any:
    """Of which sums are exact in any order."""
    return np.random.default_rng(seed).integers(0, 9, shape).astype(dtype)


# ── positions


@pytest.mark.parametrize("dtype", SIGNED + UNSIGNED)
def test_an_index_may_have_any_integer_dtype(dtype: str) -> None:
    for length, count in ((100, 3 * BLOCK), (300, 2 * BLOCK + 3), (70_000, BLOCK)):
        high = min(length, np.iinfo(dtype).max + 1)
        low = 0 if dtype[0] == "u" else max(-length, np.iinfo(dtype).min)
        index = np.random.default_rng(0).integers(low, high, count).astype(dtype)
        x, v = whole_numbers((length,)), whole_numbers((count,), 1)
        agree(lambda x, i: x[i], x, index)
        agree(lambda x, i: x[i] * 2, x, np.abs(index.astype("i8")).clip(0, high - 1).astype(dtype))
        for name in WRITES:
            agree(written(name), x, v % 2, index)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", WRITES)
def test_of_equal_positions_all_count_or_the_last_one(name: str, count: int) -> None:
    rng = np.random.default_rng(count)
    for length in (1, 2, 1000):
        for index in (rng.integers(0, length, count), np.sort(rng.integers(-length, length, count))):
            x, v = whole_numbers((length,)), rng.integers(0, 2, count) * 1.0
            agree(written(name), x, v, index)
            agree(lambda x, i: getattr(fg.at(x)[i], name)(1.0), x, index)


@settings(max_examples=60)
@given(
    place=st.integers(0, 3 * BLOCK + 4),
    dtype=st.sampled_from(["i1", "i2", "i4", "i8", "u1", "u8"]),
    negative=st.booleans(),
    length=st.sampled_from([1, 10, 100]),
    writes=st.booleans(),
)
def test_one_index_that_is_out_of_bounds_is_found(
    place: int, dtype: str, negative: bool, length: int, writes: bool
) -> None:
    index = np.random.default_rng(0).integers(0, length, 3 * BLOCK + 5).astype(dtype)
    bad = -length - 1 if negative and dtype[0] == "i" else length
    index[place] = bad
    x = np.zeros(length)
    f: Callable[..., Any] = (lambda x, i: fg.at(x)[i].add(1.0)) if writes else (lambda x, i: x[i])
    jitted = native(f, x, index)
    with pytest.raises(IndexError, match=f"index {bad} is out of bounds for axis 0 with size {length}"):
        jitted(x, index)
    index[place] = 0
    np.testing.assert_array_equal(jitted(x, index), f(x, index))


def test_the_largest_index_of_64_bits_is_out_of_bounds() -> None:
    for bad, dtype in ((2**63, "u8"), (-(2**63), "i8"), (2**63 - 1, "i8")):
        for count in (1, BLOCK):
            index = np.zeros(count, dtype)
            index[-1] = bad
            for f in (lambda x, i: x[i], lambda x, i: fg.at(x)[i].add(1.0)):
                with pytest.raises(IndexError):
                    native(f, np.zeros(3), index)(np.zeros(3), index)


def test_an_error_names_the_axis_of_a_gradient_too() -> None:
    x, i = np.ones((4, 5)), np.array([1, 7])
    with pytest.raises(IndexError, match=r"shape \(4, 5\): index 7 is out of bounds for axis 1 with size 5"):
        fg.jit(fg.grad(lambda x, i: x[:, i].sum()))(x, i)


# ── several axes


def test_indices_of_several_axes_and_axes_between() -> None:
    rng = np.random.default_rng(0)
    x = whole_numbers((6, 7, 8))
    i, j, k = (rng.integers(-n, n, 40) for n in x.shape)
    agree(lambda x, i: x[:, i], x, j)
    agree(lambda x, i: x[..., i], x, k)
    agree(lambda x, i, j: x[i, :, j], x, i, k)
    agree(lambda x, i, j: x[i[:, None], j], x, i[:5], j)
    agree(lambda x, i, j, k: x[i, j, k], x, i, j, k)
    agree(lambda x, i: x[::-2, i, 1:5], x, j)
    for name in WRITES:
        agree(written(name), x, whole_numbers((40, 7, 8), 1), i)
        agree(written(name), x, whole_numbers((40, 8), 1), i, j)
        agree(written(name), x, whole_numbers((40,), 1), i, j, k)
        agree(partial(written_along, name), x, whole_numbers((6, 40, 8), 1), j)


@pytest.mark.parametrize("axis", [0, 1, 2, None])
@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
def test_take(mode: str, axis: int | None) -> None:
    x = whole_numbers((5, 6, 7))
    far = 4 if mode == "raise" else 30
    i = np.random.default_rng(0).integers(-far if mode != "clip" else 0, far, (3, 2))
    agree(lambda x, i: fnp.take(x, i, axis, mode=mode), x, i)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_along_an_axis(axis: int) -> None:
    x = whole_numbers((5, 6, 300))
    i = np.random.default_rng(0).integers(-x.shape[axis], x.shape[axis], x.shape)
    agree(lambda x, i: fnp.take_along_axis(x, i, axis), x, i)
    agree(lambda x, i: fnp.put_along_axis(x, i, 3.0, axis), x, i)
    agree(fg.grad(lambda x, i: (fnp.take_along_axis(x, i, axis) ** 2).sum()), x, i)


def test_dynamic_slices_are_clamped() -> None:
    x = whole_numbers((5, 6))
    for start in (-9, -3, 0, 2, 4, 9):
        agree(lambda x, i: fg.lax.dynamic_slice(x, (i, 1), (2, 3)), x, start)
        agree(lambda x, i: fg.lax.dynamic_update_slice(x, x[:2, :3] + 50, (i, 1)), x, start)


def test_a_block_of_two_index_arrays_is_looked_at_in_both() -> None:
    rng = np.random.default_rng(0)
    x, v = whole_numbers((30, 40)), whole_numbers((2 * BLOCK,), 1)
    i, j = rng.integers(0, 30, 2 * BLOCK).astype("i4"), rng.integers(0, 40, 2 * BLOCK).astype("u1")
    f = written("add")
    agree(f, x, v, i, j)
    for index, bad in ((i, 30), (j, 40)):
        jitted, kept = native(f, x, v, i, j), index[-1]
        index[-1] = bad
        with pytest.raises(IndexError, match=f"index {bad} is out of bounds"):
            jitted(x, v, i, j)
        index[-1] = kept


def test_an_index_that_is_computed_is_checked_too() -> None:
    x, i = np.zeros(10), np.arange(2 * BLOCK)
    agree(lambda x, i: fg.at(x)[i % 10].add(1.0), x, i)
    with pytest.raises(IndexError, match="index 10 is out of bounds"):
        native(lambda x, i: fg.at(x)[i % 11].add(1.0), x, i)(x, i)


# ── no elements


def test_nothing_is_read_and_nothing_written() -> None:
    none = np.zeros(0, int)
    for x in (np.zeros((0, 3)), np.ones((4, 3))):
        for f in (lambda x, i: x[i], lambda x, i: fg.at(x)[i].add(1.0)):
            np.testing.assert_array_equal(fg.jit(f)(x, none), f(x, none))
    with pytest.raises(IndexError, match="index 0 is out of bounds for axis 0 with size 0"):
        fg.jit(lambda x, i: x[i])(np.zeros((0, 3)), np.zeros(1, int))


# ── gradients


@given(seed=st.integers(0, 99), count=st.sampled_from([1, 5, 40]))
def test_the_pullback_of_a_gather_adds_up(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    x, g, i = rng.standard_normal((6, 3)), rng.standard_normal((count, 3)), rng.integers(-6, 6, count)
    expected = np.zeros_like(x)
    np.add.at(expected, i, g)
    np.testing.assert_allclose(native(fg.grad(lambda x: (x[i] * g).sum()), x)(x), expected, rtol=1e-12, atol=1e-12)


def test_what_was_written_over_has_no_gradient() -> None:
    x, v, i = np.ones(5), np.array([2.0, 3.0, 4.0]), np.array([1, 3, 1])
    for wanted in (0, 1):
        f = fg.grad(lambda x, v, i: (fg.at(x)[i].set(v) ** 2).sum(), wanted)
        np.testing.assert_array_equal(fg.jit(f)(x, v, i), f(x, v, i))


NO_ELEMENTS: dict[str, Callable[..., Any]] = {
    "read": lambda x, i: x[i, :0],
    "read and summed": lambda x, i: x[i, :0].sum() + 1,
    "written": lambda x, i: fg.at(np.sin(x))[i, :0].set(1.0),
}


@pytest.mark.parametrize("name", NO_ELEMENTS)
def test_an_index_is_wrong_even_if_no_element_is_there_to_be_read_or_written(name: str) -> None:
    f = NO_ELEMENTS[name]
    compiled = fg.jit(f)
    x = np.ones((5, 5))
    np.testing.assert_array_equal(compiled(x, 4), f(x, 4))
    with pytest.raises(IndexError, match="index 7 is out of bounds"):
        compiled(x, 7)
