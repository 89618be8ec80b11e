"""`checkpoint` changes no value and no derivative; it saves memory, and computes again what it did not save.

What each policy saves is in test_checkpoint_policies.py.
"""

from __future__ import annotations

import functools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import lax
from funcgrad.core import config
from funcgrad.core.ir import Jaxpr
from tests.jitted import working_memory

Function = Callable[..., Any]
X = np.array([0.5, -1.0, 2.0])


@pytest.fixture
def by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs run through NumPy: machine code computes a chain in registers and stores none of it."""
    monkeypatch.setattr(config, "NATIVE", False)


def close(a: Any, b: Any, rtol: float = 1e-10) -> None:
    fg.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol), a, b)


def count(jaxpr: Jaxpr, name: str) -> int:
    """How often a primitive stands in a jaxpr, inner ones included."""
    return f" {jaxpr} ".replace("\n", " ").count(f" = {name} ")


def peak(f: Function, *args: Any) -> int:
    """The greatest number of bytes that a call needs at once, beyond its arguments."""
    f(*args)
    tracemalloc.start()
    try:
        f(*args)
        traced = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # machine code works in memory that is there from the call before
    return traced + (working_memory(f, *args) if hasattr(f, "lower") else 0)


# ── it changes nothing


def tree_function(p: Any, xs: Any, scale: Any = 2.0) -> Any:
    y = np.tanh(p["w"] * xs[0]) * scale
    return {"y": y * y, "n": xs[1] + 1, "none": None}


@pytest.mark.parametrize("inner", [lambda f: f, fg.jit], ids=["", "of jit"])
@pytest.mark.parametrize("outer", [lambda f: f, fg.jit], ids=["", "in jit"])
def test_pytrees_defaults_and_keywords(inner: Any, outer: Any) -> None:
    p, xs = {"w": X}, (X + 1, 3)
    f = fg.checkpoint(inner(tree_function))
    for kwargs in ({}, {"scale": 5.0}):
        plain = lambda p, xs, kwargs=kwargs: tree_function(p, xs, **kwargs)
        saved = outer(lambda p, xs, kwargs=kwargs: f(p, xs, **kwargs))
        close(saved(p, xs), plain(p, xs))
        got = outer(fg.grad(lambda p, saved=saved: saved(p, xs)["y"].sum()))(p)
        close(got, fg.grad(lambda p, plain=plain: plain(p, xs)["y"].sum())(p))
        assert saved(p, xs)["none"] is None


def block(x: Any, w: Any) -> Any:
    return np.sin(np.exp(-x * x) * w)


TRANSFORMED: dict[str, Callable[[Function], Function]] = {
    "grad": lambda f: fg.grad(lambda x, w: f(x, w).sum(), (0, 1)),
    "jit grad": lambda f: fg.jit(fg.grad(lambda x, w: f(x, w).sum(), (0, 1))),
    "grad jit": lambda f: fg.grad(fg.jit(lambda x, w: f(x, w).sum()), (0, 1)),
    "vmap grad": lambda f: fg.vmap(fg.grad(f, (0, 1))),
    "grad vmap": lambda f: fg.grad(lambda x, w: fg.vmap(f)(x, w).sum(), (0, 1)),
    "hvp": lambda f: lambda x, w: fg.hvp(lambda x: f(x, w).sum())(w, x),
    "jit grad grad": lambda f: fg.jit(fg.vmap(fg.grad(fg.grad(fg.grad(f))))),
    "scan": lambda f: fg.grad(lambda x, w: lax.scan(lambda c, v: (f(c, v), None), x, w)[0].sum(), (0, 1)),
    "jit scan": lambda f: fg.jit(fg.grad(lambda x, w: lax.scan(lambda c, v: (f(c, v), None), x, w)[0].sum(), (0, 1))),
    "while": lambda f: fg.jit(
        fg.grad(lambda x, w: lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, f(s[1], w)), (0, x))[1].sum())
    ),
    "cond": lambda f: fg.jit(fg.grad(lambda x, w: lax.cond(x[0] > 0, f, lambda x, w: x, x, w).sum(), (0, 1))),
}


@pytest.mark.parametrize("name", TRANSFORMED)
@pytest.mark.parametrize("wrap", [fg.checkpoint, fg.remat, lambda f: fg.checkpoint(fg.checkpoint(f))])
def test_under_every_transformation_it_gives_what_the_function_gives(name: str, wrap: Any) -> None:
    transform = TRANSFORMED[name]
    close(transform(wrap(block))(X, X[::-1].copy()), transform(block)(X, X[::-1].copy()))


def test_it_is_a_decorator_with_and_without_arguments() -> None:
    @fg.checkpoint
    def f(x: Any) -> Any:
        """What f does."""
        return np.exp(np.sin(x))

    @fg.checkpoint(policy=fg.checkpoint_policies.everything_saveable)
    def g(x: Any) -> Any:
        return np.exp(np.sin(x))

    assert (f.__name__, f.__doc__) == ("f", "What f does.")
    close(fg.grad(f)(0.5), fg.grad(g)(0.5))


def test_static_arguments_are_passed_as_they_are() -> None:
    @functools.partial(fg.checkpoint, static_argnums=(1, -1))
    def f(x: Any, kind: str, times: int) -> Any:
        assert isinstance(times, int)
        for _ in range(times):
            x = np.sin(x) if kind == "sin" else np.exp(-x)
        return x

    close(fg.grad(lambda x: f(x, "sin", 2))(0.5), np.cos(np.sin(0.5)) * np.cos(0.5))
    close(fg.jit(fg.grad(lambda x: f(x, "exp", 1)))(0.5), -np.exp(-0.5))


@pytest.mark.parametrize("outer", [lambda f: f, fg.jit], ids=["", "jit"])
def test_what_it_closes_over_is_differentiated(outer: Any) -> None:
    def f(w: Any, p: Any) -> Any:
        inner = fg.checkpoint(lambda x: np.sin(x * w) * p["scale"])
        return inner(X).sum()

    def plain(w: Any, p: Any) -> Any:
        return (np.sin(X * w) * p["scale"]).sum()

    args = np.float64(0.7), {"scale": np.float64(3.0)}
    close(outer(fg.grad(f, (0, 1)))(*args), fg.grad(plain, (0, 1))(*args))
    assert count(fg.make_jaxpr(fg.grad(f))(*args), "sin") == 1


def test_without_differentiation_the_function_runs_as_it_is() -> None:
    seen: list[Any] = []

    @fg.checkpoint
    def f(x: Any) -> Any:
        seen.append(x)
        return x * 2 if x > 0 else -x

    assert f(3.0) == 6.0
    assert seen == [3.0]


def test_inside_it_values_are_not_known() -> None:
    f = fg.checkpoint(lambda x: x * 2 if x > 0 else -x)
    with pytest.raises(fg.errors.TracedBoolError, match="checkpoint"):
        fg.grad(f)(3.0)
    # a static argument is known
    g = fg.checkpoint(lambda x, positive: x * 2 if positive else -x, static_argnums=1)
    assert fg.grad(lambda x: g(x, x > 0))(3.0) == 2.0


# ── what it computes again


def chain(x: Any) -> Any:
    return np.sin(np.exp(np.tanh(x)))


def test_the_backward_pass_computes_the_function_once_more_and_not_twice() -> None:
    backward = lambda f: fg.make_jaxpr(fg.grad(f))(1.0)
    assert [count(backward(chain), name) for name in ("tanh", "exp")] == [1, 1]
    assert [count(backward(fg.checkpoint(chain)), name) for name in ("tanh", "exp")] == [2, 2]
    # the result is not needed again
    assert count(backward(fg.checkpoint(chain)), "sin") == 1


@pytest.mark.usefixtures("by_numpy")
def test_the_compiled_program_does_not_merge_it_with_the_forward_pass() -> None:
    text = fg.jit(fg.value_and_grad(fg.checkpoint(chain))).lower(1.0).compile().as_text()
    computed = [text.count(f" = {name} ") + text.count(f"# {name}\n") for name in ("tanh", "exp", "sin")]
    assert computed == [2, 2, 1]
    assert [r.origin for r in fg.saved_residuals(fg.checkpoint(chain), X)] == ["argument 'x'"]


def test_without_a_policy_only_the_arguments_that_are_read_are_saved() -> None:
    f = fg.checkpoint(lambda x, y, z: (np.sin(x) * np.exp(y)).sum() + z.sum())
    assert sorted(r.origin for r in fg.saved_residuals(f, X, X + 1, X + 2)) == ["argument 'x'", "argument 'y'"]


@pytest.mark.parametrize(
    ("policy", "exps"),
    [
        (None, 2),
        (fg.checkpoint_policies.nothing_saveable, 2),
        (fg.checkpoint_policies.everything_saveable, 1),
        (fg.checkpoint_policies.dots_saveable, 2),
        (fg.checkpoint_policies.save_only_these_names("e"), 1),
        (fg.checkpoint_policies.save_only_these_names("d"), 2),
        (fg.checkpoint_policies.save_any_names_but_these("e"), 2),
        (fg.checkpoint_policies.save_any_names_but_these("d"), 1),
        (fg.checkpoint_policies.save_anything_except_these_names("d"), 1),
    ],
)
def test_a_policy_says_what_is_computed_again(policy: Any, exps: int) -> None:
    f = fg.checkpoint(lambda x: np.sin(fg.checkpoint_name(np.exp(x), "e")), policy=policy)
    assert count(fg.make_jaxpr(fg.grad(f))(1.0), "exp") == exps
    close(fg.jit(fg.grad(f))(1.0), np.cos(np.exp(1.0)) * np.exp(1.0))


def test_a_name_alone_changes_nothing() -> None:
    f = lambda x: fg.checkpoint_name({"a": np.exp(x), "b": [x, 2, None]}, "e")
    assert fg.tree.structure(f(1.0)) == fg.tree.structure({"a": 1, "b": [1, 2, None]})
    assert fg.grad(lambda x: f(x)["a"])(1.0) == np.exp(1.0)
    assert fg.grad(fg.grad(lambda x: f(x)["a"]))(1.0) == np.exp(1.0)


# ── memory


def blocks(depth: int, wrap: Any) -> Function:
    step = wrap(lambda x: np.tanh(np.exp(-x * x) * np.sin(x)) + x)

    def f(x: Any) -> Any:
        for _ in range(depth):
            x = step(x)
        return x.sum()

    return f


@pytest.mark.usefixtures("by_numpy")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_a_checkpointed_chain_needs_a_fraction_of_the_memory(compiled: bool) -> None:
    x = np.linspace(-1.0, 1.0, 20_000)
    outer = fg.jit if compiled else lambda f: f
    plain, saved = (peak(outer(fg.grad(blocks(64, wrap))), x) for wrap in (lambda f: f, fg.checkpoint))
    # of each block its argument, and not the four values on the way
    assert saved < plain / 2


@pytest.mark.usefixtures("by_numpy")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_in_two_levels_it_needs_about_the_square_root(compiled: bool) -> None:
    x = np.linspace(-1.0, 1.0, 20_000)
    step = lambda x: np.tanh(np.exp(-x * x) * np.sin(x)) + x

    def eight(x: Any) -> Any:
        for _ in range(8):
            x = fg.checkpoint(step)(x)
        return x

    def f(x: Any, group: Any) -> Any:
        for _ in range(8):
            x = group(x)
        return x.sum()

    outer = fg.jit if compiled else lambda f: f
    plain = peak(outer(fg.grad(blocks(64, lambda f: f))), x)
    nested = peak(outer(fg.grad(lambda x: f(x, fg.checkpoint(eight)))), x)
    assert nested < plain / 6
    close(fg.grad(lambda x: f(x, fg.checkpoint(eight)))(x), fg.grad(blocks(64, lambda f: f))(x))


def test_a_scan_of_checkpointed_steps_saves_only_its_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CHECK", False)  # a check computes all of it once more

    def f(x: Any, wrap: Any) -> Any:
        step = wrap(lambda c: np.tanh(np.exp(-c * c) * np.sin(c)) + c)
        return lax.scan(lambda c, _: (step(c), None), x, None, 50)[0].sum()

    x = np.linspace(-1.0, 1.0, 5_000)
    plain, saved = (peak(fg.jit(fg.grad(lambda x, w=w: f(x, w))), x) for w in (lambda f: f, fg.checkpoint))
    assert saved < 1.3 * 50 * x.nbytes
    assert saved < plain / 2
    close(fg.jit(fg.grad(lambda x: f(x, fg.checkpoint)))(x), fg.grad(lambda x: f(x, lambda g: g))(x))
