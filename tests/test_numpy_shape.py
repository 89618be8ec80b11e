"""Functions that move elements: each gives what NumPy's function of its name gives, and its pullback moves them back.

For each function a strategy draws a call: arrays, and what is done with them. The call is made with NumPy, by funcgrad
on plain arrays, on traced arrays, by NumPy on traced arrays, and on types alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core.ir import evaluate
from funcgrad.numpy import _joining, _shape
from funcgrad.transforms.tracing.stage import stage

DTYPES = ["float64", "float32", "float16", "complex128", "int64", "bool"]


@dataclass(frozen=True)
class Call:
    """Arrays, and what is done with them in a namespace: `apply(np, *arrays)`."""

    arrays: tuple[Any, ...]
    apply: Callable[..., Any]


def numbers(shape: tuple[int, ...], dtype: str = "float64", start: int = 1) -> Any:
    return np.asarray(np.arange(start, start + math.prod(shape)).reshape(shape) / 4, dtype)


def arrays(min_dims: int = 0, max_dims: int = 3) -> st.SearchStrategy[Any]:
    shapes = hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=0, max_side=3)
    return st.builds(numbers, shapes, st.sampled_from(DTYPES))


def axes_of(x: Any) -> st.SearchStrategy[int]:
    return st.integers(-x.ndim, x.ndim - 1)


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


@st.composite
def reshape(draw: st.DrawFn) -> Call:
    x = draw(arrays())
    shape: list[int] = []
    rest = x.size
    while rest > 1 or draw(st.booleans()):
        shape.append(draw(st.sampled_from(divisors(rest))) if rest else draw(st.integers(0, 2)))
        rest //= max(shape[-1], 1)
        if len(shape) == 4:
            break
    if rest != 1:
        shape = [*shape, rest] if x.size else [*shape, 0]
    if shape and x.size and draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = -1
    order = draw(st.sampled_from(["C", "F", "A"]))
    new: Any = shape[0] if len(shape) == 1 and draw(st.booleans()) else draw(st.sampled_from([tuple, list]))(shape)
    return Call((x,), lambda m, x: m.reshape(x, new, order=order))


@st.composite
def ravel(draw: st.DrawFn) -> Call:
    order = draw(st.sampled_from(["C", "F", "A", "K"]))
    return Call((draw(arrays()),), lambda m, x: m.ravel(x, order))


@st.composite
def transpose(draw: st.DrawFn, name: str = "transpose") -> Call:
    x = draw(arrays())
    order = draw(st.permutations(range(x.ndim)))
    axes = draw(st.none() | st.just(tuple(order)) | st.just([i - x.ndim for i in order]))
    return Call((x,), lambda m, x: getattr(m, name)(x, axes))


@st.composite
def matrix_transpose(draw: st.DrawFn) -> Call:
    return Call((draw(arrays(2)),), lambda m, x: m.matrix_transpose(x))


@st.composite
def swapaxes(draw: st.DrawFn) -> Call:
    x = draw(arrays(1))
    i, j = draw(axes_of(x)), draw(axes_of(x))
    return Call((x,), lambda m, x: m.swapaxes(x, i, j))


@st.composite
def moveaxis(draw: st.DrawFn) -> Call:
    x = draw(arrays(1))
    n = draw(st.integers(1, x.ndim))
    source, target = (draw(st.permutations(range(x.ndim)))[:n] for _ in range(2))
    if n == 1 and draw(st.booleans()):
        return Call((x,), lambda m, x: m.moveaxis(x, source[0], target[0] - x.ndim))
    return Call((x,), lambda m, x: m.moveaxis(x, source, tuple(target)))


@st.composite
def rollaxis(draw: st.DrawFn) -> Call:
    x = draw(arrays(1))
    axis, start = draw(axes_of(x)), draw(st.integers(-x.ndim, x.ndim))
    return Call((x,), lambda m, x: m.rollaxis(x, axis, start))


@st.composite
def expand_dims(draw: st.DrawFn) -> Call:
    x = draw(arrays())
    n = draw(st.integers(1, 2))
    places = draw(st.lists(st.integers(0, x.ndim + n - 1), min_size=n, max_size=n, unique=True))
    axis: Any = places[0] - draw(st.sampled_from([0, x.ndim + 1])) if n == 1 else tuple(places)
    return Call((x,), lambda m, x: m.expand_dims(x, axis))


@st.composite
def squeeze(draw: st.DrawFn) -> Call:
    x = numbers(draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=2)))
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    chosen = draw(st.lists(st.sampled_from(ones), unique=True)) if ones else []
    axis = draw(st.none() | st.just(tuple(chosen)) | st.just(chosen[0] - x.ndim if chosen else None))
    return Call((x,), lambda m, x: m.squeeze(x, axis))


@st.composite
def broadcast_to(draw: st.DrawFn) -> Call:
    x = draw(arrays())
    lead = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=2))
    shape = (*lead, *(draw(st.integers(0, 3)) if n == 1 else n for n in x.shape))
    new: Any = shape[0] if len(shape) == 1 and draw(st.booleans()) else shape
    return Call((x,), lambda m, x: m.broadcast_to(x, new))


@st.composite
def broadcast_arrays(draw: st.DrawFn) -> Call:
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3)).input_shapes
    return Call(tuple(map(numbers, shapes)), lambda m, *xs: m.broadcast_arrays(*xs))


@st.composite
def atleast(draw: st.DrawFn, n: int) -> Call:
    xs = tuple(draw(st.lists(arrays(), min_size=1, max_size=2)))
    return Call(xs, lambda m, *xs: getattr(m, f"atleast_{n}d")(*xs))


@st.composite
def flip(draw: st.DrawFn, name: str = "flip") -> Call:
    least = {"flip": 0, "flipud": 1, "fliplr": 2}[name]
    x = draw(arrays(least))
    if name != "flip":
        return Call((x,), lambda m, x: getattr(m, name)(x))
    some = draw(st.lists(axes_of(x), unique_by=lambda i: i % x.ndim)) if x.ndim else []
    axis = draw(st.none() | st.just(tuple(some)) | st.just(some[0] if some else None))
    return Call((x,), lambda m, x: m.flip(x, axis))


@st.composite
def rot90(draw: st.DrawFn) -> Call:
    x = draw(arrays(2))
    k = draw(st.integers(-5, 5))
    axes = tuple(draw(st.permutations(range(x.ndim)))[:2])
    return Call((x,), lambda m, x: m.rot90(x, k, axes))


@st.composite
def roll(draw: st.DrawFn) -> Call:
    x = draw(arrays(1))
    shifts = st.integers(-4, 4)
    kind = draw(st.sampled_from(["flat", "one", "many", "repeated"]))
    if kind == "flat":
        by = draw(shifts)
        return Call((x,), lambda m, x: m.roll(x, by))
    if kind == "one":
        by, axis = draw(shifts), draw(axes_of(x))
        return Call((x,), lambda m, x: m.roll(x, by, axis))
    along = tuple(draw(st.lists(axes_of(x), min_size=1, max_size=3)))
    many = draw(shifts) if kind == "repeated" else tuple(draw(shifts) for _ in along)
    return Call((x,), lambda m, x: m.roll(x, many, along))


@st.composite
def concatenate(draw: st.DrawFn) -> Call:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    axis = draw(st.integers(-len(shape), len(shape) - 1) | st.none())
    i = 0 if axis is None else axis % len(shape)
    lengths = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    parts = tuple(
        numbers((*shape[:i], n, *shape[i + 1 :]), draw(st.sampled_from(DTYPES)), 10 * k) for k, n in enumerate(lengths)
    )
    return Call(parts, lambda m, *xs: m.concatenate(draw_list(xs), axis))


def draw_list(xs: tuple[Any, ...]) -> Any:
    return list(xs) if len(xs) % 2 else xs


@st.composite
def stack(draw: st.DrawFn) -> Call:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    parts = tuple(numbers(shape, draw(st.sampled_from(DTYPES)), 10 * k) for k in range(draw(st.integers(1, 3))))
    return Call(parts, lambda m, *xs: m.stack(draw_list(xs), axis))


@st.composite
def stacked(draw: st.DrawFn, name: str) -> Call:
    free = {"vstack": 0, "hstack": 1, "dstack": 2, "column_stack": 1}[name]
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3 if name != "column_stack" else 2, min_side=0, max_side=3))
    shapes = [shape, shape]
    if len(shape) > max(free, 1):
        shapes[1] = (*shape[:free], draw(st.integers(0, 3)), *shape[free + 1 :])
    parts = tuple(numbers(s, draw(st.sampled_from(DTYPES)), 10 * k) for k, s in enumerate(shapes))
    return Call(parts, lambda m, *xs: getattr(m, name)(xs))


@st.composite
def split(draw: st.DrawFn, name: str = "split") -> Call:
    least = {"split": 1, "array_split": 1, "hsplit": 1, "vsplit": 2}[name]
    x = draw(arrays(least))
    axis = draw(axes_of(x)) if name in ("split", "array_split") else 0 if name == "vsplit" or x.ndim == 1 else 1
    n = x.shape[axis]
    equal = draw(st.integers(1, 4) if name == "array_split" else st.sampled_from(divisors(n) or [1]))
    where = draw(st.just(equal) | st.lists(st.integers(-4, 4), max_size=3))
    if name in ("split", "array_split"):
        return Call((x,), lambda m, x: getattr(m, name)(x, where, axis))
    return Call((x,), lambda m, x: getattr(m, name)(x, where))


@st.composite
def unstack(draw: st.DrawFn) -> Call:
    x = draw(arrays(1))
    axis = draw(axes_of(x))
    return Call((x,), lambda m, x: m.unstack(x, axis=axis))


@st.composite
def tile(draw: st.DrawFn) -> Call:
    reps = draw(st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=4).map(tuple))
    return Call((draw(arrays()),), lambda m, x: m.tile(x, reps))


@st.composite
def repeat(draw: st.DrawFn) -> Call:
    x = draw(arrays())
    axis = draw(axes_of(x) | st.none()) if x.ndim else None
    n = x.size if axis is None else x.shape[axis]
    repeats = draw(st.integers(0, 3) | st.lists(st.integers(0, 2), min_size=n, max_size=n))
    return Call((x,), lambda m, x: m.repeat(x, repeats, axis))


CALLS: dict[str, st.SearchStrategy[Call]] = {
    "reshape": reshape(),
    "ravel": ravel(),
    "transpose": transpose(),
    "permute_dims": transpose("permute_dims"),
    "matrix_transpose": matrix_transpose(),
    "swapaxes": swapaxes(),
    "moveaxis": moveaxis(),
    "rollaxis": rollaxis(),
    "expand_dims": expand_dims(),
    "squeeze": squeeze(),
    "broadcast_to": broadcast_to(),
    "broadcast_arrays": broadcast_arrays(),
    **{f"atleast_{n}d": atleast(n) for n in (1, 2, 3)},
    **{name: flip(name) for name in ("flip", "fliplr", "flipud")},
    "rot90": rot90(),
    "roll": roll(),
    "concat": concatenate(),
    "concatenate": concatenate(),
    "stack": stack(),
    **{name: stacked(name) for name in ("vstack", "hstack", "dstack", "column_stack")},
    **{name: split(name) for name in ("split", "array_split", "hsplit", "vsplit")},
    "unstack": unstack(),
    "tile": tile(),
    "repeat": repeat(),
}

names = pytest.mark.parametrize("name", sorted(CALLS))
some = settings(max_examples=30)


def parts(y: Any) -> list[Any]:
    return list(y) if isinstance(y, list | tuple) else [y]


def same(got: Any, expected: Any) -> None:
    assert isinstance(got, list | tuple) == isinstance(expected, list | tuple)
    for a, b in zip(parts(got), parts(expected), strict=True):
        assert (np.shape(a), np.asarray(a).dtype) == (np.shape(b), np.asarray(b).dtype)
        np.testing.assert_array_equal(a, b)


def numpy_has(name: str) -> bool:
    return hasattr(np, name)


def test_every_function_of_the_family_is_tested() -> None:
    assert set(CALLS) == {*_shape.__all__, *_joining.__all__}


@names
@some
@given(data=st.data())
def test_a_call_on_plain_arrays_is_numpys(name: str, data: st.DataObject) -> None:
    call = data.draw(CALLS[name])
    if numpy_has(name):
        same(call.apply(fnp, *call.arrays), call.apply(np, *call.arrays))


@names
@some
@given(data=st.data())
def test_a_call_on_traced_arrays_is_numpys(name: str, data: st.DataObject) -> None:
    call = data.draw(CALLS[name])
    module = np if numpy_has(name) else fnp
    expected = call.apply(module, *call.arrays)
    for namespace in (fnp, module):
        same(fg.vjp(lambda *xs, m=namespace: call.apply(m, *xs), *call.arrays)[0], expected)


@names
@some
@given(data=st.data())
def test_a_call_on_types_gives_the_types_of_numpys(name: str, data: st.DataObject) -> None:
    call = data.draw(CALLS[name])
    expected = parts(call.apply(np if numpy_has(name) else fnp, *call.arrays))
    jaxpr, _ = stage(lambda *xs: parts(call.apply(fnp, *xs)), call.arrays, {})
    for t, y, z in zip(jaxpr.out_types, expected, evaluate(jaxpr, call.arrays), strict=True):
        assert (t.shape, t.dtype) == (np.shape(y), np.asarray(y).dtype)
        np.testing.assert_array_equal(z, y)


@names
@some
@given(data=st.data())
def test_the_pullback_is_the_adjoint(name: str, data: st.DataObject) -> None:
    """<g, f(x)> = <pullback(g), x> for a function that is linear, exactly so for one that only moves elements."""
    call = data.draw(CALLS[name])
    xs = tuple(x.real.astype(float) for x in call.arrays)
    ys, pullback = fg.vjp(lambda *xs: call.apply(fnp, *xs), *xs)
    gs = [numbers(y.shape, start=3) for y in parts(ys)]
    pulled = pullback(gs[0] if not isinstance(ys, list | tuple) else type(ys)(gs))
    left = sum(float((g * y).sum()) for g, y in zip(gs, parts(ys), strict=True))
    right = sum(float((g * x).sum()) for g, x in zip(pulled, xs, strict=True))
    np.testing.assert_allclose(left, right, rtol=1e-12)
    for g, x in zip(pulled, xs, strict=True):
        assert g.shape == x.shape


@names
@settings(max_examples=10)
@given(data=st.data())
def test_the_gradient_agrees_with_central_differences(name: str, data: st.DataObject) -> None:
    call = data.draw(CALLS[name])
    xs = tuple(x.real.astype(float) for x in call.arrays)
    fg.testing.check_grads(lambda *xs: [np.sin(y) for y in parts(call.apply(fnp, *xs))], xs, order=2)


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
@names
@settings(max_examples=5)
@given(data=st.data())
def test_a_cotangent_has_the_dtype_of_its_input(name: str, dtype: str, data: st.DataObject) -> None:
    call = data.draw(CALLS[name])
    xs = tuple(x.real.astype(dtype if i == 0 else float) for i, x in enumerate(call.arrays))
    ys, pullback = fg.vjp(lambda *xs: call.apply(fnp, *xs), *xs)
    gs = [np.ones(y.shape, y.dtype) for y in parts(ys)]
    for g, x in zip(pullback(gs[0] if not isinstance(ys, list | tuple) else type(ys)(gs)), xs, strict=True):
        assert (g.dtype, g.shape) == (x.dtype, x.shape)


# ── methods, lists, keywords


def test_methods_do_what_the_functions_do() -> None:
    x = numbers((2, 3, 1))
    ways: list[Callable[[Any], Any]] = [
        lambda x: x.reshape(3, 2),
        lambda x: x.reshape((3, -1)),
        lambda x: x.reshape(-1),
        lambda x: x.reshape(6, order="F"),
        lambda x: x.transpose(),
        lambda x: x.transpose(2, 0, 1),
        lambda x: x.transpose((2, 0, 1)),
        lambda x: x.T,
        lambda x: x.mT,
        lambda x: x.swapaxes(0, 2),
        lambda x: x.squeeze(),
        lambda x: x.squeeze(2),
        lambda x: x.ravel(),
        lambda x: x.ravel("F"),
        lambda x: x.flatten(),
        lambda x: x.flatten("F"),
        lambda x: x.repeat(2, axis=0),
        lambda x: x.copy(),
    ]
    for way in ways:
        same(fg.vjp(way, x)[0], way(x))
        fg.testing.check_grads(way, (x,))


def test_lists_may_hold_traced_values() -> None:
    ways: list[Callable[..., Any]] = [
        lambda m, x: m.stack([x, 2 * x, 3.0]),
        lambda m, x: m.concatenate([[x, 1.0], [2.0]]),
        lambda m, x: m.reshape([x, x, 1.0, x], (2, 2)),
        lambda m, x: m.hstack([x, 1.0]),
        lambda m, x: m.vstack([[x, 1.0], [2.0, x]]),
        lambda m, x: m.flip([x, 1.0]),
        lambda m, x: m.tile([x, 1.0], 2),
        lambda m, x: m.broadcast_to([x], (2, 3)),
    ]
    for way in ways:
        x = np.float64(5.0)
        same(fg.vjp(lambda x, way=way: way(fnp, x), x)[0], way(np, x))
        assert (
            fg.grad(lambda x, way=way: way(fnp, x).sum())(x)
            == way(np, np.float64(1.0)).sum() - way(np, np.float64(0.0)).sum()
        )


def test_concatenate_and_stack_take_a_dtype() -> None:
    xs = [np.ones(2, np.float32), np.ones(2)]
    for m in (np, fnp):
        assert m.concatenate(xs, dtype=np.float16, casting="unsafe").dtype == np.float16
        assert m.stack(xs, dtype=np.float16, casting="unsafe").dtype == np.float16
        y, _ = fg.vjp(lambda *xs, m=m: m.concatenate(xs, dtype="float32", casting="unsafe"), *xs)
        assert y.dtype == np.float32


REFUSED: dict[str, tuple[Callable[..., Any], type[Exception]]] = {
    "reshape": (lambda m, x: m.reshape(x, (4, 2)), ValueError),
    "reshape with two unknowns": (lambda m, x: m.reshape(x, (-1, -1)), ValueError),
    "reshape that leaves a rest": (lambda m, x: m.reshape(x, (4, -1)), ValueError),
    "reshape in an unknown order": (lambda m, x: m.reshape(x, 6, order="X"), ValueError),
    "transpose with too few axes": (lambda m, x: m.transpose(x, (0,)), ValueError),
    "transpose with an axis twice": (lambda m, x: m.transpose(x, (0, 0)), ValueError),
    "transpose with an axis too many": (lambda m, x: m.transpose(x, (0, 2)), np.exceptions.AxisError),
    "swapaxes": (lambda m, x: m.swapaxes(x, 0, 2), np.exceptions.AxisError),
    "moveaxis": (lambda m, x: m.moveaxis(x, (0, 1), 0), ValueError),
    "moveaxis twice": (lambda m, x: m.moveaxis(x, (0, 0), (0, 1)), ValueError),
    "expand_dims": (lambda m, x: m.expand_dims(x, 3), np.exceptions.AxisError),
    "expand_dims twice": (lambda m, x: m.expand_dims(x, (0, 0)), ValueError),
    "squeeze": (lambda m, x: m.squeeze(x, 0), ValueError),
    "broadcast_to": (lambda m, x: m.broadcast_to(x, (3, 2)), ValueError),
    "broadcast_to fewer axes": (lambda m, x: m.broadcast_to(x, (3,)), ValueError),
    "broadcast_arrays": (lambda m, x: m.broadcast_arrays(x, x.T), ValueError),
    "concatenate nothing": (lambda m, x: m.concatenate([]), ValueError),
    "concatenate": (lambda m, x: m.concatenate([x, x.T]), ValueError),
    "concatenate other numbers of axes": (lambda m, x: m.concatenate([x, x[0]]), ValueError),
    "concatenate along no axis": (lambda m, x: m.concatenate([x, x], 2), np.exceptions.AxisError),
    "concatenate numbers": (lambda m, x: m.concatenate([x[0, 0], x[0, 1]]), ValueError),
    "stack": (lambda m, x: m.stack([x, x.T]), ValueError),
    "stack nothing": (lambda m, x: m.stack([]), ValueError),
    "split": (lambda m, x: m.split(x, 2, axis=1), ValueError),
    "split into nothing": (lambda m, x: m.split(x, 0), (ValueError, ZeroDivisionError)),
    "array_split into nothing": (lambda m, x: m.array_split(x, 0), ValueError),
    "vsplit of a vector": (lambda m, x: m.vsplit(x[0], 3), ValueError),
    "flip": (lambda m, x: m.flip(x, 2), np.exceptions.AxisError),
    "fliplr of a vector": (lambda m, x: m.fliplr(x[0]), ValueError),
    "flipud of a number": (lambda m, x: m.flipud(x[0, 0]), ValueError),
    "rot90": (lambda m, x: m.rot90(x, 1, (0, 0)), ValueError),
    "roll": (lambda m, x: m.roll(x, 1, 2), np.exceptions.AxisError),
    "repeat": (lambda m, x: m.repeat(x, [1, 2], axis=1), ValueError),
    "repeat a negative number": (lambda m, x: m.repeat(x, -1), ValueError),
    "matrix_transpose": (lambda m, x: m.matrix_transpose(x[0]), ValueError),
    "unstack": (lambda m, x: m.unstack(x[0, 0]), ValueError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_numpy_refuses_is_refused_with_the_same_exception(name: str) -> None:
    do, error = REFUSED[name]
    x = numbers((2, 3))
    with pytest.raises(error):
        do(np, x)
    with pytest.raises(error):
        do(fnp, x)
    for m in (fnp, np):
        with pytest.raises(error):
            fg.grad(lambda x, m=m: parts(do(m, x))[0].sum())(x)
    assert fg.grad(lambda x: fnp.reshape(x, 6).sum())(x).shape == (2, 3)
