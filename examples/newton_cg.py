"""Softmax regression by Newton's method: the loss of a linear classifier of digits, minimised to the last bit.

A Newton step d solves H d = −g, with the gradient g and the Hessian H of the loss. Conjugate gradients solve it by
products of H with vectors alone; `hvp` computes those, so no Hessian is ever built. The whole step, with the loop of
conjugate gradients and the line search in it, is one compiled function.

    python examples/newton_cg.py

Source: J. Nocedal, S. J. Wright, Numerical Optimization (2nd edition, 2006): algorithms 5.2 (conjugate gradients),
7.1 (Newton with conjugate gradients) and theorem 7.2 (its rate); R. S. Dembo, S. C. Eisenstat, T. Steihaug, "Inexact
Newton methods", SIAM Journal on Numerical Analysis 19 (1982).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax
from funcgrad.extend import Array

HERE = Path(__file__).parent
DATA = HERE / "data" / "digits.npz"
PICTURE = HERE / "out" / "newton_cg.png"
SEED = 231
DECAY = 1e-3

Params: TypeAlias = Any  # any pytree of arrays; here weights "W" of shape (64, 10) and biases "b" of shape (10,)
Loss: TypeAlias = Callable[[Params], Array]


class Digits(NamedTuple):
    """Images, as rows of 64 pixels from 0 to 1, and the digit that each shows."""

    x: NDArray[np.float64]
    y: NDArray[np.intp]


def load(seed: int = SEED) -> tuple[Digits, Digits]:
    """Three quarters of the images for training, one quarter for testing, at random."""
    with np.load(DATA) as data:
        x, y = data["images"].reshape(-1, 64) / 16, data["labels"].astype(np.intp)
    test, train = np.split(np.random.default_rng(seed).permutation(len(x)), [len(x) // 4])
    return Digits(x[train], y[train]), Digits(x[test], y[test])


def zeros() -> Params:
    return {"W": np.zeros((64, 10)), "b": np.zeros(10)}


def softmax_loss(data: Digits, decay: float = DECAY) -> Loss:
    """Minus the mean log-probability of the right digit, with an L2 penalty that makes the minimum unique.

    The biases need it, too: the same number added to all of them would change no probability.
    """

    def loss(params: Params) -> Array:
        log_p = fg.nn.log_softmax(data.x @ params["W"] + params["b"])
        right = fnp.take_along_axis(log_p, data.y[:, None], axis=1)
        return decay * dot(params, params) - fnp.mean(right)

    return loss


def accuracy(params: Params, data: Digits) -> float:
    return float(np.mean(np.argmax(data.x @ params["W"] + params["b"], axis=1) == data.y))


# Pytrees as vectors


def dot(a: Params, b: Params) -> Array:
    return sum(fnp.vdot(x, y) for x, y in zip(fg.tree.leaves(a), fg.tree.leaves(b), strict=True))


def plus(a: Params, t: Array, b: Params) -> Params:
    """a + t b."""
    return fg.tree.map(lambda x, y: x + t * y, a, b)


# One step


def conjugate_gradients(
    product: Callable[[Params], Params], b: Params, tolerance: Array, limit: int = 500
) -> tuple[Params, Array]:
    """A solution d of A d = b, for a positive definite A that is known by its products; and the steps that it took.

    Args:
        product: From v to A v.
        b: The right-hand side.
        tolerance: How long the residual b − A d may be.
        limit: The most steps to take.
    """

    def unsolved(state: Any) -> Array:
        _, _, _, rr, k = state
        return (rr > tolerance**2) & (k < limit)

    def step(state: Any) -> Any:
        d, r, p, rr, k = state  # the solution so far, its residual b − A d, the next direction, r·r
        Ap = product(p)
        length = rr / dot(p, Ap)
        r = plus(r, -length, Ap)
        rr_next = dot(r, r)
        return plus(d, length, p), r, plus(r, rr_next / rr, p), rr_next, k + 1

    start = fg.tree.map(fnp.zeros_like, b)
    d, *_, steps = lax.while_loop(unsolved, step, (start, b, b, dot(b, b), 0))
    return d, steps


def backtrack(f: Loss, x: Params, d: Params, value: Array, slope: Array) -> Array:
    """The first of the lengths 1, 1/2, 1/4, … at which f falls by 1e-4 of what its slope promises (Armijo).

    Close to the minimum f falls by less than its own rounding error: as much is granted.
    """

    def too_long(t: Array) -> Array:
        return f(plus(x, t, d)) > value + 1e-4 * t * slope + 4 * np.finfo(float).eps * abs(value)

    return lax.while_loop(too_long, lambda t: t / 2, 1.0)


class Step(NamedTuple):
    """Where a step began, the length of the gradient there, and how the step was found."""

    loss: float
    gradient: float
    products: int
    length: float


def newton_step(f: Loss, x: Params) -> tuple[Params, Step]:
    """From x to the minimum of the parabola that touches f there, roughly solved for as long as that is far away.

    The residual may be as long as min(1/2, |g|)·|g|: then |g| falls quadratically, and far from the minimum no product
    is wasted. Near it, eight digits of d are enough: they take a gradient of 1e-8 to the rounding error.
    """
    value, g = fg.value_and_grad(f)(x)
    norm = fnp.sqrt(dot(g, g))
    downhill = fg.tree.map(lambda x: -x, g)
    d, products = conjugate_gradients(lambda v: fg.hvp(f)(v, x), downhill, fnp.clip(norm, 1e-8, 0.5) * norm)
    length = backtrack(f, x, d, value, dot(g, d))
    return plus(x, length, d), Step(value, norm, products, length)


# Two ways down


@dataclass
class Run:
    """A minimisation: where it ended, and on the way the loss, the length of the gradient, and the work so far.

    The work is counted in gradients; a product with the Hessian counts as two.
    """

    name: str
    params: Params
    loss: list[float] = field(default_factory=list)
    gradient: list[float] = field(default_factory=list)
    work: list[int] = field(default_factory=list)


def newton(f: Loss, start: Params, tolerance: float = 1e-12, limit: int = 50, quiet: bool = True) -> Run:
    """Newton steps until the gradient is shorter than the tolerance; each is printed unless `quiet`."""
    step = fg.jit(partial(newton_step, f))
    run = Run("Newton", start)
    work = 0
    for k in range(limit + 1):
        x, at = step(run.params)
        run.loss.append(float(at.loss))
        run.gradient.append(float(at.gradient))
        run.work.append(work := work + 1)
        done = at.gradient <= tolerance
        if not quiet:
            print(line(k, run.gradient, at, done))
        if done:
            break
        run.params, work = x, work + 2 * int(at.products)
    return run


HEADER = "step               loss  gradient  by the square before  products  step length"


def line(k: int, gradients: Sequence[float], at: Step, done: bool) -> str:
    rounding = 1e-15  # a gradient below it is all rounding, and follows no law
    ratio = f"{gradients[-1] / gradients[-2] ** 2:20.1f}" if k and gradients[-1] > rounding else " " * 20
    step = "" if done else f"  {at.products:8d}  {at.length:11g}"
    return f"{k:4d}  {at.loss:.15f}  {at.gradient:8.1e}  {ratio}{step}"


def lbfgs(f: Loss, start: Params, tolerance: float = 1e-12) -> Run:
    """The same minimum by SciPy, which takes the compiled value and gradient.

    It ends where the loss no longer falls: by then its digits are used up, long before those of the gradient.
    """
    flat, unravel = fg.tree.ravel_pytree(start)
    value_and_grad = fg.jit(fg.value_and_grad(lambda x: f(unravel(x))))
    run = Run("L-BFGS", start)

    def recorded(x: Array) -> tuple[float, Array]:
        value, g = value_and_grad(x)
        run.loss.append(float(value))
        run.gradient.append(math.sqrt(g @ g))
        run.work.append(len(run.work) + 1)
        return value, g

    found = minimize(
        recorded, flat, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 0.0, "gtol": tolerance}
    )
    run.params = unravel(found.x)
    return run


# What came of it


def report(runs: Sequence[Run], test: Digits) -> str:
    lines = [f"{'':<6}            minimum  gradient  gradients computed  test accuracy"]
    for run in runs:
        end = f"{run.loss[-1]:.15f}  {run.gradient[-1]:8.1e}  {run.work[-1]:18d}"
        lines.append(f"{run.name:<6}  {end}  {accuracy(run.params, test):>13.1%}")
    return "\n".join(lines)


def draw(runs: Sequence[Run], path: Path) -> None:
    """The length of the gradient, by steps and by work."""
    from matplotlib.figure import Figure  # slow, and needed only here

    figure = Figure(figsize=(11, 4), dpi=110, layout="constrained")
    steps, work = figure.subplots(1, 2, sharey=True)
    for run, color, marker in zip(runs, ["#2a78d6", "#eb6834"], ["o", ""], strict=True):
        style = {"color": color, "marker": marker, "markersize": 5, "linewidth": 2, "label": run.name}
        steps.plot(np.arange(len(run.gradient)), run.gradient, **style)
        work.plot(run.work, run.gradient, **style)
    steps.set(title="Newton's method converges quadratically", xlabel="step", ylabel="length of the gradient")
    steps.set(xscale="symlog", yscale="log")
    steps.set_xlim(0, max(len(run.gradient) for run in runs))
    steps.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    work.set(
        title="What it costs", xlabel="gradients computed (a Hessian-vector product counts as two)", xlim=(0, None)
    )
    for axes in (steps, work):
        axes.legend(frameon=False)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15)


def demo(picture: Path) -> list[Run]:
    """Minimise in both ways, print each Newton step, and draw how the gradient vanishes."""
    train, test = load()
    loss = softmax_loss(train)
    print(f"Softmax regression on {len(train.y)} digits, 650 parameters, by Newton's method:\n\n{HEADER}")
    runs = [newton(loss, zeros(), quiet=False), lbfgs(loss, zeros())]
    draw(runs, picture)
    print(f"\n{report(runs, test)}\n\nThe picture is in {os.path.relpath(picture)}")
    return runs


if __name__ == "__main__":
    demo(PICTURE)
