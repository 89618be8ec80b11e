"""Hares and lynxes: an equation of predators and prey, fitted to the pelts that the Hudson's Bay Company counted.

The equation is solved with steps that adapt to it: each takes two Runge-Kutta formulas, whose difference says how long
the next step may be, or that this one has to be taken again. So no one knows beforehand how many steps there are: it is
a `while_loop`, and the gradient goes back through it. `checkpoint_every` lowers the memory that this takes.

    python examples/ode_fit.py

Sources: A. J. Lotka, Elements of Physical Biology (1925), and V. Volterra, "Fluctuations in the abundance of a species
considered mathematically", Nature 118 (1926); J. R. Dormand, P. J. Prince, "A family of embedded Runge-Kutta formulae",
Journal of Computational and Applied Mathematics 6 (1980), table 2, RK5(4)7M; E. Hairer, S. P. Nørsett, G. Wanner,
Solving Ordinary Differential Equations I (2nd edition, 1993), section II.4 (the control of the step size).
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax
from funcgrad.extend import Array

PICTURE = Path(__file__).parent / "out" / "ode_fit.png"
EVERY = 25

# Pelts of snowshoe hares and Canada lynxes, in thousands, by year; as D. Purves et al., Life: The Science of Biology,
# and P. Howard, Modeling Basics (2009) print the records of the Hudson's Bay Company.
YEARS = np.arange(1900, 1921)
HARES = "30 47.2 70.2 77.4 36.3 20.6 18.1 21.4 22 25.4 27.1 40.3 57 76.6 52.3 19.5 11.2 7.6 14.6 16.2 24.7"
LYNXES = "4 6.1 9.8 35.2 59.4 41.7 19 13 8.3 9.1 7.4 8 12.3 19.5 45.7 51.1 29.7 15.8 9.7 10.1 8.6"
PELTS = np.array([HARES.split(), LYNXES.split()], float).T

# What others found: Howard by least squares; B. Carpenter, "Predator-prey population dynamics: the Lotka-Volterra model
# in Stan" (2018) as the mean of a posterior distribution, under the error model of this file and weak priors.
PUBLISHED = {
    "Howard (2009)": ("0.55", "0.028", "0.84", "0.026", "", ""),
    "Carpenter (2018)": ("0.55", "0.028", "0.80", "0.024", "", ""),
}

Params: TypeAlias = Any
Field: TypeAlias = Callable[[Array, Array, Params], Array]  # dy/dt as a function of t, y and parameters


# The solver

NODES = [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1]
STAGES = [
    [],
    [1 / 5],
    [3 / 40, 9 / 40],
    [44 / 45, -56 / 15, 32 / 9],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],  # the result, of order 5
]
ERROR = [71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40]  # less that of order 4


class Walk(NamedTuple):
    """The way so far: where it is and which slope it has there, how long the next step is, and how many were tried."""

    t: Array
    y: Array
    slope: Array
    h: Array
    tried: Array


def combine(weights: list[float], slopes: list[Array]) -> Array:
    return sum(w * k for w, k in zip(weights, slopes, strict=True) if w)


def runge_kutta(f: Field, walk: Walk, h: Array, params: Params) -> tuple[Array, Array, Array]:
    """y after a step of length h, the slope there, and an estimate of the error."""
    slopes = [walk.slope]
    y = walk.y
    for node, weights in zip(NODES[1:], STAGES[1:], strict=True):
        y = walk.y + h * combine(weights, slopes)
        slopes.append(f(walk.t + node * h, y, params))
    return y, slopes[-1], h * combine(ERROR, slopes)


def integrate(
    f: Field, walk: Walk, end: Array, params: Params, tolerance: float, checkpoint_every: int | None = None
) -> Walk:
    """Walk on to the time `end`, in steps as long as an error of `tolerance * (1 + |y|)` in each lets them be."""

    def adapted(walk: Walk) -> Walk:
        h = fnp.minimum(walk.h, end - walk.t)
        y, slope, error = runge_kutta(f, walk, h, params)
        allowed = tolerance * (1 + fnp.maximum(abs(walk.y), abs(y)))
        e2 = fnp.mean((error / allowed) ** 2)  # the step is good if this is at most 1
        good = e2 <= 1.0
        factor = fnp.clip(0.9 * fnp.maximum(e2, 1e-12) ** -0.1, 0.2, 5.0)  # e2 grows with the tenth power of h
        cut = h < walk.h  # a step that was cut short at the end says little about how long the next may be
        longer = fnp.where(good & cut, fnp.maximum(walk.h, factor * h), factor * h)
        t = fnp.where(good, fnp.where(cut, end, walk.t + h), walk.t)
        return Walk(t, fnp.where(good, y, walk.y), fnp.where(good, slope, walk.slope), longer, walk.tried + 1)

    arrived: Walk = lax.while_loop(lambda walk: walk.t < end, adapted, walk, checkpoint_every=checkpoint_every)
    return arrived


def solve(
    f: Field, y: Array, times: Array, params: Params, tolerance: float, checkpoint_every: int | None = None
) -> tuple[Array, Array]:
    """The solution at the given times, the first of which is where it starts; and the number of steps tried."""

    def onwards(walk: Walk, end: Array) -> tuple[Walk, Array]:
        walk = integrate(f, walk, end, params, tolerance, checkpoint_every)
        return walk, walk.y

    start = Walk(times[0], y, f(times[0], y, params), 0.01 * (times[1] - times[0]), 0)
    walk, ys = lax.scan(onwards, start, times[1:])
    return fnp.concatenate([y[None], ys]), walk.tried


# The model: hares u and lynxes v, du/dt = (α − β v) u and dv/dt = (δ u − γ) v, in logarithms, which keep both positive

NAMES = ["α", "β", "γ", "δ", "hares in 1900", "lynxes in 1900"]


def lotka_volterra(t: Array, y: Array, rates: Array) -> Array:
    growth, hunted, hunger, caught = rates
    hares, lynxes = fnp.exp(y)
    return fnp.stack([growth - hunted * lynxes, caught * hares - hunger])


def populations(
    params: Array, times: Array, tolerance: float = 1e-6, checkpoint_every: int | None = None
) -> tuple[Array, Array]:
    """The logarithms of both populations at the given times; and the number of steps tried.

    Args:
        params: The logarithms of α, β, γ, δ and of the populations at the first of these times.
        times: In years.
        tolerance: The error that each step of the solver may make.
        checkpoint_every: How many steps apart the gradient saves where the solver is.
    """
    return solve(lotka_volterra, params[4:], times, fnp.exp(params[:4]), tolerance, checkpoint_every)


def mismatch(params: Array) -> Array:
    """The sum of squares of the logarithms of model over record."""
    y, _ = populations(params, 1.0 * (YEARS - YEARS[0]))
    return fnp.sum((y - np.log(PELTS)) ** 2)


def guess() -> NDArray[np.float64]:
    """From what can be read off the records: the means, which are the rest point u = γ/δ, v = α/β of the equation, and
    two peaks ten years apart, the time 2π / √(αγ) of a small oscillation around it."""
    hares, lynxes = PELTS.mean(axis=0)
    rate = 2 * np.pi / 10
    return np.log([rate, rate / lynxes, rate, rate / hares, *PELTS[0]])


@dataclass
class Fit:
    """The best parameters, as logarithms, with the standard errors of these; and the way there."""

    params: NDArray[np.float64]
    errors: NDArray[np.float64]
    spread: float  # standard deviation of the records around the model, as logarithms
    seconds: float
    mismatch: list[float] = field(default_factory=list)


def fit(start: NDArray[np.float64]) -> Fit:
    """Least squares by SciPy, with the compiled value and gradient.

    Around the minimum the mismatch is a parabola. How steep it is says how well the records determine the parameters:
    that is its Hessian, by Hessian-vector products with all unit vectors at once.
    """
    value_and_grad = fg.jit(fg.value_and_grad(mismatch))
    history: list[float] = []

    def recorded(x: Array) -> tuple[float, Array]:
        value, gradient = value_and_grad(x)
        history.append(float(value))
        return value, gradient

    began = time.perf_counter()
    found = minimize(recorded, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-12, "gtol": 1e-6})
    seconds = time.perf_counter() - began
    hessian = fg.jit(fg.vmap(fg.hvp(mismatch), (0, None)))(np.eye(len(start)), found.x)
    variance = found.fun / (PELTS.size - len(start))
    errors = np.sqrt(np.diag(np.linalg.inv(hessian)) * 2 * variance)
    return Fit(found.x, errors, float(np.sqrt(variance)), seconds, history)


# What the gradient needs


def central_differences(f: Callable[[Array], Array], x: NDArray[np.float64], step: float = 1e-5) -> NDArray[np.float64]:
    return np.array([float(f(x + step * e) - f(x - step * e)) / (2 * step) for e in np.eye(len(x))])


class Cost(NamedTuple):
    """What a gradient took: the most memory in use during it, in kB, and its time in seconds."""

    memory: float
    seconds: float


def cost(params: NDArray[np.float64], years: float, checkpoint_every: int | None = None) -> Cost:
    """The cost of the gradient of where both populations are after so many years."""

    def end(params: Array) -> Array:
        return fnp.sum(populations(params, np.array([0.0, years]), 1e-7, checkpoint_every)[0][-1])

    gradient = fg.jit(fg.grad(end))
    gradient(params)  # compiles it
    began = time.perf_counter()
    gradient(params)
    seconds = time.perf_counter() - began
    tracemalloc.start()
    gradient(params)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Cost(peak / 1e3, seconds)


def costs(params: NDArray[np.float64], spans: Sequence[float]) -> dict[int | None, list[Cost]]:
    """What the gradient costs over spans of years, where every step is saved and where every 25th is."""
    return {every: [cost(params, years, every) for years in spans] for every in (None, EVERY)}


# What came of it


def report(found: Fit, steps: int) -> str:
    first, *_, last = found.mismatch
    rows = zip(NAMES, np.exp(guess()), np.exp(found.params), found.errors, *PUBLISHED.values(), strict=True)
    lines = [
        f"The Lotka-Volterra equation, fitted to {PELTS.size} records with {len(found.mismatch)} gradients in",
        f"{found.seconds:.1f} s ({steps} steps of the solver each, at first). The mismatch fell from {first:.2f} to",
        f"{last:.4f}: the records are off by a factor of about {np.exp(found.spread):.2f}, up or down.\n",
        f"{'':<14}   guess     fit  ± standard error  " + "  ".join(PUBLISHED),
    ]
    for name, begun, value, error, howard, carpenter in rows:
        ours = f"{name:<14}  {begun:6.3g}  {value:6.3g}  {value * error:16.2g}"
        lines.append(f"{ours}  {howard:>13}  {carpenter:>16}".rstrip())
    return "\n".join(lines)


def gradient_report(params: NDArray[np.float64]) -> str:
    gradient = fg.jit(fg.grad(mismatch))(params)
    numeric = central_differences(fg.jit(mismatch), params)
    lines = [f"{'by the logarithm of':<19}  {'through the solver':>18}  {'central difference':>18}"]
    lines += [f"{n:<19}  {g:18.6f}  {c:18.6f}" for n, g, c in zip(NAMES, gradient, numeric, strict=True)]
    return "\n".join(lines)


def cost_report(spans: Sequence[float], table: dict[int | None, list[Cost]]) -> str:
    lines = [f"{'':<22}" + "".join(f"  {f'over {years:g} years':>20}" for years in spans)]
    for every, row in table.items():
        name = "every step saved" if every is None else f"checkpoint_every={every}"
        lines.append(f"{name:<22}" + "".join(f"  {f'{c.memory:,.0f} kB, {1e3 * c.seconds:.2f} ms':>20}" for c in row))
    return "\n".join(lines)


def draw(found: Fit, spans: Sequence[float], table: dict[int | None, list[Cost]], path: Path) -> None:
    """The records and the fitted populations, over time and against each other; and the memory of a gradient."""
    from matplotlib.figure import Figure  # slow, and needed only here

    times = np.linspace(0.0, YEARS[-1] - YEARS[0], 401)
    fitted = np.exp(populations(found.params, times)[0])
    figure = Figure(figsize=(13, 4), dpi=110, layout="constrained")
    series, orbit, memory = figure.subplots(1, 3, width_ratios=[1.5, 1, 1])
    for i, (name, color) in enumerate([("hares", "#2a78d6"), ("lynxes", "#eb6834")]):
        series.plot(YEARS[0] + times, fitted[:, i], color=color, linewidth=2, label=name)
        series.plot(YEARS, PELTS[:, i], color=color, linestyle="", marker="o", markersize=4.5)
    series.set(title="Pelts (dots) and the equation", ylabel="thousands", ylim=(0, 90))
    series.set_xticks(range(1900, 1921, 5))
    series.legend(frameon=False, loc="upper right", ncols=2)
    orbit.plot(*fitted.T, color="#1baf7a", linewidth=2)
    orbit.plot(*PELTS.T, color="#555555", linestyle="", marker="o", markersize=4.5)
    orbit.set(
        title="Round and round", xlabel="hares, thousands", ylabel="lynxes, thousands", xlim=(0, 85), ylim=(0, 65)
    )
    for (every, row), color in zip(table.items(), ["#555555", "#1baf7a"], strict=True):
        name = "every step saved" if every is None else f"checkpoint_every={every}"
        memory.plot(spans, [c.memory for c in row], color=color, linewidth=2, marker="o", label=name)
    memory.set(title="Memory of a gradient", xlabel="years", ylabel="kB", xlim=(0, None), ylim=(0, None))
    memory.legend(frameon=False)
    for axes in (series, orbit, memory):
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15)


def demo(picture: Path, spans: Sequence[float] = (25.0, 50.0, 100.0)) -> Fit:
    """Fit the equation, check its gradient, measure what that costs, and draw it all."""
    start = guess()
    found = fit(start)
    table = costs(found.params, spans)
    draw(found, spans, table, picture)
    _, steps = populations(start, 1.0 * (YEARS - YEARS[0]))
    print(report(found, steps))
    print(f"\nThe gradient of the mismatch at the guess:\n\n{gradient_report(start)}")
    print(f"\nMemory and time of the gradient through one long loop:\n\n{cost_report(spans, table)}")
    print(f"\nThe picture is in {os.path.relpath(picture)}")
    return found


if __name__ == "__main__":
    demo(PICTURE)
