"""vmap: a function of one example, applied to a batch.

The law is that vmap(f) is a Python loop over f, whatever in_axes and out_axes say and whatever stands inside and
around it; tests/test_vmap_numpy.py holds it for the functions of funcgrad.numpy.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import itertools
import threading
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core import config
from funcgrad.core.ir import check, evaluate
from funcgrad.core.primitive import Unbatched
from funcgrad.core.trace import Tracer
from funcgrad.core.types import ArrayType
from funcgrad.transforms.tracing.batch import BatchTrace, batch_jaxpr
from funcgrad.transforms.vmap import vmap

Function = Callable[..., Any]

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((5, 3))
W = RANDOM.standard_normal((3, 2))
few = settings(max_examples=25)


def close(a: Any, b: Any, rtol: float = 1e-9, atol: float = 1e-10) -> None:
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def loop(f: Function, *xs: Any) -> Any:
    return np.stack([f(*row) for row in zip(*xs, strict=True)])


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Layer:
    weight: Any
    bias: Any
    activation: str = dataclasses.field(default="tanh", metadata={"static": True})


# ── in_axes and out_axes


@few
@given(st.integers(-3, 2), st.integers(-2, 1))
def test_any_axis_may_be_the_batch_axis_and_become_any_axis_of_the_result(in_axis: int, out_axis: int) -> None:
    x = RANDOM.standard_normal((2, 3, 4))
    f = lambda x: fnp.sin(x).sum(axis=0) * 2
    expected = loop(f, np.moveaxis(x, in_axis, 0))
    close(vmap(f, in_axis, out_axis)(x), np.moveaxis(expected, 0, out_axis))


@few
@given(st.lists(st.none() | st.integers(-2, 1), min_size=3, max_size=3).filter(lambda axes: axes != [None] * 3))
def test_each_argument_has_an_axis_of_its_own_or_none(axes: Any) -> None:
    f: Function = lambda x, y, z: x * 2 + fnp.cos(y) * z
    one = [RANDOM.standard_normal(3) for _ in axes]
    xs = [x if a is None else np.stack([x, -x, 2 * x, x + 1], a) for x, a in zip(one, axes, strict=True)]
    rows = [[x if a is None else np.take(x, k, a) for x, a in zip(xs, axes, strict=True)] for k in range(4)]
    close(vmap(f, tuple(axes))(*xs), np.stack([f(*row) for row in rows]))
    close(vmap(f, axes)(*xs), np.stack([f(*row) for row in rows]))


def test_what_is_returned_once_is_an_array_of_its_own() -> None:
    k = np.zeros(2)
    once, label = vmap(lambda x: (k, "a"), out_axes=None)(X)
    once[:] = 1.0
    assert label == "a"
    assert not k.any()


def test_an_axis_holds_for_the_whole_tree_below_it() -> None:
    f: Function = lambda p, x: p["w"] @ x + p["layers"][0] * p["layers"][1] + p["n"]
    p: Any = {"w": np.ones((2, 3)), "layers": [np.arange(5.0), np.arange(10.0).reshape(5, 2)], "n": 3}
    axes = ({"w": None, "layers": 0, "n": None}, 0)
    expected = np.stack([X[k].sum() + p["layers"][0][k] * p["layers"][1][k] + 3 for k in range(5)])
    close(vmap(f, axes)(p, X), expected)
    close(vmap(f, ({"w": None, "layers": [0, 0], "n": None}, 0), 1)(p, X), expected.T)


def test_axes_for_namedtuples_and_dataclasses() -> None:
    f = lambda pair, layer: Pair(pair.first * layer.bias, layer.weight + pair.second)
    pair, layer = Pair(X, 2.0), Layer(W, X.T)
    out = vmap(f, (Pair(0, None), Layer(None, 1)), Pair(1, 0))(pair, layer)
    assert isinstance(out, Pair)
    close(out.first, (X * X).T)
    close(out.second, np.stack([W + 2.0] * 5))


def test_the_tree_that_arrives_is_the_one_that_was_passed() -> None:
    seen: list[Any] = []

    def f(layers: Any, nothing: Any) -> Any:
        seen.append((type(layers), list(layers), nothing))
        return layers["b"]

    vmap(f, ({"a": None, "b": 0}, None))({"b": np.ones(2), "a": 1}, (None, {}))
    vmap(f)(OrderedDict(b=np.ones(2), a=np.ones(2)), None)
    assert seen == [(dict, ["b", "a"], (None, {})), (OrderedDict, ["b", "a"], None)]


def test_what_is_not_mapped_arrives_as_it_is() -> None:
    v, settings_ = np.ones(3), {"relu", "bias"}

    def f(x: Any, y: Any, p: Any, options: Any) -> Any:
        assert y is v
        assert p == {"on": True, "name": "x"}
        assert options is settings_
        assert isinstance(x, Tracer)
        return x * y.sum() if p["on"] and y[0] > 0 else x  # Python may branch on it

    close(vmap(f, (0, None, None, None))(X, v, {"on": True, "name": "x"}, settings_), 3 * X)
    assert vmap(lambda n, x: x[:n] * float(n), (None, 0))(2, X).shape == (5, 2)


def test_keyword_arguments_are_mapped_along_their_first_axis() -> None:
    f = lambda x, *, scale=1.0, shift=0.0: x * scale + shift["by"] if isinstance(shift, dict) else x * scale
    close(vmap(f)(X), X)
    close(vmap(f, 1)(X.T, scale=np.arange(5.0)), X.T[:, :5].T * np.arange(5.0)[:, None])
    close(vmap(f, None)(1.0, scale=np.arange(5.0), shift={"by": X}), np.arange(5.0)[:, None] + X)


def test_the_length_may_be_given_where_no_argument_has_it() -> None:
    np.testing.assert_array_equal(vmap(lambda: fnp.ones(2), axis_size=3)(), np.ones((3, 2)))
    np.testing.assert_array_equal(vmap(lambda x: x + 1, None, axis_size=2)(1.0), [2.0, 2.0])
    np.testing.assert_array_equal(vmap(lambda x: x + 1, axis_size=5)(X), X + 1)
    assert vmap(lambda x: x, None, axis_size=0)(X).shape == (0, 5, 3)


def test_integers_and_truth_values_are_mapped_too() -> None:
    i, m = np.arange(4), np.array([True, False, True, True])
    y = vmap(lambda i, m: fnp.where(m, i * 2, -i))(i, m)
    assert y.dtype == i.dtype
    np.testing.assert_array_equal(y, [0, -1, 4, 6])


def test_a_result_that_does_not_depend_on_the_batch_is_repeated_or_returned_once() -> None:
    f = lambda x, v: (x, v * 2, 3, v.sum())
    _, twice, three, total = vmap(f, (0, None), (0, 1, 0, None))(X, W)
    np.testing.assert_array_equal(twice, np.stack([2 * W] * 5, 1))
    np.testing.assert_array_equal(three, [3] * 5)
    assert three.dtype == np.int64
    assert total == W.sum()
    assert np.ndim(total) == 0


def test_a_function_may_return_nothing() -> None:
    assert vmap(lambda x: None)(X) is None
    assert vmap(lambda x: (None, [], {"y": ()}))(X) == (None, [], {"y": ()})


def test_it_wraps_the_function() -> None:
    def f(x: Any) -> Any:
        """Doc."""
        return x

    assert (vmap(f).__name__, vmap(f).__doc__, vmap(f).__wrapped__) == ("f", "Doc.", f)  # type: ignore[attr-defined]
    close(vmap(functools.partial(lambda a, x: a * x, 2.0))(X), 2 * X)
    close(vmap(np.sum)(X), X.sum(1))


# ── results


def test_results_belong_to_the_caller() -> None:
    functions: tuple[Function, ...] = (
        lambda x: x,
        lambda x: x[:2],
        lambda x: x[::-1],
        lambda x: x.T,
        lambda x: W,
        lambda x: fnp.broadcast_to(x, (100, *x.shape)),
        lambda x: fnp.broadcast_to(1.0, (100, 300)),
        lambda x: 1.0,
        fg.grad(lambda x: x.sum()),
    )
    for f in functions:
        for in_axis, out_axis in ((0, 0), (0, -1), (1, 0)):
            y = vmap(f, in_axis, out_axis)(X)
            assert type(y) is np.ndarray
            assert y.flags.writeable
            assert not np.shares_memory(y, X)
            assert not np.shares_memory(y, W)
            y[...] = 0
    a, b, c = vmap(lambda x: (x + 1, x + 1, x))(X)

    def again(x: Any) -> Any:
        y = x + 1
        return y, y, y[1:], y

    twice = vmap(again)(X)
    for y, z in itertools.combinations([a, b, c, *twice, X], 2):
        assert not np.shares_memory(y, z)


def test_a_part_of_something_large_does_not_keep_it_alive() -> None:
    y = vmap(lambda x: fnp.exp(x)[:1])(np.ones((10, 1000)))
    assert y.base is None
    assert y.nbytes == 80


def test_intermediate_values_are_let_go() -> None:
    x = np.ones((1000, 100))

    def f(x: Any) -> Any:
        for _ in range(50):
            x = fnp.sin(x) * 2.0
        return x

    vmap(f)(x)
    gc.disable()  # counting references is enough
    tracemalloc.start()
    try:
        vmap(f)(x)
        assert tracemalloc.get_traced_memory()[1] < 5 * x.nbytes
    finally:
        tracemalloc.stop()
        gc.enable()


def test_what_does_not_depend_on_the_batch_is_computed_once() -> None:
    jaxpr = fg.make_jaxpr(vmap(lambda x, w: x @ fnp.exp(w), (0, None)))(X, W)
    (exp,) = (e for e in jaxpr.equations if e.primitive.name == "exp")
    assert exp.outputs[0].shape == W.shape


def test_an_array_that_is_indexed_by_all_examples_is_not_repeated() -> None:
    table = ArrayType((1000, 8), np.dtype(float))
    jaxpr = fg.make_jaxpr(vmap(lambda t, i: t[i], (None, 0)))(table, np.arange(5))
    assert max(v.type.size for e in jaxpr.equations for v in e.outputs) == 5 * 8
    gradient = fg.make_jaxpr(fg.grad(lambda t, i: vmap(lambda t, i: t[i], (None, 0))(t, i).sum()))
    assert max(v.type.size for e in gradient(table, np.arange(5)).equations for v in e.outputs) == table.size


# ── nesting

FUNCTIONS: dict[str, Function] = {
    "elementwise": lambda x, y: fnp.sum(fnp.sin(x) * fnp.exp(y / 3) + x**2 * y),
    "products": lambda x, y: fnp.tanh(fnp.outer(x, y) @ x) @ y,
    "softmax": lambda x, y: fg.nn.logsumexp(x * y) + fg.nn.softmax(x)[0] * y[1],
    "indexing": lambda x, y: (x[[0, 2, 0]] * y[::-1]).sum() + x[1] ** 3 * fg.at(y)[0].set(x[2]).sum(),
    "solve": lambda x, y: fnp.linalg.solve(fnp.outer(x, x) + 4 * np.eye(3), y) @ x,
    "sort": lambda x, y: (fnp.sort(x) * y).sum() + fnp.cumsum(x * y)[1] * x.max(),
    "closure": lambda x, y: (fnp.exp(x * W[:, 0]) @ W * fnp.sin(y[:2])).sum(),
}
functions = pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS.keys())


def by_gradient(f: Function) -> Function:
    return lambda x, y: fg.grad(lambda z: f(z, y))(x)


def by_pullback(f: Function) -> Function:
    return lambda x, y: fg.vjp(f, x, y)[1](fnp.sin(x[0]) * 0 + 1.0)[0]


def by_hvp(f: Function) -> Function:
    return lambda x, y: fg.hvp(f)(y, x, y)


@functions
@pytest.mark.parametrize("derive", [by_gradient, by_pullback, by_hvp])
def test_derivatives_of_examples_are_a_loop_over_derivatives(f: Function, derive: Function) -> None:
    y = RANDOM.standard_normal((5, 3))
    close(vmap(derive(f))(X, y), loop(derive(f), X, y))
    close(vmap(derive(f), (0, None), -1)(X, y[0]), np.stack([derive(f)(x, y[0]) for x in X], -1))


@functions
def test_the_gradient_of_a_batch_is_the_sum_or_the_stack_of_gradients(f: Function) -> None:
    y = RANDOM.standard_normal((5, 3))
    gradients = [loop(fg.grad(f, i), X, y) for i in (0, 1)]
    of_both = fg.grad(lambda x, y: vmap(f)(x, y).sum(), (0, 1))(X, y)
    for got, expected in zip(of_both, gradients, strict=True):
        close(got, expected)
    shared = fg.grad(lambda x: vmap(f, (None, 0))(x, y).sum())(X[0])
    close(shared, sum(fg.grad(f)(X[0], row) for row in y))


@functions
def test_vmaps_nest(f: Function) -> None:
    y = RANDOM.standard_normal((4, 3))
    table = np.array([[f(a, b) for b in y] for a in X])
    close(vmap(vmap(f, (None, 0)), (0, None))(X, y), table)
    close(vmap(vmap(f, (0, None)), (None, 0), 1)(X, y), table)
    close(vmap(lambda a: vmap(lambda b: f(a, b))(y))(X), table)  # by closure
    close(vmap(vmap(vmap(f, (None, 0)), (0, None)))(np.stack([X, -X]), np.stack([y, y]))[0], table)


def summed(f: Function) -> Function:
    return lambda x, y: f(x, y).sum()


def by_batch_of_one(f: Function) -> Function:
    return lambda x, y: fg.grad(lambda x: vmap(f)(x[None], y[None]).sum())(x)


def iterate(derive: Callable[[Function], Function], f: Function, times: int) -> Function:
    for _ in range(times):
        f = derive(summed(f))
    return f


@functions
@pytest.mark.parametrize("outside", range(4))
@pytest.mark.parametrize("derive", [by_gradient, by_batch_of_one])
def test_third_derivatives_in_every_order(f: Function, outside: int, derive: Function) -> None:
    y = RANDOM.standard_normal((2, 3))
    expected = loop(iterate(by_gradient, f, 3), X[:2], y)
    # examples do not depend on each other, so the gradient of their sum is the stack of their gradients
    batched = iterate(fg.grad, vmap(iterate(derive, f, 3 - outside)), outside)
    close(batched(X[:2], y), expected, rtol=1e-7)


@functions
def test_a_vmap_is_staged_like_anything_else(f: Function) -> None:
    y = RANDOM.standard_normal((5, 3))
    for g in (f, by_gradient(f), by_hvp(f)):
        jaxpr = fg.make_jaxpr(vmap(g))(X, y)
        check(jaxpr)
        close(evaluate(jaxpr, [X, y])[0], vmap(g)(X, y))


def test_staging_inside_vmap_closes_over_the_example() -> None:
    def f(x: Any) -> Any:
        jaxpr = fg.make_jaxpr(lambda y: fnp.sin(y) * x)(x)
        return evaluate(jaxpr, [x])[0]

    close(vmap(f)(X), np.sin(X) * X)
    assert fg.eval_shape(vmap(f), X) == ArrayType((5, 3), np.dtype(float))


def test_tracers_of_outer_transformations_may_be_closed_over() -> None:
    def f(w: Any) -> Any:
        return vmap(lambda x: fnp.tanh(x @ w).sum() * w[0, 0])(X).sum()

    close(fg.grad(f)(W), fg.grad(lambda w: (fnp.tanh(X @ w).sum(1) * w[0, 0]).sum())(W))
    fg.testing.check_grads(f, [W], order=2)


def test_rows_of_a_jacobian_are_the_pullback_of_a_basis() -> None:
    f = lambda x: fnp.stack([x[0] * x[1], fnp.sin(x[2]), x.sum() ** 2, x[0]])
    x = np.array([0.3, -1.0, 2.0])
    _, pullback = fg.vjp(f, x)
    (jacobian,) = vmap(pullback)(np.eye(4))
    s = 2 * x.sum()
    close(jacobian, [[x[1], x[0], 0], [0, 0, np.cos(2.0)], [s, s, s], [1, 0, 0]])


def test_a_hessian_is_hvp_of_a_basis() -> None:
    f = lambda x: (x**3).sum() + x[0] * x[1]
    hessian = vmap(fg.hvp(f), (0, None))(np.eye(3), np.arange(3.0))
    close(hessian, np.diag([0.0, 6.0, 12.0]) + np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]))


def test_gradients_of_examples_of_a_small_network() -> None:
    def loss(p: Any, x: Any, y: Any) -> Any:
        return ((fnp.tanh(x @ p["w"]) @ p["v"] - y) ** 2).mean()

    p = {"w": W, "v": RANDOM.standard_normal(2)}
    y = RANDOM.standard_normal(5)
    gradients = vmap(fg.grad(loss), (None, 0, 0))(p, X, y)
    each = [fg.grad(loss)(p, a, b) for a, b in zip(X, y, strict=True)]
    for key in p:
        close(gradients[key], np.stack([g[key] for g in each]))
    values, again = vmap(fg.value_and_grad(loss), (None, 0, 0))(p, X, y)
    close(values, [loss(p, a, b) for a, b in zip(X, y, strict=True)])
    close(again["w"], gradients["w"])


def test_the_work_of_python_does_not_grow_with_the_batch() -> None:
    gradients = vmap(fg.grad(lambda w, x: (fnp.tanh(x @ w) ** 2).sum()), (None, 0))
    few, many = (fg.make_jaxpr(gradients)(W, np.ones((n, 3))) for n in (2, 500))
    assert [e.primitive.name for e in few.equations] == [e.primitive.name for e in many.equations]


def test_float32_stays_float32() -> None:
    x = X.astype(np.float32)
    for f in (lambda x: x * 2.0, lambda x: fnp.where(x > 0, x, 0.0), fg.grad(lambda x: (x**2 / 3).sum())):
        assert vmap(f)(x).dtype == np.float32
    assert vmap(lambda a, x: a * x, (0, None))(np.arange(3.0), np.float32(2)).dtype == np.float64


# ── an empty batch


@functions
def test_a_batch_may_be_empty(f: Function) -> None:
    assert vmap(f)(X[:0], X[:0]).shape == (0,)
    assert vmap(by_hvp(f))(X[:0], X[:0]).shape == (0, 3)
    assert vmap(f, (0, None))(X[:0], X[0]).dtype == np.float64
    np.testing.assert_array_equal(fg.grad(lambda x: vmap(f, (None, 0))(x, X[:0]).sum())(X[0]), np.zeros(3))


def test_an_empty_batch_is_checked_as_any_other() -> None:
    with pytest.raises(fg.errors.ShapeError, match=r"shape \(3,\) \(3 elements\) cannot be reshaped to \(4,\)"):
        vmap(lambda x: x.reshape(4))(X[:0])
    with pytest.raises(fg.errors.ShapeError, match=r"add: shapes \(3,\) and \(2,\)"):
        vmap(lambda x: x + x[:2])(X[:0])


# ── errors


def test_the_lengths_must_agree() -> None:
    f = lambda x, p, z: x
    with pytest.raises(fg.errors.ArgumentError) as error:
        vmap(f, (0, {"w": 1, "b": None}, -1))(X, {"w": W, "b": 1.0}, X.T)
    message = str(error.value)
    assert "[FG002] vmap(<lambda>): the axes to map over must have one length" in message
    assert "5: axis 0 of argument 'x', float64[5,3]; axis -1 of argument 'z', float64[3,5]" in message
    assert "2: axis 1 of argument 'p' leaf ['w'], float64[3,2]" in message
    assert "test_vmap.py" in message
    with pytest.raises(fg.errors.ArgumentError, match=r"(?s)5: axis 0 of argument 'x'.*axis_size is 4"):
        vmap(lambda x: x, axis_size=4)(X)
    with pytest.raises(fg.errors.ArgumentError, match="and 2 more"):
        vmap(lambda xs, y: y)([X] * 6, W)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: vmap(lambda x: x)(2.0), r"argument 'x' is a float \(2.0\), which has no axis to map over"),
        (lambda: vmap(lambda x: x)(np.float64(2)), "argument 'x' is float64\\[\\], which has no axis"),
        (lambda: vmap(lambda p, x: x)({"lr": 1, "w": W}, X), r"argument 'p' leaf \['lr'\] is a int"),
        (lambda: vmap(lambda y, x: x)(X, "abc"), r"(?s)argument 'x' is a str \('abc'\).*in_axes=\(\.\.\., None\)"),
        (lambda: vmap(lambda x, k: x)(X, k=2), r"(?s)argument 'k' is a int.*functools.partial\(f, k=...\)"),
        (lambda: vmap(lambda x: x)([1.0, 2.0]), r"(?s)argument 'x' leaf \[0\] is a float.*numpy.array"),
        (lambda: vmap(lambda x: x, 2)(X), r"argument 'x' is float64\[5,3\], which has no axis 2"),
        (lambda: vmap(lambda x: x, -3)(X), "which has no axis -3"),
        (lambda: vmap(lambda x, y: x, (0,))(X, X), "in_axes has 1 entries, but the call has 2 positional arguments"),
        (lambda: vmap(lambda x: x, None)(X), "no argument is mapped, so the length of the batch is unknown"),
        (lambda: vmap(lambda: 1.0)(), "no argument is mapped"),
        (lambda: vmap(lambda x: x)(None), "no argument is mapped"),
        (lambda: vmap(lambda x: x, "rows"), "in_axes must be an int, None, or a tuple"),
        (lambda: vmap(lambda x: x, {"x": 0}), "in_axes must be an int, None, or a tuple"),
        (lambda: vmap(lambda x: x, (1.0,)), r"in_axes is made of ints and None, but there is a float \(1.0\) in it"),
        (lambda: vmap(lambda x: x, (True,)), r"there is a bool \(True\) in it"),
        (lambda: vmap(lambda x: x, 0, "rows"), "out_axes is made of ints and None"),
        (lambda: vmap(lambda x: x, axis_size=-1), "axis_size must be an int that is not negative"),
        (lambda: vmap(lambda x: x, axis_size=2.0), "axis_size must be an int"),  # type: ignore[arg-type]
        (lambda: vmap(X), "vmap takes a function, got a ndarray"),  # type: ignore[arg-type]
        (lambda: vmap(lambda x: x, out_axes=2)(X), r"out_axes=2 for the result, which .* is float64\[5,3\]"),
        (lambda: vmap(lambda x: (x, "a"))(X), r"the result at \[1\] is a str \('a'\), which cannot be stacked"),
        (
            lambda: vmap(lambda x, y: (y, {"loss": x + y}), (0, None), (0, None))(X, 1.0),
            r"out_axes=None says that the result at \[1\]\['loss'\] is the same .* but it depends on argument 'x'",
        ),
    ],
)
def test_what_does_not_fit_is_named(call: Function, expected: str) -> None:
    with pytest.raises(fg.errors.ArgumentError, match=expected):
        call()


def test_trees_of_axes_must_fit() -> None:
    with pytest.raises(
        fg.errors.TreeError, match=r"structure of argument 'p': at the root: keys \{'w'\} vs \{'w', 'b'"
    ):
        vmap(lambda p: p["w"], ({"w": None},))({"w": 1.0, "b": X})
    with pytest.raises(fg.errors.TreeError, match=r"out_axes does not have the structure of the result: .* 3 elements"):
        vmap(lambda x: (x, x), out_axes=(0, 0, 0))(X)


def test_axis_names_are_refused() -> None:
    with pytest.raises(fg.errors.UnsupportedError, match=r"(?s)axis_name='i'.*vmap\(f\)\(x\).sum\(axis=0\)"):
        vmap(lambda x: x, axis_name="i")  # type: ignore[arg-type]


def test_arrays_of_something_else_than_numbers_are_refused() -> None:
    with pytest.raises(fg.errors.DTypeError, match="argument 'x' is an array of str32, not of numbers"):
        vmap(lambda x: x)(np.array(["a", "b"]))


def branch(x: Any) -> Any:
    return x if x > 0 else -x


def branch_directly(x: Any) -> Any:
    return x if x else -x


@pytest.mark.parametrize("f", [branch, fg.grad(branch), fg.grad(branch_directly), fg.grad(lambda x: branch(x * 2))])
def test_python_cannot_branch_on_an_example(f: Function) -> None:
    with pytest.raises(fg.errors.TracedBoolError, match=r"inside vmap\(") as error:
        vmap(f)(X[:, 0])
    message = str(error.value)
    assert "depends on argument 'x'" in message
    assert "where(" in message
    assert "vmap gives every element of the batch its own answer; one Python if cannot take both" in message


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda x: float(x[0]), fg.errors.TracedValueError),
        (lambda x: np.asarray(x), fg.errors.TracedValueError),
        (lambda x: range(x[0].astype(int)), fg.errors.TracedShapeError),
        (lambda x: x[: x.argmax()], fg.errors.TracedShapeError),
        (lambda x: fnp.zeros(x.argmax()), fg.errors.TracedShapeError),
        (lambda x: x[x > 0], fg.errors.TracedShapeError),
        (lambda x: fnp.nonzero(x), fg.errors.TracedShapeError),
        (lambda x: max(x[0], x[1]), fg.errors.TracedBoolError),
    ],
)
def test_what_needs_a_value_says_that_there_is_one_for_each_example(f: Function, error: Any) -> None:
    with pytest.raises(error, match=r"inside vmap\(<lambda>\)"):
        vmap(f)(X)


def test_the_shapes_in_messages_are_those_of_one_example() -> None:
    with pytest.raises(fg.errors.ShapeError, match=r"matmul: \(3,\) @ \(2, 3\)"):
        vmap(lambda x: x @ fnp.stack([x, x]))(X)
    with pytest.raises(fg.errors.ShapeError, match=r"multiply: shapes \(3,\) and \(5,\)"):
        vmap(lambda x: x * np.ones(5))(X)
    with pytest.raises(fg.errors.OutOfBoundsError, match="index 3 is out of bounds for axis 0 with size 3"):
        vmap(lambda x: x[3])(X)
    with pytest.raises(fg.errors.AxisError):
        vmap(lambda x: x.sum(axis=1))(X)
    with pytest.raises(IndexError, match="index 3 is out of bounds") as error:
        vmap(lambda x, i: x[i])(X, np.arange(5))
    assert error.value.__notes__ == ["In vmap(<lambda>), axis 0 of shapes and positions is the batch axis."]
    with pytest.raises(np.linalg.LinAlgError):
        vmap(fnp.linalg.inv)(np.zeros((2, 3, 3)))


def test_a_tracer_that_outlives_the_call_has_leaked() -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(x * 2)
        return x

    vmap(f)(X)
    with pytest.raises(fg.errors.LeakedTracerError, match=r"a float64\[3\] that was created while vmap\(f\)"):
        kept[0] + 1
    with pytest.raises(fg.errors.LeakedTracerError):
        vmap(lambda x: x + kept[0])(X)


def test_an_exception_leaves_nothing_behind() -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(x)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        vmap(f)(X)
    with pytest.raises(fg.errors.LeakedTracerError):
        kept[0] + 1
    close(vmap(lambda x: x * 2)(X), 2 * X)


def test_threads_do_not_disturb_each_other() -> None:
    f = vmap(fg.grad(lambda x: (fnp.sin(x) ** 2).sum()))
    expected = f(X)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.extend(f(X) for _ in range(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 160
    for y in results:
        np.testing.assert_array_equal(y, expected)


# ── the parts


def test_a_batched_jaxpr_is_made_once() -> None:
    jaxpr = fg.make_jaxpr(lambda x, y: (x * y, y + 1, 2.0))(X[0], X[0])
    batched, flags = batch_jaxpr(jaxpr, [True, False], 5)
    assert flags == (True, False, False)
    assert batch_jaxpr(jaxpr, (True, False), 5, [False, False, False])[0] is batched
    assert batch_jaxpr(jaxpr, (True, False), 5, (False, True, False))[1] == (True, True, False)
    whole, flags = batch_jaxpr(jaxpr, (True, False), 5, True)
    assert flags == (True, True, True)
    for got, expected in zip(evaluate(whole, [X, X[0]]), (X * X[0], [X[0] + 1] * 5, [2.0] * 5), strict=True):
        close(got, expected)


def test_a_batched_equation_comes_from_the_line_of_the_equation() -> None:
    jaxpr = fg.make_jaxpr(lambda x, i: fnp.sin(x)[i] * 2)(X[0], 1)
    batched, _ = batch_jaxpr(jaxpr, (True, True), 5)
    assert {str(e.source) for e in batched.equations} == {str(e.source) for e in jaxpr.equations}


def test_a_stack_of_weak_numbers_is_as_weak_as_one_of_them() -> None:
    jaxpr = fg.make_jaxpr(lambda a, x: ((a + 1) * x, a * 2))(2.0, np.ones(3, np.float32))
    assert [repr(t) for t in jaxpr.out_types] == ["f32[3]", "~f64[]"]
    batched, _ = batch_jaxpr(jaxpr, (True, False), 4)
    assert [repr(t) for t in batched.out_types] == ["f32[4,3]", "f64[4]"]


def test_a_rule_whose_result_does_not_fit_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CHECK", True)
    trace = BatchTrace("vmap(f)", 5)
    x: Any = trace.enter(X, lambda: "argument 'x'")
    assert trace.leave(x)[0] is X
    assert trace.leave(W) == (W, False)
    assert trace.origin((x * 2).variable) == "argument 'x'"
    with pytest.raises(fg.errors.InternalError, match=r"the batching rule of wrong gives f64\[5,3\] for 5 examples"):
        Wrong()(x)


def test_several_results_and_none() -> None:
    assert vmap(lambda x: (Several()(x), x)[1])(X).shape == (5, 3)
    twice, once = vmap(lambda x: Several(2)(x))(X)
    np.testing.assert_array_equal(twice, X)
    np.testing.assert_array_equal(once, np.ones((5, 2)))
    _, concrete = vmap(lambda x: Several(2)(x), out_axes=(0, None))(X)
    assert concrete.shape == (2,)


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Several(fg.extend.Primitive):
    """The first of its results is its input, the second the same for every input."""

    name: ClassVar[str] = "several"
    multiple: ClassVar[bool] = True
    count: int = 0

    def out_type(self, x: Any) -> Any:
        return (ArrayType(x.shape, x.dtype), ArrayType((2,), x.dtype))[: self.count]

    def impl(self, x: Any) -> Any:
        return (x, np.ones(2, x.dtype))[: self.count]

    def vjp(self, wanted: Any, g: Any, y: Any, x: Any) -> Any:
        return (g[0],)

    def batch(self, batched: Any, x: Any) -> Any:
        return (x, Unbatched(np.ones(2, x.dtype)))[: self.count]


@final
class Wrong(fg.extend.Primitive):
    """Says that it sums, and does not."""

    __slots__ = ()
    name = "wrong"

    def out_type(self, x: Any) -> ArrayType:
        return ArrayType((), x.dtype)

    def impl(self, x: Any) -> Any:
        return x

    def vjp(self, wanted: Any, g: Any, y: Any, x: Any) -> Any:
        return (None,)

    def batch(self, batched: Any, x: Any) -> Any:
        return x
