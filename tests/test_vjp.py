"""What grad, value_and_grad and vjp take and give back: arguments, pytrees, dtypes, and arrays of their own."""

from __future__ import annotations

import dataclasses
import fractions
import functools
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
import funcgrad.numpy as fnp

Point = namedtuple("Point", "x y")

FLOATS = [np.float16, np.float32, np.float64]
INEXACT = [*FLOATS, np.complex64, np.complex128]


@dataclasses.dataclass
class Layer:
    weight: Any
    bias: Any
    activation: str = dataclasses.field(default="tanh", metadata={"static": True})


def same(a: Any, b: Any) -> None:
    """Equal in value, dtype and shape."""
    a, b = np.asarray(a), np.asarray(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    np.testing.assert_array_equal(a, b)


def weighted(x: Any, y: Any, z: Any) -> Any:
    return x + 10 * y + 100 * z


# ── which arguments


@pytest.mark.parametrize(
    ("argnums", "expected"),
    [
        (None, 1),
        (0, 1),
        (1, 10),
        (-1, 100),
        (-3, 1),
        ((0,), (1,)),
        ((2, 0), (100, 1)),
        ([1, 2], (10, 100)),
        ((-1, 0), (100, 1)),
    ],
)
def test_argnums_choose_by_position(argnums: Any, expected: Any) -> None:
    assert fg.grad(weighted, argnums)(1.0, 2.0, 3.0) == expected
    value, gradient = fg.value_and_grad(weighted, argnums)(1.0, 2.0, 3.0)
    assert (value, gradient) == (321.0, expected)
    assert type(gradient) is (tuple if isinstance(expected, tuple) else np.ndarray)


@pytest.mark.parametrize(
    ("argnames", "expected"), [("x", 1), ("z", 100), (("z", "x"), {"z": 100, "x": 1}), (["y"], {"y": 10})]
)
def test_argnames_choose_by_name_however_the_argument_is_passed(argnames: Any, expected: Any) -> None:
    for args, kwargs in [
        ((1.0, 2.0, 3.0), {}),
        ((1.0,), {"z": 3.0, "y": 2.0}),
        ((), {"x": 1.0, "y": 2.0, "z": 3.0}),
    ]:
        assert fg.grad(weighted, argnames=argnames)(*args, **kwargs) == expected
        assert fg.value_and_grad(weighted, argnames=argnames)(*args, **kwargs) == (321.0, expected)


def test_argnums_find_arguments_that_are_passed_by_keyword() -> None:
    assert fg.grad(weighted, 1)(1.0, z=3.0, y=2.0) == 10
    assert fg.grad(weighted)(x=1.0, y=2.0, z=3.0) == 1


def test_argnames_find_keyword_only_arguments_and_those_of_kwargs() -> None:
    def f(x: Any, *, scale: Any, **rest: Any) -> Any:
        return x * scale * rest["shift"]

    assert fg.grad(f, argnames="scale")(2.0, scale=3.0, shift=5.0) == 10
    assert fg.grad(f, argnames="shift")(2.0, scale=3.0, shift=5.0) == 6


def test_keyword_arguments_that_are_not_chosen_pass_through() -> None:
    def f(x: Any, *, power: int = 2, verbose: str = "no") -> Any:
        assert type(power) is int
        assert verbose == "yes"
        return x**power

    assert fg.grad(f)(2.0, power=3, verbose="yes") == 12


def test_a_call_does_not_change_the_arguments_it_was_given() -> None:
    kwargs = {"y": 2.0, "z": 3.0}
    p = {"a": [1.0, 2.0]}
    fg.grad(weighted, argnames=("y", "z"))(1.0, **kwargs)
    fg.grad(lambda q: q["a"][0] * q["a"][1])(p)
    assert kwargs == {"y": 2.0, "z": 3.0}
    assert p == {"a": [1.0, 2.0]}


@pytest.mark.parametrize(
    "f",
    [
        functools.partial(weighted, y=2.0, z=3.0),
        functools.partial(weighted, z=3.0, y=2.0),
        type("Model", (), {"__call__": lambda self, x: weighted(x, 2.0, 3.0)})(),
        type("Model", (), {"loss": lambda self, x: weighted(x, 2.0, 3.0)})().loss,
        np.positive,
        fnp.positive,
    ],
)
def test_anything_callable_can_be_differentiated(f: Callable[..., Any]) -> None:
    assert fg.grad(f)(1.0) == 1
    assert fg.grad(f, argnums=-1)(1.0) == 1


def test_the_gradient_function_keeps_the_name_and_the_docstring() -> None:
    def loss(x: Any) -> Any:
        """The loss."""
        return x

    assert (fg.grad(loss).__name__, fg.grad(loss).__doc__) == ("loss", "The loss.")
    assert fg.value_and_grad(loss).__name__ == "loss"


# ── aux


def test_aux_is_passed_through_without_tracers() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        return (y**2).sum(), {"y": y, "name": "run", "n": 3, "none": None, "list": [y, x]}

    x = np.array([1.0, 2.0])
    gradient, aux = fg.grad(f, has_aux=True)(x)
    (value, same_aux), same_gradient = fg.value_and_grad(f, has_aux=True)(x)
    out, pullback, third = fg.vjp(f, x, has_aux=True)
    same(gradient, 8 * x)
    same(same_gradient, gradient)
    assert value == out == 20
    same(pullback(np.float64(1.0))[0], 8 * x)
    for a in (aux, same_aux, third):
        same(a["y"], 2 * x)
        same(a["list"][1], x)
        assert (a["name"], a["n"], a["none"]) == ("run", 3, None)


def test_aux_of_an_inner_gradient_still_carries_outer_derivatives() -> None:
    def f(x: Any) -> Any:
        gradient, aux = fg.grad(lambda y: (x * y**2, x * y), has_aux=True)(x)  # 2x², x²
        return gradient + 10 * aux

    assert fg.grad(f)(3.0) == 12 * 2 * 3.0


def test_aux_may_be_a_dataclass_or_none() -> None:
    _, aux = fg.grad(lambda x: (x, Layer(x, 2 * x, "relu")), has_aux=True)(1.0)
    assert aux == Layer(1.0, 2.0, "relu")
    assert fg.value_and_grad(lambda x: (x, None), has_aux=True)(1.0) == ((1.0, None), 1)


# ── pytrees


TREES = [
    [1.0, 2.0],
    (1.0, (2.0, 3.0)),
    {"w": 1.0, "b": [2.0, None], "none": None},
    Point(1.0, 2.0),
    {"point": Point(np.ones(2), Layer(np.ones((2, 3)), np.float32(3)))},
    Layer(np.arange(3.0), [1.0, {"x": np.ones((2, 1))}]),
    OrderedDict(z=1.0, a=np.ones(2)),
    None,
    {},
    np.ones((2, 3)),
    np.float16(2),
]


@pytest.mark.parametrize("tree", TREES, ids=lambda t: type(t).__name__)
def test_a_gradient_has_the_structure_the_shapes_and_the_dtypes_of_its_argument(tree: Any) -> None:
    def f(t: Any) -> Any:
        return sum([(leaf * leaf).sum() for leaf in fg.tree.leaves(t)], start=0.0 * scale)

    scale = np.float64(1.0)
    gradient = fg.grad(f)(tree)
    (pulled,) = fg.vjp(f, tree)[1](np.float64(1.0)) if fg.tree.leaves(tree) else (gradient,)
    for result in (gradient, pulled):
        assert fg.tree.structure(result) == fg.tree.structure(tree)
        assert type(result) is type(tree) or not fg.tree.structure(tree).num_children
        for leaf, x in zip(fg.tree.leaves(result), fg.tree.leaves(tree), strict=True):
            same(leaf, 2 * np.asarray(x))


def test_the_same_array_twice_in_a_pytree_is_two_variables() -> None:
    a = np.ones(2)
    first, second = fg.grad(lambda p: (p[0] * p[1]).sum() + p[0].sum())((a, a))
    same(first, [2.0, 2.0])
    same(second, [1.0, 1.0])


def test_the_same_array_for_two_arguments_is_two_variables() -> None:
    x = np.float64(3.0)
    assert fg.grad(lambda u, v: u * v, (0, 1))(x, x) == (3, 3)


def test_vjp_takes_and_gives_pytrees() -> None:
    def f(p: Any, scale: Any) -> Any:
        return {"out": p["a"] * scale, "pair": (p["b"].sum(), None)}

    p = {"a": np.array([1.0, 2.0]), "b": np.ones((2, 2), np.float32)}
    out, pullback = fg.vjp(f, p, 3.0)
    same(out["out"], [3.0, 6.0])
    gp, gs = pullback({"out": np.array([1.0, 10.0]), "pair": (np.float32(2), None)})
    same(gp["a"], [3.0, 30.0])
    same(gp["b"], np.full((2, 2), 2, np.float32))
    same(gs, 21.0)


def test_vjp_gives_none_for_what_carries_no_derivative() -> None:
    x, n = np.array([1.0, 2.0]), np.array([1, 2])
    _, pullback = fg.vjp(lambda x, n, flag, p: (x * n, n, p["k"]), x, n, True, {"k": 3, "w": 2.0})
    gx, gn, gflag, gp = pullback((np.ones(2), None, None))
    same(gx, [1.0, 2.0])
    assert (gn, gflag) == (None, None)
    assert gp["k"] is None
    same(gp["w"], 0.0)
    assert pullback((np.ones(2), np.zeros(2, int), 0))[1] is None


def test_vjp_of_a_function_without_arguments() -> None:
    out, pullback = fg.vjp(lambda: np.ones(2))
    same(out, np.ones(2))
    assert pullback(np.ones(2)) == ()


# ── gradients that are zero


@pytest.mark.parametrize("dtype", INEXACT)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2)])
def test_an_unused_argument_has_a_gradient_of_zeros(dtype: Any, shape: tuple[int, ...]) -> None:
    x = np.ones(shape, dtype)
    same(fg.grad(lambda x, y: y * 2, 0)(x, 3.0), np.zeros(shape, dtype))
    same(fg.vjp(lambda x: np.ones(2), x)[1](np.ones(2))[0], np.zeros(shape, dtype))


