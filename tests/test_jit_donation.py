"""Donated arguments: their memory becomes that of results where that changes nothing else."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core import config
from tests.jitted import VECTOR

X = np.arange(6.0).reshape(2, 3)
Y = np.full((2, 3), 10.0)

pytestmark = pytest.mark.skipif(not config.NATIVE, reason="NumPy overwrites nothing")


def donating(f: Callable[..., Any], *places: int) -> Any:
    return fg.jit(f, donate_argnums=places)


def test_a_result_is_the_array_that_was_donated() -> None:
    f = donating(lambda x, y: 2 * x + y, 0)
    x = X.copy()
    for k in range(4):
        expected = 2 * x + Y
        y = f(x, Y)
        assert y is x, k
        np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(Y, 10.0)


@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 5), (500,)])
def test_a_result_of_another_shape_than_what_was_donated_has_its_own(shape: tuple[int, ...]) -> None:
    f = donating(lambda x: fnp.expand_dims(fnp.sin(x), -1), 0)
    g = donating(lambda x: fnp.sin(x).T, 0)
    assert f(np.ones(shape)).shape == (*shape, 1)
    assert g(np.ones(shape)).shape == shape[::-1]


def test_what_is_not_donated_stays_as_it_is() -> None:
    f = donating(lambda x, y: x + y, 1)
    x, y = X.copy(), Y.copy()
    assert f(x, y) is y
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, X + Y)


def test_by_name_in_containers_and_beside_static_arguments() -> None:
    f = fg.jit(lambda n, p, *, q: {"a": p["a"] * n, "b": p["b"] + q["c"]}, static_argnums=0, donate_argnames=("p", "q"))
    p, c = {"a": X.copy(), "b": VECTOR.copy()}, VECTOR.copy()
    for _ in range(3):
        expected = {"a": p["a"] * 2, "b": p["b"] + c}
        result = f(2, p, q={"c": c})
        assert result["a"] is p["a"] and (result["b"] is p["b"] or result["b"] is c)
        np.testing.assert_array_equal(result["a"], expected["a"])
        np.testing.assert_array_equal(result["b"], expected["b"])


def test_a_training_step_needs_no_second_set_of_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CHECK", False)

    def step(w: Any, x: Any) -> Any:
        return w - 0.1 * x * w

    w, x = np.ones((1000, 100)), np.ones((1000, 100))
    peaks = {}
    for name, f in {"donated": donating(step, 0), "kept": fg.jit(step)}.items():
        f.lower(w, x).compile()
        f(w.copy(), x)
        given = w.copy()
        tracemalloc.start()
        f(given, x)
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks["donated"] < 50_000 and peaks["kept"] >= w.nbytes


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "read in another order": lambda x, y: x[::-1] + y,
    "read transposed and reshaped": lambda x, y: x.T.reshape(2, 3) * y,
    "read again later": lambda x, y: (x + y, fnp.sum(x, 1), fnp.sum(x * y)),
    "read by a product": lambda x, y: ((x @ y.T) @ x, x * 2),
    "read along a row": lambda x, y: x - fnp.max(x, 1, keepdims=True) + y,
    "read broadcast": lambda x, y: x + x[0] + y,
    "softmax": lambda x, y: fnp.exp(x - y) / fnp.sum(fnp.exp(x - y), 1, keepdims=True),
    "several results": lambda x, y: (x + 1, y - x, x * y),
    "not read": lambda x, y: y * 2,
    "returned": lambda x, y: (x, x + y),
    "of another dtype": lambda x, y: (x + y).astype(np.float32),
    "gathered": lambda x, y: x[np.array([1, 0])] + y,
    "written to": lambda x, y: fg.at(x)[0].set(y[1]) + x,
    "rolled": lambda x, y: fnp.roll(x, 1, 1) + fnp.cumsum(y, 1),
}


@pytest.mark.parametrize("donated", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS)
def test_results_are_what_they_are_without(f: Callable[..., Any], donated: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    for shape in ((2, 3), (2, 40)) if f is not FUNCTIONS["read transposed and reshaped"] else ((2, 3),):
        x, y = random.normal(size=(2, *shape))
        expected = fg.tree.leaves(f(x.copy(), y.copy()))
        args = [x.copy(), y.copy()]
        for got, wanted in zip(fg.tree.leaves(donating(f, *donated)(*args)), expected, strict=True):
            np.testing.assert_allclose(got, wanted, 1e-13, 1e-13)
        for i, before in enumerate((x, y)):
            if i not in donated:
                np.testing.assert_array_equal(args[i], before)


def shared() -> dict[str, tuple[Any, Any]]:
    """Pairs of arrays that may not be overwritten, one for the other's sake or for its own."""
    x, wide = X.copy(), np.arange(12.0).reshape(2, 6)
    fixed = X.copy()
    fixed.flags.writeable = False
    raw = np.zeros(X.nbytes + 1, np.uint8)[1:].view(float).reshape(X.shape)
    line = np.arange(9.0)
    return {
        "twice the same": (x, x),
        "a view of the other": (x, x[:]),
        "the other way round": (x[:], x),
        "two views that overlap": (line[:6].reshape(2, 3), line[3:].reshape(2, 3)),
        "read-only": (fixed, Y.copy()),
        "strided": (wide[:, ::2], Y.copy()),
        "strided over the other": (wide[:, ::2], wide[:, 1::2]),
        "unaligned": (raw, Y.copy()),
        "byte-swapped": (X.astype(">f8"), Y.copy()),
        "broadcast": (np.broadcast_to(1.0, (2, 3)), Y.copy()),
        "subset": (line[:6].reshape(2, 3), line[None, :3]),
    }


