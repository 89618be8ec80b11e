"""Short axes are written out where that saves memory, or another run over a long one."""

from __future__ import annotations

import re
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import funcgrad as fg
import funcgrad.numpy as fnp
from tests.jitted import working_memory

RNG = np.random.default_rng(3)


def agree(f: Any, *args: Any) -> None:
    """Compiled and evaluated, a function gives the same, to rounding."""
    with fg.disable_jit():
        expected = f(*args)
    found = fg.jit(f)(*args)
    expected, found = (y if isinstance(y, tuple) else (y,) for y in (expected, found))
    for a, b in zip(found, expected, strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        eps = 1e-2 if np.asarray(b).dtype == np.float16 else 3e-5 if np.asarray(b).dtype == np.float32 else 1e-12
        np.testing.assert_allclose(a, b, rtol=eps, atol=eps)


def forces(x: Any, m: Any) -> Any:
    """The accelerations of bodies that attract each other."""
    d = x[None] - x[:, None]
    r2 = fnp.sum(d * d, axis=2) + 0.01
    return fnp.sum((m / (r2 * fnp.sqrt(r2)))[:, :, None] * d, axis=1)


@pytest.mark.parametrize("axes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n", [1, 2, 9, 100, 301])
def test_forces_between_points(n: int, axes: int) -> None:
    agree(forces, RNG.standard_normal((n, axes)), RNG.uniform(1, 2, n))


def test_differences_of_points_are_not_stored() -> None:
    text = fg.jit(forces).lower(RNG.standard_normal((200, 3)), np.ones(200)).as_text("kernels")
    assert text.count("for each of") == 1
    assert len(re.findall("= fold ", text)) == len(re.findall("store ", text)) == 3
    assert working_memory(fg.jit(forces), RNG.standard_normal((200, 3)), np.ones(200)) < 200 * 200 * 8


@pytest.mark.parametrize("dtype", ["f4", "f2", "i1", "u2", "i8", "?"])
@pytest.mark.parametrize("fold", [fnp.sum, fnp.max, fnp.min, fnp.prod, fnp.any, fnp.argmax, fnp.argmin])
def test_folds_of_every_dtype(fold: Any, dtype: str) -> None:
    x = RNG.integers(0, 2, (40, 3)).astype(dtype)
    y = RNG.integers(0, 3, (50, 3)).astype(dtype)

    def f(x: Any, y: Any) -> Any:
        both = x[:, None] * y[None]
        inner = fold(both, axis=2)
        return inner, fold(both, axis=1), fold(both, axis=0), fold(inner[:, :, None] * both, axis=1)

    agree(f, x, y)


def test_a_fold_over_a_long_and_a_short_axis() -> None:
    x = RNG.standard_normal((30, 40, 3))
    agree(lambda x: (x.sum((0, 2)), x.sum((1, 2)), x.max((0, 2)), (x * x.sum(2, keepdims=True)).sum((0, 2))), x)


def test_nan_is_the_maximum_of_a_row() -> None:
    x = np.where(RNG.random((50, 60, 3)) < 0.1, np.nan, RNG.standard_normal((50, 60, 3)))
    agree(lambda x: (x * fnp.max(x, axis=2, keepdims=True)).min(axis=1), x)


def test_what_is_written_is_not_read_later() -> None:
    """A result in the place of an operand waits until the operand has been read to the end."""

    def f(x: Any, y: Any) -> Any:
        d = x[:, None] - y[None]
        x = fg.at(x)[:].add(fnp.sum(d * fnp.sum(d, axis=2, keepdims=True), axis=1))
        return fg.at(x)[1:].multiply(fnp.sum(x * x, axis=1, keepdims=True)[1:])

    x, y = RNG.integers(-5, 5, (20, 3)) * 1.0, RNG.integers(-5, 5, (30, 3)) * 1.0
    agree(f, x, y)
    loop = lambda x, y: fg.lax.fori_loop(0, 3, lambda i, x: f(x, y) * 1e-3, x)
    agree(loop, x, y)


@pytest.mark.parametrize("n, m", [(20, 30), (7, 64), (300, 1)])
def test_what_is_folded_and_returned(n: int, m: int) -> None:
    def f(p: Any, q: Any) -> Any:
        d = p[:, None] - q[None]
        x = d * fnp.sum(d * d, axis=2, keepdims=True)
        return x.sum(axis=1), x.sum(axis=0), fg.at(x)[0].set(1.0)

    agree(f, RNG.standard_normal((n, 3)), RNG.standard_normal((m, 3)))


@pytest.mark.parametrize("axis", [0, 1])
def test_elements_of_a_row_that_are_made_in_several_runs(axis: int) -> None:
    def f(x: Any) -> Any:
        y = x - fnp.max(x, axis=axis, keepdims=True)
        return fnp.stack([x, y, fnp.exp(y)], axis=2), fnp.stack([y, y / fnp.sum(y, axis=axis, keepdims=True)], axis=2)

    agree(f, RNG.standard_normal((60, 80)))
    agree(f, RNG.standard_normal((64, 64)))


def test_all_is_read_before_anything_is_written() -> None:
    """A result may have the memory of what the other one of two kernels reads."""

    def f(c: Any, x: Any, y: Any) -> Any:
        rest = fnp.sum(x) * 0.0
        scaled = c * y[0]
        return scaled, fg.at((c * x[0]) * y)[1].add(scaled), rest + fnp.zeros(3)

    agree(f, 1.5, np.array([0.7, 2.0]), np.array([1.0, 2.0, 3.0]))

    def branches(x: Any) -> Any:
        return fg.lax.cond(x[0] > 0.5, lambda v: fnp.sin(v).sum() * v[0], lambda v: (v**3).sum() + x[1], x)

    for x in ([0.6, 0.3, 0.4], [0.2, 0.3, 0.4]):
        agree(fg.grad(branches), np.array(x))
        agree(lambda x: fg.grad(lambda x: fnp.sum(fg.grad(branches)(x) ** 2))(x), np.array(x))


def test_what_a_kernel_loads_again_in_another_run_is_passed_on() -> None:
    """When its short fold is a sum, there is one run, in which nothing can be loaded that is stored at its end."""

    def f(p: Any, q: Any, w: Any) -> Any:
        x = w * (p[:, None] - q[None])
        u = fnp.stack([x, 2 * x, x - 1], axis=-1)
        return fnp.sum(fnp.sin(0.1 * (u - fnp.mean(u, axis=-1, keepdims=True))))

    args = RNG.standard_normal((9, 4)), RNG.standard_normal((16, 4)), RNG.standard_normal(4)
    agree(f, *args)
    agree(fg.grad(f, argnums=(0, 1, 2)), *args)
    agree(lambda x: fnp.sum(x * fg.nn.softmax(fnp.exp(x), axis=-1), axis=(0, 1)), RNG.standard_normal((30, 40, 3)))


@pytest.mark.parametrize("shape", [(3, 100), (4, 33), (100, 3), (2, 3, 50)])
def test_of_values_that_go_to_one_place_the_last_one_stays(shape: tuple[int, ...]) -> None:
    x, i, y = np.zeros(7), RNG.integers(0, 7, shape), RNG.standard_normal(shape)
    agree(lambda x, i, y: fg.at(x)[i].set(fnp.sin(y) * 2), x, i, y)


def test_what_a_kernel_reads_of_its_own_results_is_written_before() -> None:
    """A softmax stores its exponentials, and reads them when their sum is known."""

    def f(x: Any) -> Any:
        e = fnp.exp(x - fnp.max(x, axis=0, keepdims=True))
        return fnp.sum(e / fnp.sum(e, axis=0, keepdims=True))

    def g(x: Any, i: Any) -> Any:
        e = fnp.sum(x, axis=0)[i]
        return fnp.mean(e - fnp.sum(e)), fnp.sum(e)

    agree(f, RNG.standard_normal((4, 5)))
    agree(g, RNG.standard_normal((3, 1)) + 1j * RNG.standard_normal((3, 1)), np.array([0, -1]))


def test_positions_of_each_coordinate() -> None:
    x, i = RNG.standard_normal((40, 3)), RNG.integers(-40, 40, (50, 3))
    agree(lambda x, i: (fnp.take_along_axis(x, i, axis=0) * x[None, 1]).sum(axis=0), x, i)
    agree(lambda x, i: fg.at(x)[i, fnp.arange(3)].add(1.5 * x[i, 0]), x, i)
    agree(lambda x, i: (x[i[:, None, :], 1] * x[i, 0][:, :, None]).sum(axis=0), x, i)


def test_gradients_of_functions_of_distances() -> None:
    x, y = RNG.standard_normal((60, 3)), RNG.standard_normal((70, 3))

    def nearest(x: Any, y: Any) -> Any:
        return fnp.sum(fnp.min(fnp.sum((x[:, None] - y[None]) ** 2, axis=2), axis=1))

    def energy(x: Any, y: Any) -> Any:
        return fnp.sum(1 / fnp.sqrt(fnp.sum((x[:, None] - y[None]) ** 2, axis=2) + 0.1))

    for f in (nearest, energy):
        agree(fg.grad(f, argnums=(0, 1)), x, y)
        agree(lambda x, y, f=f: fg.grad(lambda x: fnp.sum(fg.grad(f)(x, y) ** 2))(x), x, y)


@given(st.data())
def test_short_and_long_axes_in_any_order(data: st.DataObject) -> None:
    lengths = data.draw(st.permutations([2, data.draw(st.sampled_from([3, 4])), 9, 17]))
    x = RNG.integers(-3, 4, lengths) * 1.0
    folded = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True))
    later = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
    how = data.draw(st.sampled_from([fnp.sum, fnp.max]))
    turned = data.draw(st.permutations(range(4)))

    def f(x: Any) -> Any:
        d = x - fnp.flip(x, axis=data_axis)
        inner = how(d * d, axis=tuple(folded), keepdims=True)
        both = (inner * d + x).transpose(turned)
        return both.sum(axis=tuple(later)), both.max(axis=tuple(later))

    data_axis = data.draw(st.integers(0, 3))
    for a, b in zip(fg.jit(f)(x), f(x), strict=True):
        np.testing.assert_array_equal(a, b)