@pytest.mark.parametrize("constant", [3.0, np.float32(3), np.array(3.0)])
def test_a_constant_function_has_gradient_zero(constant: Any) -> None:
    same(fg.grad(lambda x: constant)(2.0), 0.0)
    value, gradient = fg.value_and_grad(lambda x: constant)(np.ones(2))
    same(value, constant)
    same(gradient, np.zeros(2))


@pytest.mark.parametrize(
    "f", [np.floor, np.sign, lambda x: x // 2, lambda x: (x > 1) * 1.0, lambda x: x.astype(int) * 1.0]
)
def test_piecewise_constant_functions_have_gradient_zero(f: Callable[..., Any]) -> None:
    same(fg.grad(lambda x: f(x) + 0.0)(3.7), 0.0)


# ── dtypes and shapes


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.sum(),
        lambda x: (x * np.float64(2)).sum(),
        lambda x: (x * np.ones(x.shape)).sum(),
        lambda x: x.astype(np.float64).sum(),
        lambda x: x.astype(np.float32).sum(),
        lambda x: np.mean(np.exp(x)),
        lambda x: (x * 2.0 + 1).sum() / 3,
        lambda x: np.stack([x, np.ones(x.shape)]).sum(),
        lambda x: (x * (1 + 2j)).imag.sum(),
        lambda x: 3.0,
    ],
)
def test_a_gradient_has_the_dtype_and_the_shape_of_its_input(f: Callable[..., Any], dtype: Any, shape: Any) -> None:
    gradient = fg.grad(f)(np.ones(shape, dtype))
    assert (gradient.dtype, gradient.shape) == (dtype, shape)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_the_gradient_of_a_real_function_of_complex_numbers(dtype: Any) -> None:
    # dL/dRe − i dL/dIm of |z|² is 2 conj(z)
    z = np.array([1 + 2j, -3j], dtype)
    same(fg.grad(lambda z: (z * np.conj(z)).real.sum())(z), 2 * np.conj(z))
    same(fg.grad(lambda z: z[0].imag)(z), np.array([-1j, 0], dtype))