@pytest.mark.parametrize("name", shared())
def test_what_shares_memory_or_cannot_be_written_to_is_left_alone(name: str) -> None:
    f = donating(lambda x, y: x * 2 + y, 0)
    for _ in range(3):
        x, y = shared()[name]
        before = x.copy(), y.copy()
        z = f(x, y)
        np.testing.assert_array_equal(z, before[0] * 2 + before[1])
        np.testing.assert_array_equal(x, before[0])
        np.testing.assert_array_equal(y, before[1])
        assert not np.shares_memory(z, x) and z.flags.writeable


def test_views_that_do_not_overlap_are_overwritten() -> None:
    whole = np.zeros((3, 4))
    f = donating(lambda x, y: x + y + 1, 0)
    for k in range(1, 4):
        f(whole[0], whole[1])
        np.testing.assert_array_equal(whole, [[k] * 4, [0] * 4, [0] * 4])


def test_a_closed_over_array_may_be_the_donated_one() -> None:
    w = VECTOR.copy()
    f = donating(lambda x: x + w, 0)
    np.testing.assert_array_equal(f(w), 2 * VECTOR)
    np.testing.assert_array_equal(w, VECTOR)


def test_an_error_leaves_donated_arrays_as_they_were() -> None:
    f = donating(lambda x, i: x[i] + x * 2, 0)
    x = VECTOR.copy()
    for _ in range(3):
        with pytest.raises(IndexError):
            f(x, 7)
        np.testing.assert_array_equal(x, VECTOR)
    np.testing.assert_array_equal(f(x, 1), VECTOR[1] + VECTOR * 2)


def test_traces_and_watches_overwrite_nothing() -> None:
    f = donating(lambda x: x * x, 0)
    x = VECTOR.copy()
    np.testing.assert_array_equal(fg.grad(lambda x: fnp.sum(f(x)))(x), 2 * VECTOR)
    np.testing.assert_array_equal(fg.jit(lambda x: f(x) + x)(x), VECTOR * VECTOR + VECTOR)
    np.testing.assert_array_equal(fg.vmap(f)(x), VECTOR * VECTOR)
    with fg.debug_nans():
        np.testing.assert_array_equal(f(x), VECTOR * VECTOR)
    with fg.disable_jit():
        np.testing.assert_array_equal(f(x), VECTOR * VECTOR)
    np.testing.assert_array_equal(x, VECTOR)
    assert f(x) is x


def test_numbers_and_arrays_without_axes_have_no_memory_to_give() -> None:
    f = donating(lambda x: x + 1, 0)
    for x in (1.0, np.float64(1), np.array(1.0), 1):
        assert f(x) == 2 and x == 1
