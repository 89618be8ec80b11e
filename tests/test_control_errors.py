"""What loops, branches and custom rules say when they are misused: what happened, where, and the way out.

Each case must say the same eagerly, as far as it can be noticed there, and staged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import lax

Function = Callable[..., Any]
X = np.ones(3)


def said(f: Function) -> str:
    with pytest.raises(fg.errors.FuncgradError) as caught:
        f()
    return str(caught.value)


def check(f: Function, pieces: str) -> None:
    """The message contains these pieces, which are divided by bars."""
    text = said(f)
    for piece in pieces.split(" | "):
        assert piece in text, text


def double(c: Any, x: Any = None) -> Any:
    return c + c, x


def keep(c: Any, x: Any = None) -> Any:
    return c, x


# what is wrong with a loop or a branch: a function of an array of three, and what it says
MISUSES: dict[str, tuple[Function, str]] = {
    "the carry changes its dtype": (
        lambda x: lax.scan(lambda c, xi: (c + xi, c), np.int64(0), x),
        "scan(<lambda>): the carry changes its type: it goes in as int64[] and comes out as float64[] | "
        "init.astype('float64')",
    ),
    "a leaf of the carry changes its shape": (
        lambda x: lax.scan(lambda c, xi: ({"a": c["a"], "b": np.stack([xi, xi])}, None), {"a": 0.0, "b": x[0]}, x),
        "the carry changes its type at ['b']: it goes in as float64[] and comes out as float64[2] | init of shape (2,)",
    ),
    "the first of the leaves that differ is named": (
        lambda x: lax.while_loop(lambda s: s[2] < 3, lambda s: (s[0], s[1][:1], s[2] + 0.5), (x, x, np.int64(0))),
        "while_loop(<lambda>): the carry changes its type at [1]: it goes in as float64[3] and comes out as float64[1]",
    ),
    "the carry changes its structure": (
        lambda x: lax.scan(lambda c, xi: ({"total": c["total"], "n": xi}, None), {"total": x[0]}, x),
        "scan(<lambda>): the carry changes its structure, at the root: keys {'total'} vs {'total', 'n'}",
    ),
    "the carry becomes a tuple": (
        lambda x: lax.fori_loop(0, 3, lambda i, c: (c, c), x),
        "fori_loop(<lambda>): the carry changes its structure, at the root: an array vs a tuple",
    ),
    "the body returns no pair": (
        lambda x: lax.scan(lambda c, xi: c + xi, x[0], x),
        "scan(<lambda>): the function returned float64[], not a pair | return carry, y",
    ),
    "the body returns three": (
        lambda x: lax.scan(lambda c, xi: (c, xi, 1), x[0], x),
        "scan(<lambda>): the function returned a tuple of 3, not a pair",
    ),
    "the body returns nothing": (
        lambda x: lax.scan(lambda c, xi: None, x[0], x),
        "scan(<lambda>): the function returned None, not a pair",
    ),
    "the lengths differ": (
        lambda x: lax.scan(keep, 0.0, {"a": x, "b": x[:2]}),
        "scan: the lengths differ: the leading axis of xs['a'] is 3, the leading axis of xs['b'] is 2",
    ),
    "the length differs from the arrays'": (
        lambda x: lax.scan(keep, 0.0, x, length=4),
        "scan: the lengths differ: the leading axis of xs is 3, length is 4",
    ),
    "a negative length": (lambda x: lax.scan(keep, x, length=-1), "scan: length=-1 is negative | length=0"),
    "no length": (lambda x: lax.scan(keep, x), "scan: neither xs nor length says how many steps | length=10"),
    "a scalar to scan over": (lambda x: lax.scan(keep, 0.0, (x, 1.0)), "scan: xs[1] is a scalar, it has no axis"),
    "a bad number of steps to unroll": (lambda x: lax.scan(keep, 0.0, x, unroll=0), "scan: unroll=0 is no number"),
    "a bad number of steps to save": (
        lambda x: lax.scan(keep, 0.0, x, checkpoint_every=0),
        "scan: checkpoint_every=0 is no number of steps",
    ),
    "the condition is an array": (
        lambda x: lax.while_loop(lambda c: c > 3, lambda c: c, x),
        "while_loop(<lambda>): the condition returned bool[3], not one bool | (x > 0).any()",
    ),
    "the condition is a number": (
        lambda x: lax.while_loop(lambda c: c.sum(), lambda c: c, x),
        "while_loop(<lambda>): the condition returned float64[], not one bool",
    ),
    "the condition is a tuple": (
        lambda x: lax.while_loop(lambda c: (True, c), lambda c: c, x),
        "while_loop(<lambda>): the condition returned a tuple of 2, not one bool",
    ),
    "a bound is a float": (
        lambda x: lax.fori_loop(0, x[0], lambda i, c: c, x),
        "fori_loop(<lambda>): a bound is float64[], not an integer scalar",
    ),
    "a bound is an array": (
        lambda x: lax.fori_loop(0, x.astype(int), lambda i, c: c, x),
        "fori_loop(<lambda>): a bound is int64[3], not an integer scalar",
    ),
    "a condition for each element": (
        lambda x: lax.cond(x > 0, lambda: 1.0, lambda: 2.0),
        "cond: the condition has shape (3,), but one branch runs for all | where(pred, x, y)",
    ),
    "a branch is a number": (lambda x: lax.cond(x[0] > 0, 1.0, lambda: 2.0), "cond: a branch is 1.0, not a function"),
    "no branch": (lambda x: lax.switch(0, [], x), "switch: there is no branch"),
    "a float chooses": (
        lambda x: lax.switch(x[0], [lambda: 1.0]),
        "switch: the index is float64[], not an integer scalar | switch(i.astype(int), branches, x)",
    ),
    "an array chooses": (lambda x: lax.switch(x.astype(int), [lambda: 1.0]), "switch: the index is int64[3]"),
    "batches of no elements": (
        lambda x: lax.map(np.sin, x, batch_size=0),
        "map: batch_size=0 is no number of steps | batch_size=100",
    ),
    "prefixes with other containers": (
        lambda x: lax.associative_scan(lambda a, b: (a, b), x),
        "associative_scan: the function returns another structure, at the root: an array vs a tuple",
    ),
    "prefixes of arrays of several lengths": (
        lambda x: lax.associative_scan(lambda a, b: a, (x, x[:2])),
        "associative_scan: the arrays have the lengths [2, 3] along axis 0",
    ),
    "prefixes that lose an axis": (
        lambda x: lax.associative_scan(lambda a, b: (a + b).sum(), x),
        "associative_scan: the function returns float64[] for two of float64[1]",
    ),
}


@pytest.mark.parametrize("name", MISUSES)
@pytest.mark.parametrize("outer", [lambda f: f, fg.jit, lambda f: lambda x: fg.vjp(f, x)], ids=["eager", "jit", "vjp"])
def test_a_misused_loop_or_branch_says_what_is_wrong(name: str, outer: Any) -> None:
    f, pieces = MISUSES[name]
    check(lambda: outer(f)(X), pieces)


# what cannot be noticed where only one branch runs
MISMATCHES: dict[str, tuple[Function, str]] = {
    "shapes": (
        lambda x: lax.cond(x[0] > 0, lambda: {"a": x, "b": x}, lambda: {"a": x, "b": x[:2]}),
        "cond: the branches <lambda> and <lambda> return different types at ['b']: float64[3] and float64[2]",
    ),
    "dtypes": (
        lambda x: lax.cond(x[0] > 0, lambda: x, lambda: x > 0),
        "cond: the branches <lambda> and <lambda> return different types: float64[3] and bool[3] | x.astype(y.dtype)",
    ),
    "keys": (
        lambda x: lax.cond(x[0] > 0, lambda: {"a": x, "b": x}, lambda: {"a": x}),
        "cond: the branches <lambda> and <lambda> return different structures, at the root: keys {'a', 'b'} vs {'a'}",
    ),
    "None": (
        lambda x: lax.cond(x[0] > 0, np.sin, lambda v: None, x),
        "cond: the branches sin and <lambda> return different structures, at the root: an array vs None",
    ),
    "of the third": (
        lambda x: lax.switch(x[0].astype(int), [np.sin, np.cos, lambda v: v[0]], x),
        "switch: the branches sin and <lambda> return different types: float64[3] and float64[]",
    ),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_branches_that_differ_say_where(name: str) -> None:
    f, pieces = MISMATCHES[name]
    check(lambda: fg.jit(f)(X), pieces)
    check(lambda: fg.vmap(f)(np.stack([X, X])), pieces)


def test_a_message_has_the_line_of_the_call() -> None:
    text = said(lambda: fg.jit(lambda x: lax.scan(lambda c, xi: (c + xi, c), np.int64(0), x))(X))
    assert "test_control_errors.py" in text
    assert "at " in text


# ── custom rules


def ruled(fwd: Function, bwd: Function) -> Function:
    @fg.custom_vjp
    def f(x: Any, y: Any) -> Any:
        return {"z": x * y.sum()}

    f.defvjp(fwd, bwd)
    return lambda x, y: f(x, y)["z"]


def forward(x: Any, y: Any) -> Any:
    return {"z": x * y.sum()}, (x, y)


def backward(saved: Any, g: Any) -> Any:
    x, y = saved
    return g["z"] * y.sum(), g["z"] * x * np.ones(3)


RULES: dict[str, tuple[Function, Function, str]] = {
    "one cotangent too few": (
        forward,
        lambda saved, g: (g["z"],),
        "the backward rule of f returned 1 cotangent, but f has 2 inputs (x, y) | a tuple with one cotangent",
    ),
    "one too many": (forward, lambda saved, g: (None,) * 3, "returned 3 cotangents, but f has 2 inputs (x, y)"),
    "no tuple": (forward, lambda saved, g: g["z"], "the backward rule of f returned float64[], but f has 2 inputs"),
    "a dict": (forward, lambda saved, g: {"x": g["z"]}, "the backward rule of f returned a dict, but f has 2 inputs"),
    "nothing": (forward, lambda saved, g: None, "the backward rule of f returned None, but f has 2 inputs"),
    "another shape": (
        forward,
        lambda saved, g: (np.ones(2) * g["z"], None),
        "the backward rule of f returned float64[2] for 'x', which is float64[] | .reshape(x.shape)",
    ),
    "another dtype": (
        forward,
        lambda saved, g: (g["z"], (g["z"] * np.ones(3)).astype(np.float32)),
        "the backward rule of f returned float32[3] for 'y', which is float64[3] | ct.astype(x.dtype)",
    ),
    "another structure": (
        forward,
        lambda saved, g: ({"x": g["z"]}, None),
        "the backward rule of f returned a dict for 'x', which is float64[]",
    ),
    "a string": (forward, lambda saved, g: ("zero", None), "the backward rule of f returned a str for 'x'"),
    "no pair from the forward rule": (
        lambda x, y: [x, y],
        backward,
        "the forward rule of f returned a list, not a pair of the result and the residuals | return f(x), (x,)",
    ),
    "a triple from the forward rule": (lambda x, y: (x, y, 1), backward, "the forward rule of f returned a tuple of 3"),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("outer", [fg.grad, lambda f: fg.jit(fg.grad(f)), lambda f: fg.grad(fg.jit(f))])
def test_a_rule_that_does_not_fit_says_how(name: str, outer: Any) -> None:
    fwd, bwd, pieces = RULES[name]
    check(lambda: outer(ruled(fwd, bwd))(2.0, X), pieces)


def test_a_forward_rule_returns_what_the_function_returns() -> None:
    f = ruled(lambda x, y: ({"z": x * y}, None), backward)
    pieces = "the forward rule of f returns {'z': f64[3]}, but f itself returns {'z': f64[]} | return (f(x), residuals)"
    check(lambda: fg.grad(fg.jit(f))(2.0, X), pieces)


def test_a_cotangent_of_another_structure_names_the_argument() -> None:
    @fg.custom_vjp
    def f(p: Any) -> Any:
        return p["a"] * p["b"]

    f.defvjp(lambda p: (f(p), p), lambda p, g: ({"a": g * p["b"], "c": g},))
    p = {"a": 1.0, "b": 2.0}
    for outer in (lambda f: f, fg.jit):
        check(lambda outer=outer: outer(fg.grad(f))(p), "a cotangent for 'p' of another structure | keys {'a', 'b'} vs")


def test_what_a_rule_closes_over_is_not_differentiated_silently() -> None:
    def outer_function(c: Any) -> Any:
        @fg.custom_vjp
        def scaled(x: Any) -> Any:
            return x * c

        scaled.defvjp(lambda x: (x * c, None), lambda _, g: (g * c,))
        return scaled(c)

    for f in (fg.grad(outer_function), fg.jit(fg.grad(outer_function)), fg.grad(fg.jit(outer_function))):
        check(
            lambda f=f: f(3.0),
            "scaled closes over a value that | its custom rule says nothing | pass the value as an argument",
        )


def identity(x: Any) -> Any:
    return x


def of_two(x: Any, *, flag: Any) -> Any:
    return x


of_two_ruled = fg.custom_vjp(of_two)
of_two_ruled.defvjp(lambda x, flag: (x, None), lambda _, g: (g,))

DEFINITIONS: dict[str, tuple[Function, str]] = {
    "no rules": (lambda: fg.custom_vjp(identity)(1.0), "identity is a custom_vjp without rules | f.defvjp(fwd, bwd)"),
    "no function": (lambda: fg.custom_vjp(3), "custom_vjp takes a function"),  # type: ignore[arg-type]
    "no functions for rules": (
        lambda: fg.custom_vjp(identity).defvjp(identity, None),  # type: ignore[arg-type]
        "defvjp takes two functions",
    ),
    "a position there is not": (
        lambda: fg.custom_vjp(identity, nondiff_argnums=(1,)),
        "nondiff_argnums=(1,) names position 1, but identity has 1 parameters",
    ),
    "a name there is not": (
        lambda: fg.custom_vjp(identity, nondiff_argnames=("y",)),
        "nondiff_argnames=('y',) names 'y', but identity has the parameters x",
    ),
    "keyword-only parameters": (
        lambda: of_two_ruled(1.0, flag=2.0),
        "custom_vjp: of_two has the keyword-only parameters flag | def f(x, y)",
    ),
    "a custom_gradient without a pullback": (
        lambda: fg.grad(fg.custom_gradient(identity))(1.0),
        "identity is a custom_gradient, so it must return a pair of its result and its pullback",
    ),
    "a custom_gradient whose pullback gives too little": (
        lambda: fg.grad(fg.custom_gradient(lambda x, y: (x * y, lambda g: g)))(1.0, 2.0),
        "the backward rule of <lambda> returned float64[], but <lambda> has 2 inputs (x, y)",
    ),
    "a linear system that nobody can transpose": (
        lambda: fg.grad(lambda b: lax.custom_linear_solve(lambda x: 2 * x, b, lambda f, b: b / 2))(1.0),
        "nothing says how | transpose_solve, or symmetric=True",
    ),
    "a checkpoint of a static argument there is not": (
        lambda: fg.checkpoint(identity, static_argnums=1)(1.0),
        "checkpoint: static_argnums=(1,) in a call with 1 positional arguments",
    ),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_misused_definition_says_what_is_wrong(name: str) -> None:
    f, pieces = DEFINITIONS[name]
    check(f, pieces)


def test_a_rule_that_raises_does_so_where_it_is_differentiated() -> None:
    @fg.custom_vjp
    def forward_only(x: Any) -> Any:
        return x * 2

    def refuse(saved: Any, g: Any) -> Any:
        raise NotImplementedError("this has no derivative")

    forward_only.defvjp(lambda x: (x * 2, None), refuse)
    assert fg.jit(forward_only)(3.0) == 6.0
    assert fg.vmap(forward_only)(X).tolist() == [2.0, 2.0, 2.0]
    for f in (fg.grad(forward_only), fg.jit(fg.grad(forward_only)), fg.grad(fg.jit(forward_only))):
        with pytest.raises(NotImplementedError, match="this has no derivative"):
            f(3.0)


def test_an_error_inside_a_partial_names_the_function() -> None:
    def step(scale: Any, c: Any, x: Any) -> Any:
        return c * scale

    check(lambda: lax.scan(functools.partial(step, 2.0), 1.0, X), "scan(step): the function returned float64[]")


@pytest.mark.parametrize("transformation", [fg.checkpoint, fg.custom_gradient, fg.custom_vjp, fg.jit, fg.vmap, fg.grad])
def test_a_transformation_takes_a_function(transformation: Any) -> None:
    with pytest.raises(fg.errors.ArgumentError, match=r"takes a function, got a float \(3.0\)"):
        transformation(3.0)