def test_an_argument_may_be_a_number_of_python_or_numpy() -> None:
    for x in (3.0, np.float64(3.0), np.array(3.0)):
        same(fg.grad(lambda x: x**2)(x), 6.0)
    same(fg.grad(lambda x: x**2)(np.float32(3)), np.float32(6))
    same(fg.grad(lambda z: abs(z) ** 2)(1 + 2j), 2 - 4j)


NUMBERS = [
    2.0,
    np.float64(2.0),
    np.float32(2),
    np.float16(2),
    np.array([2.0, 3.0], np.float32),
    np.array(2.0, np.float32),
]


@pytest.mark.parametrize("x", NUMBERS, ids=lambda x: f"{type(x).__name__}-{np.asarray(x).dtype}")
@pytest.mark.parametrize(
    "f",
    [
        lambda x, c: c * x,
        lambda x, c: x / 3,
        lambda x, c: x**2 + 1.5,
        lambda x, c: c + 2 * x,
        lambda x, c: (x * 2.0) * c,
        lambda x, c: np.sin(x) * 2,
        lambda x, c: np.float32(2) * x,
        lambda x, c: x - c * 1e-3,
        lambda x, c: -x,
        lambda x, c: np.maximum(x, 2.5) * c,
    ],
)
@pytest.mark.parametrize("c", [np.float32(2), np.ones(2, np.float16), 2, np.float64(2)], ids=lambda c: type(c).__name__)
def test_values_and_dtypes_under_a_trace_are_those_of_plain_numpy(f: Callable[..., Any], c: Any, x: Any) -> None:
    out, _ = fg.vjp(lambda x: f(x, c), x)
    same(out, f(x, c))


