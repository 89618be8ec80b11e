"""Checks of derivatives, for the tests of people who write rules or numerical code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree as pytree
from funcgrad.core.types import is_inexact, type_of
from funcgrad.transforms.vjp import vjp

__all__ = ["check_grads"]


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 1,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    step: float | None = None,
    seed: int = 0,
) -> None:
    """Compare the pullback of `f` with central differences along random directions, up to an order of nesting.

    Args:
        f: A function of pytrees of arrays that returns a pytree of arrays.
        args: The point at which to check; its floating-point and complex leaves are varied.
        order: 1 checks the pullback of `f`, 2 also the pullback of that pullback, and so on.
        rtol: Relative tolerance; 1e-6 for double precision, 2e-2 for single, 2e-1 for half.
        atol: Absolute tolerance; the same values.
        step: The step of the differences; the cube root of the machine epsilon if nothing is said.
        seed: Of the random directions.

    Raises:
        AssertionError: The pullback is not the derivative; the message gives both numbers.

    Source:
        <ct, J v> = <Jᵀ ct, v>: the scalar test of Griewank and Walther, "Evaluating Derivatives" (2008), section 3.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> fg.testing.check_grads(lambda x: np.sin(x) * x, (np.array([0.5, 1.0]),), order=3)
    """
    random = np.random.default_rng(seed)
    leaves, structure = pytree.flatten(tuple(args))
    varied = [i for i, x in enumerate(leaves) if is_inexact(type_of(x).dtype)]
    if not varied:
        raise AssertionError("check_grads: there is no floating-point leaf to vary")

    def flat(*xs: Any) -> list[Any]:
        full = list(leaves)
        for i, x in zip(varied, xs, strict=True):
            full[i] = x
        out = pytree.leaves(f(*pytree.unflatten(structure, full)))
        return [y for y in out if is_inexact(type_of(y).dtype)]

    xs = [np.asarray(leaves[i]) for i in varied]
    coarsest = max((np.finfo(x.dtype).eps for x in xs), default=0.0)
    tolerance = 1e-6 if coarsest < 1e-12 else 2e-2 if coarsest < 1e-5 else 2e-1
    _check(
        flat,
        xs,
        order,
        tolerance if rtol is None else rtol,
        tolerance if atol is None else atol,
        float(coarsest) ** (1 / 3) if step is None else step,
        random,
    )


def _check(
    f: Callable[..., list[Any]],
    xs: list[Any],
    order: int,
    rtol: float,
    atol: float,
    step: float,
    random: np.random.Generator,
) -> None:
    ys, pullback = vjp(f, *xs)
    cts = [_direction(y, random) for y in ys]
    vs = [_direction(x, random) for x in xs]
    ahead = f(*(x + _like(step * v, x) for x, v in zip(xs, vs, strict=True)))
    behind = f(*(x - _like(step * v, x) for x, v in zip(xs, vs, strict=True)))
    differences = [(np.asarray(a) - np.asarray(b)) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
    expected = _inner(cts, differences)
    pulled = pullback([_like(ct, y) for ct, y in zip(cts, ys, strict=True)])
    for x, g in zip(xs, pulled, strict=True):
        if g.shape != x.shape or g.dtype != x.dtype:
            raise AssertionError(f"the cotangent of a {type_of(x)} is a {type_of(g)}")
    got = _inner(pulled, vs)
    scale = sum(float(np.sum(np.abs(np.asarray(ct) * d))) for ct, d in zip(cts, differences, strict=True))
    if not abs(got - expected) <= atol + rtol * max(abs(expected), scale):
        raise AssertionError(
            f"the pullback gives {got!r} along a random direction, central differences give {expected!r} "
            f"(tolerance {atol} + {rtol} relative)"
        )
    if order > 1:
        n = len(xs)
        fixed = [_like(ct, y) for ct, y in zip(cts, ys, strict=True)]

        def pulled_back(*args: Any) -> list[Any]:
            return list(vjp(f, *args[:n])[1](list(args[n:])))

        _check(pulled_back, [*xs, *fixed], order - 1, rtol, atol, step, random)


def _direction(x: Any, random: np.random.Generator) -> Any:
    t = type_of(x)
    v = random.standard_normal(t.shape)
    return v + 1j * random.standard_normal(t.shape) if t.dtype.kind == "c" else v


def _like(v: Any, x: Any) -> Any:
    return np.asarray(v).astype(type_of(x).dtype)


def _inner(gs: Sequence[Any], vs: Sequence[Any]) -> float:
    """Σ Re(g · v): the pairing for which the gradient of a real function is dL/dRe − i dL/dIm."""
    return float(sum(np.sum((np.asarray(g) * np.asarray(v)).real) for g, v in zip(gs, vs, strict=True)))