def drawn(rng: np.random.Generator) -> tuple[Any, tuple[Any, ...]]:
    """A function of points, with sums, maxima, updates and pieces along any axis, and its arguments."""
    n, m, axes = rng.choice([1, 2, 3, 5, 9, 17, 33]), rng.choice([2, 3, 8, 16, 20]), rng.choice([1, 2, 3, 4, 5])
    seed, count = int(rng.integers(1 << 30)), int(rng.integers(3, 9))

    def f(p: Any, q: Any, w: Any) -> Any:
        draw = np.random.default_rng(seed)
        values = [p, q, w, p[:, None] - q[None]]
        for _ in range(count):
            x, y = (values[draw.integers(len(values))] for _ in range(2))
            axis = int(draw.integers(x.ndim))
            both = np.broadcast_shapes(x.shape[-1:], y.shape[-1:]) if x.shape[-1] == y.shape[-1] else None
            match draw.integers(8):
                case 0 if both and min(x.ndim, y.ndim) == 1:
                    z = x * y
                case 1 if both and max(x.ndim, y.ndim) == 2:
                    z = x[..., None, :] - y
                case 2 if x.ndim > 1:
                    z = x.sum(axis=axis)
                case 3:
                    z = x - fnp.max(x, axis=axis, keepdims=True)
                case 4:
                    z = fg.at(x)[int(draw.integers(x.shape[0]))].add(1.0)
                case 5:
                    z = x - 0.25 * fnp.sum(x, axis=axis, keepdims=True)
                case 6:
                    z = fnp.stack([x, x * 2.0, x - 1.0], axis=-1)
                case _:
                    z = x[::-1] * 0.5
            if z.size < 100_000:
                values.append(z)
        made = values[4:] or values
        return tuple(made[i] for i in draw.permutation(len(made))[:3])

    return f, tuple(rng.integers(-3, 4, shape) * 1.0 for shape in ((n, axes), (m, axes), (axes,)))


@pytest.mark.parametrize("seed", range(60))
def test_functions_drawn_by_chance(seed: int) -> None:
    f, args = drawn(np.random.default_rng(seed))
    agree(f, *args)
    # the numbers are exact, so that maxima are taken of the same ones
    agree(fg.grad(lambda *args: sum(fnp.sum(fnp.sin(0.1 * y)) for y in f(*args)), argnums=(0, 1, 2)), *args)


@pytest.mark.parametrize("shape", [(64, 33, 1), (5, 7, 1), (9, 8, 1)])
def test_a_fold_over_one_index_does_not_read_what_it_has_yet_to_store(shape: tuple[int, ...]) -> None:
    def f(x: Any) -> Any:
        half = x * 0.5 - x
        y = fnp.transpose(half + fnp.flip(fnp.tanh(half), 1), (1, 0, 2))
        m = fnp.max(y, axis=2, keepdims=True)
        return fnp.exp(y - 0.5 * m), m, y

    compiled = fg.jit(f)
    for _ in range(3):
        x = RNG.standard_normal(shape)
        with fg.disable_jit():
            expected = f(x)
        for a, b in zip(compiled(x), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