@settings(max_examples=40)
@given(
    a=hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, max_dims=3, max_side=3), elements=st.floats(-2, 2)),
    data=st.data(),
)
def test_the_pullback_of_a_broadcast_sums_over_the_copies(a: Any, data: st.DataObject) -> None:
    shape = data.draw(hnp.broadcastable_shapes(a.shape, max_dims=3, max_side=3))
    b = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    ga, gb = fg.grad(lambda a, b: (a * b).sum(), (0, 1))(a, b)
    same_shape = np.broadcast_shapes(a.shape, b.shape)
    full_a, full_b = np.broadcast_to(a, same_shape), np.broadcast_to(b, same_shape)
    for x, g, other in ((a, ga, full_b), (b, gb, full_a)):
        assert g.shape == x.shape
        lead = len(same_shape) - x.ndim
        axes = (*range(lead), *(i + lead for i, n in enumerate(x.shape) if n == 1 and same_shape[i + lead] != 1))
        np.testing.assert_allclose(g, other.sum(axis=axes).reshape(x.shape), atol=1e-9)


# ── arrays of their own


def chain(x: Any) -> Any:
    for _ in range(3):
        x = np.exp(x) * 0.5
    return x


BIG = np.linspace(-1, 1, 10_000).reshape(100, 100)

ALIASES: dict[str, Callable[[Any], Any]] = {
    "identity": lambda x: x,
    "view": lambda x: x[::-1],
    "reshape": lambda x: x.reshape(-1),
    "transpose": lambda x: x.T,
    "broadcast": lambda x: np.broadcast_to(x, (2, *x.shape)),
    "sum": lambda x: x.sum(),
    "sum of an axis": lambda x: x.sum(axis=0),
    "doubled": lambda x: x + x,
    "same output twice": lambda x: (x, x),
    "saved output": np.exp,
    "chain": chain,
    "element": lambda x: x[0, 0],
    "concatenate": lambda x: fnp.concatenate([x, x]),
    "real": lambda x: x.real,
    "astype": lambda x: x.astype(np.float64),
    "stop": lambda x: fg.stop_gradient(x) * x,
    "constant": lambda x: BIG,
    "saved constant": lambda x: (x * BIG[: x.shape[0], : x.shape[1]], BIG),
    "saved view": lambda x: ((y := x + 1), np.sin(y[::-1])),
    "two results of one operation": lambda x: np.linalg.slogdet(x.T @ x + np.eye(x.shape[1])),
}
TUPLES = {"same output twice", "saved constant", "saved view", "two results of one operation"}


