"""What a checkpoint saves is what its policy says, and whatever it says, values and derivatives are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp

saves = fg.checkpoint_policies

W, X = np.linspace(-1.0, 1.0, 9).reshape(3, 3), np.linspace(0.5, 2.0, 6).reshape(2, 3)


def block(w: Any, x: Any) -> Any:
    h = fg.checkpoint_name(fnp.tanh(x @ w), "hidden")
    gate = fg.checkpoint_name(fnp.exp(-(h**2)), "gate")
    return fnp.sum(fnp.sin(h) * gate + x)


def saved(policy: Any) -> list[str]:
    """What is kept besides the arguments, by the primitive that computes it."""
    residuals = fg.saved_residuals(fg.checkpoint(block, policy=policy), W, X)
    origins = [r.origin.partition(",")[0] for r in residuals]
    return [origin.removeprefix("output of ") for origin in origins if not origin.startswith("argument")]


@pytest.mark.parametrize(
    ("policy", "count"),
    [
        (None, 0),
        (saves.nothing_saveable, 0),
        (saves.save_only_these_names("hidden"), 1),
        (saves.save_only_these_names("hidden", "gate"), 2),
        (saves.save_only_these_names("another"), 0),
        (saves.save_any_names_but_these("hidden"), 1),
        (saves.save_any_names_but_these("hidden", "gate"), 0),
        (saves.dots_saveable, 1),
        (saves.dots_with_no_batch_dims_saveable, 1),
        (saves.save_from_both_policies(saves.save_only_these_names("gate"), saves.save_only_these_names("hidden")), 2),
    ],
)
def test_a_policy_chooses_what_is_saved(policy: Any, count: int) -> None:
    assert len(saved(policy)) == count


def test_a_named_value_is_saved_once_though_rules_read_it_without_its_name() -> None:
    # the rule of tanh reads its result, which `checkpoint_name` got
    residuals = fg.saved_residuals(fg.checkpoint(block, policy=saves.save_only_these_names("hidden")), W, X)
    backward = fg.make_jaxpr(fg.grad(fg.checkpoint(block, policy=saves.save_only_these_names("hidden"))))(W, X)
    assert sum(r.nbytes for r in residuals) == W.nbytes + 2 * X.nbytes
    assert "tanh" not in str(backward.equations[-1].primitive)


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit, lambda f: lambda w, x: fg.jit(fg.checkpoint(f))(w, x)])
@pytest.mark.parametrize(
    "policy",
    [
        saves.everything_saveable,
        saves.nothing_saveable,
        saves.dots_saveable,
        saves.save_only_these_names("hidden"),
        saves.save_any_names_but_these("hidden"),
        saves.save_anything_except_these_names("hidden"),
    ],
)
def test_a_policy_changes_no_derivative(wrap: Callable[..., Any], policy: Any) -> None:
    f = wrap(fg.checkpoint(block, policy=policy))
    expected = fg.grad(block, argnums=(0, 1))(W, X)
    for got, want in zip(fg.grad(f, argnums=(0, 1))(W, X), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    v = np.ones_like(W)
    np.testing.assert_allclose(fg.hvp(f)(v, W, X), fg.hvp(block)(v, W, X), rtol=1e-10)


def test_an_argument_with_a_name_is_kept_as_the_argument() -> None:
    f = fg.checkpoint(lambda x: fnp.sum(fnp.sin(fg.checkpoint_name(x, "x"))), policy=saves.save_only_these_names("x"))
    assert [r.origin for r in fg.saved_residuals(f, X)] == ["argument 'x'"]


def test_a_value_may_have_several_names() -> None:
    def f(x: Any) -> Any:
        y = fnp.exp(x)
        a = fg.checkpoint_name(fg.checkpoint_name(y, "inner"), "outer")
        return fnp.sum(fnp.sin(a) * y)

    x = np.array([0.1, 0.2])
    for name in ("inner", "outer"):
        g = fg.checkpoint(f, policy=saves.save_only_these_names(name))
        np.testing.assert_allclose(fg.grad(g)(x), fg.grad(f)(x), rtol=1e-12)
        assert len(fg.saved_residuals(g, x)) == 1