@pytest.mark.parametrize("name", ALIASES)
@pytest.mark.parametrize("big", [False, True])
def test_no_result_of_a_pullback_shares_memory_with_anything(name: str, big: bool) -> None:
    f = ALIASES[name]
    x, y = BIG.copy() if big else BIG[:3, :3].copy(), BIG.copy() if big else BIG[:3, :3].copy()
    out, pullback = fg.vjp(lambda x, y: (f(x), y + x), x, y)
    ct = fg.tree.map(lambda y: np.ones(np.shape(y)), out)
    gradients = [*pullback(ct), *pullback(ct)]
    for g in gradients:
        assert type(g) is np.ndarray
        assert g.flags.writeable
        assert g.flags.owndata
    others = [x, y, BIG, *fg.tree.leaves(out), *fg.tree.leaves(ct)]
    for i, g in enumerate(gradients):
        for other in others + gradients[:i]:
            assert not np.shares_memory(g, other)
    for leaf in fg.tree.leaves(out):
        assert not np.shares_memory(leaf, x)
        assert not np.shares_memory(leaf, BIG)


@pytest.mark.parametrize("name", sorted(set(ALIASES) - TUPLES))
def test_gradients_are_owned_and_writeable(name: str) -> None:
    x, y = BIG.copy(), BIG.copy()
    gradients = fg.grad(lambda p: ALIASES[name](p[0]).sum() + p[1].sum() + p[0][0, 0])((x, y))
    for g in gradients:
        assert g.flags.writeable
        assert g.flags.owndata
        assert not any(np.shares_memory(g, other) for other in (x, y, BIG))
    assert not np.shares_memory(*gradients)


def test_the_value_of_an_identity_is_not_the_input() -> None:
    x = np.array(2.0)
    value, gradient = fg.value_and_grad(lambda x: x)(x)
    x[...] = 5.0
    assert (value, gradient) == (2.0, 1.0)
    v = np.ones(3)
    value, _ = fg.value_and_grad(lambda v: v[1].reshape(()))(v)
    v[:] = 7
    assert value == 1.0


@pytest.mark.parametrize("name", sorted(set(ALIASES) - {"constant", "saved constant"}))
@pytest.mark.parametrize("kind", ["array", "view", "read-only view", "broadcast view"])
def test_a_pullback_does_not_notice_changes_of_inputs_outputs_or_results(name: str, kind: str) -> None:
    base = np.linspace(-1, 1, 16).reshape(4, 4)
    x = {"array": base, "view": base[1:], "read-only view": base[1:], "broadcast view": base[:1]}[kind]
    if kind == "read-only view":
        x = x.view()
        x.flags.writeable = False
    elif kind == "broadcast view":
        x = np.broadcast_to(x, (3, 4))

    def f(z: Any) -> Any:
        y = ALIASES[name](z)
        return y, np.sin(z), z**2, np.tanh(z) * z

    expected = fg.vjp(f, x.copy())[1]
    out, pullback = fg.vjp(f, x)
    ct = fg.tree.map(lambda y: np.ones(np.shape(y)), out)
    (right,) = expected(ct)
    base[...] = 99.0
    for leaf in fg.tree.leaves(out):
        if isinstance(leaf, np.ndarray):
            leaf[...] = 77.0
    (first,) = pullback(ct)
    same(first, right)
    first[...] = 55.0
    same(pullback(ct)[0], right)


def test_a_pullback_does_not_notice_changes_of_aux() -> None:
    def f(x: Any) -> Any:
        y = np.exp(x)
        return y.sum(), (y, x)

    x = np.zeros(3)
    _, pullback, aux = fg.vjp(f, x, has_aux=True)
    for part in aux:
        part[...] = 99.0
    same(pullback(np.float64(1.0))[0], np.ones(3))


def test_a_pullback_can_be_called_with_any_cotangents_any_number_of_times() -> None:
    x = np.array([1.0, 2.0, 3.0])
    _, pullback = fg.vjp(lambda x: np.sin(x) * x[0], x)
    jacobian = np.stack([pullback(row)[0] for row in np.eye(3)])
    for _ in range(2):
        for weights in (np.ones(3), np.array([1.0, -2.0, 0.5])):
            np.testing.assert_allclose(pullback(weights)[0], weights @ jacobian, rtol=1e-12)


@pytest.mark.parametrize(
    ("ct", "dtype"), [(1.0, np.float32), (2, np.float64), (np.float64(2), np.float32), (1j, np.complex64), (2, complex)]
)
def test_a_number_serves_as_the_cotangent_of_a_number(ct: Any, dtype: Any) -> None:
    x = np.ones((), dtype)
    same(fg.vjp(lambda x: x * 3, x)[1](ct)[0], dtype(3 * ct))


@pytest.mark.parametrize("kind", ["fortran", "strided", "negative", "read-only", "transposed"])
def test_the_memory_layout_of_the_input_does_not_matter(kind: str) -> None:
    c = np.arange(12.0).reshape(3, 4)
    x = {
        "fortran": np.asfortranarray(c),
        "strided": np.repeat(c, 2, axis=1)[:, ::2],
        "negative": c[::-1].copy()[::-1],
        "read-only": np.broadcast_to(c, (3, 4)),
        "transposed": c.T.copy().T,
    }[kind]
    f = lambda x: (x[1:] * np.sin(x[:-1])).sum() + x.T.reshape(-1)[5] ** 2
    same(fg.grad(f)(x), fg.grad(f)(c))


def test_arrays_with_operators_of_their_own_are_refused() -> None:
    for other in (np.eye(2).view(np.matrix), np.ma.array(np.eye(2))):
        with pytest.raises(fg.errors.UnsupportedError, match=r"numpy\.asarray"):
            fg.grad(lambda x, other=other: (x * other).sum())(np.eye(2))
        with pytest.raises(fg.errors.UnsupportedError, match=r"numpy\.asarray"):
            fg.grad(lambda x: x.sum())(other)
    with pytest.raises(fg.errors.DTypeError, match="Fraction"):
        fg.grad(lambda x: x * fractions.Fraction(1, 2))(1.0)


def test_a_memory_map_is_protected_like_an_array(tmp_path: Any) -> None:
    x = np.memmap(tmp_path / "x", dtype=float, mode="w+", shape=(3,))
    x[:] = 1.0
    _, pullback = fg.vjp(lambda x: (x * x).sum(), x)
    _, constant = fg.vjp(lambda t: (t * x).sum(), np.ones(3))
    x[:] = 100.0
    np.testing.assert_array_equal(pullback(1.0)[0], np.full(3, 2.0))
    np.testing.assert_array_equal(constant(1.0)[0], np.ones(3))


def test_a_cotangent_may_differ_in_byte_order() -> None:
    _, pullback = fg.vjp(lambda x: 2 * x, np.ones(3))
    np.testing.assert_array_equal(pullback(np.ones(3, ">f8"))[0], np.full(3, 2.0))


@pytest.mark.parametrize("dtype", ["u1", "u4", "u8", "i1", "i8"])
def test_the_slope_of_a_power_does_not_depend_on_the_integer_type_of_the_exponent(dtype: str) -> None:
    exponents = np.arange(3).astype(dtype)
    same(fg.grad(lambda x: (x**exponents).sum())(np.array([2.0, 3.0, 4.0])), [0.0, 1.0, 8.0])
