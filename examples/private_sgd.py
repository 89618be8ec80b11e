"""Learning from people's digits without learning about any one of them: per-example gradients, clipped, with noise.

Differentially private training takes the gradient of each example by itself, shortens it to at most C, adds them up and
adds noise in proportion to C. So no example can change a step by much more than the noise does anyway. Here the clipped
gradient is written for one example; `vmap` makes it that of a batch, and `jit` makes the whole step one program.

How private the result is has a number: what happens with it is at most e^ε times as probable, plus δ, as if any one of
the images had been left out. The ε below is that of the algorithm. This program falls short of it in three ways: its
noise comes from a generator that is not made for secrets, and the seed stands below; rounding makes the noise not quite
normal; and its settings were chosen by hand on the same images, which is not accounted for.

    python examples/private_sgd.py [--epochs N]

Sources: M. Abadi et al., "Deep learning with differential privacy" (2016), algorithm 1; I. Mironov, "Rényi differential
privacy" (2017), proposition 3; I. Mironov, K. Talwar, L. Zhang, "Rényi differential privacy of the sampled Gaussian
mechanism" (2019). On rounding: I. Mironov, "On significance of the least significant bits" (2012).
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp
from tqdm import tqdm

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.extend import Array

HERE = Path(__file__).parent
DATA = HERE / "data" / "digits.npz"
PICTURE = HERE / "out" / "private_sgd.png"
SEED = 231
EPOCHS = 40
DELTA = 1e-4  # the probability with which the promise may fail: well below one over the number of images

Params: TypeAlias = dict[str, Array]


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


# The model: a network with one hidden layer


def start(rng: np.random.Generator, hidden: int = 32) -> Params:
    return {
        "W1": rng.normal(0.0, 1 / 8, (64, hidden)),
        "b1": np.zeros(hidden),
        "W2": rng.normal(0.0, 1 / np.sqrt(hidden), (hidden, 10)),
        "b2": np.zeros(10),
    }


def scores(params: Params, x: Array) -> Array:
    return fnp.tanh(x @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"]


def loss(params: Params, x: Array, y: Array) -> Array:
    """Minus the log-probability of the digit y, for one image x."""
    return -fg.nn.log_softmax(scores(params, x))[y]


def accuracy(params: Params, data: Digits) -> float:
    return float(np.mean(np.argmax(scores(params, data.x), axis=1) == data.y))


# The private gradient


def length(gradient: Params) -> Array:
    return fnp.sqrt(sum(fnp.sum(g**2) for g in fg.tree.leaves(gradient)))


def clipped_gradient(params: Params, x: Array, y: Array, bound: Array) -> Params:
    """The gradient for one image, made shorter if it is longer than the bound."""
    gradient = fg.grad(loss)(params, x, y)
    shorter: Params = fg.tree.map(lambda g: g * fnp.minimum(1.0, bound / length(gradient)), gradient)
    return shorter


per_example_gradients = fg.vmap(fg.grad(loss), (None, 0, 0))
clipped_gradients = fg.vmap(clipped_gradient, (None, 0, 0, None))


class Batch(NamedTuple):
    """Images and their digits; present is 1 for each, and 0 for what only fills up the shape."""

    x: NDArray[np.float64]
    y: NDArray[np.intp]
    present: NDArray[np.float64]


def private_step(params: Params, batch: Batch, noise: Params, bound: Array, rate: Array) -> Params:
    """A step along the sum of the clipped gradients plus noise.

    Args:
        params: Where it begins.
        batch: Each image of the training set is in it with the same probability, independently of all others.
        noise: Normal noise of standard deviation σ * bound.
        bound: How long the gradient for one image may be.
        rate: The learning rate, divided by the number of images that is *expected* in a batch: how many there are is
            as private as which.
    """
    gradients = clipped_gradients(params, batch.x, batch.y, bound)
    total = fg.tree.map(lambda g, n: fnp.tensordot(batch.present, g, 1) + n, gradients, noise)
    moved: Params = fg.tree.map(lambda w, g: w - rate * g, params, total)
    return moved


def draw_batch(data: Digits, rate: float, rng: np.random.Generator, multiple: int = 32) -> Batch:
    """Each image with this probability; filled up to a multiple, so that `jit` meets few shapes."""
    chosen = np.flatnonzero(rng.random(len(data.y)) < rate)
    count = len(chosen)
    chosen = np.concatenate([chosen, np.zeros(-count % multiple, np.intp)])
    return Batch(data.x[chosen], data.y[chosen], (np.arange(len(chosen)) < count).astype(np.float64))


# The accountant


def renyi_divergence(order: int, rate: float, sigma: float) -> float:
    """An upper bound of what one step reveals: Mironov, Talwar, Zhang (2019), for an integer order.

    Args:
        order: Of the divergence, at least 2.
        rate: The probability with which an image is in a batch.
        sigma: The standard deviation of the noise, in units of the clipping bound.
    """
    k = np.arange(order + 1)
    choose = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    terms = choose + (order - k) * math.log1p(-rate) + k * math.log(rate) + k * (k - 1) / (2 * sigma**2)
    return float(logsumexp(terms)) / (order - 1)


def epsilon(steps: int, rate: float, sigma: float, delta: float = DELTA) -> float:
    """The ε of (ε, δ)-differential privacy after so many steps: divergences add up (Mironov, 2017, proposition 3)."""
    if sigma == 0:
        return math.inf
    orders = range(2, 257)
    return min(steps * renyi_divergence(a, rate, sigma) + math.log(1 / delta) / (a - 1) for a in orders)


# Training


@dataclass(frozen=True)
class Settings:
    """How to train: the noise in units of the clipping bound, and the bound; without a bound, plain SGD."""

    name: str
    sigma: float = 0.0
    bound: float = math.inf


@dataclass
class Run:
    """What came of it: the parameters, the test accuracy after each epoch, and the privacy."""

    settings: Settings
    params: Params
    epsilon: float
    test: list[float] = field(default_factory=list)


ALL = [
    Settings("plain SGD"),
    Settings("clipped, no noise", bound=1.0),
    Settings("private, σ = 1", sigma=1.0, bound=1.0),
    Settings("private, σ = 2", sigma=2.0, bound=1.0),
    Settings("private, σ = 4", sigma=4.0, bound=1.0),
]


def train(
    settings: Settings, data: Digits, test: Digits, epochs: int = EPOCHS, size: int = 128, quiet: bool = False
) -> Run:
    """Stochastic gradient descent on random batches of about `size` images."""
    rng = np.random.default_rng(SEED)
    rate = size / len(data.y)
    steps = round(1 / rate)
    run = Run(settings, start(rng), epsilon(epochs * steps, rate, settings.sigma))
    step = fg.jit(private_step)
    scale = settings.sigma * settings.bound if settings.sigma else 0.0
    with tqdm(range(epochs), desc=f"{settings.name:>17}", unit="epoch", disable=quiet) as progress:
        for _ in progress:
            for _ in range(steps):
                noise = fg.tree.map(lambda w: rng.normal(0.0, scale, w.shape), run.params)
                run.params = step(run.params, draw_batch(data, rate, rng), noise, settings.bound, 0.5 / size)
            run.test.append(accuracy(run.params, test))
            progress.set_postfix(accuracy=f"{run.test[-1]:.1%}", refresh=False)
    return run


# What it costs


def timings(data: Digits, size: int = 128, repeats: int = 5) -> dict[str, float]:
    """Milliseconds for the gradients for so many images, each by itself; and for their mean, to compare."""
    params = start(np.random.default_rng(SEED))
    x, y = data.x[:size], data.y[:size]
    one = fg.jit(fg.grad(loss))

    def loop(gradient: Callable[..., Params]) -> Params:
        gradients = [gradient(params, x[i], y[i]) for i in range(size)]
        stacked: Params = fg.tree.map(lambda *g: np.stack(g), *gradients)
        return stacked

    def mean(params: Params, x: Array, y: Array) -> Array:
        return fnp.mean(fg.vmap(loss, (None, 0, 0))(params, x, y))

    compiled, together = fg.jit(per_example_gradients), fg.jit(fg.grad(mean))
    ways: dict[str, Callable[[], Any]] = {
        "a loop over the images": lambda: loop(fg.grad(loss)),
        "the same, compiled gradient": lambda: loop(one),
        "vmap": lambda: per_example_gradients(params, x, y),
        "vmap, compiled": lambda: compiled(params, x, y),
        "only their mean, compiled": lambda: together(params, x, y),
    }
    return {name: 1e3 * fastest(way, repeats) for name, way in ways.items()}


def fastest(f: Callable[[], Any], repeats: int) -> float:
    def seconds() -> float:
        began = time.perf_counter()
        f()
        return time.perf_counter() - began

    f()  # compiles it
    return min(seconds() for _ in range(repeats))


# What came of it


def report(runs: Sequence[Run], times: dict[str, float]) -> str:
    lines = [f"{'':<17}  test accuracy  ε (δ = {DELTA:g})"]
    lines += [f"{r.settings.name:<17}  {r.test[-1]:>13.1%}  {r.epsilon:>13.1f}" for r in runs]
    slowest = max(times.values())
    lines += ["", f"{'gradients for 128 images':<27}        ms   times as fast"]
    lines += [f"{name:<27}  {ms:8.2f}  {slowest / ms:14.1f}" for name, ms in times.items()]
    return "\n".join(lines)


def draw(runs: Sequence[Run], data: Digits, path: Path) -> None:
    """The accuracies, and how long the gradients are that the bound cuts."""
    from matplotlib.figure import Figure  # slow, and needed only here

    figure = Figure(figsize=(11, 4), dpi=110, layout="constrained")
    curves, histogram = figure.subplots(1, 2)
    for run, color in zip(runs, ["#555555", "#eb6834", "#2a78d6", "#1baf7a", "#a05fc4"], strict=True):
        label = f"{run.settings.name}: {run.test[-1]:.1%}"
        label += f" (ε = {run.epsilon:.1f})" if run.settings.sigma else ""
        curves.plot(np.arange(1, len(run.test) + 1), run.test, color=color, linewidth=2, label=label)
    curves.set(title="Accuracy on test images", xlabel="epoch", ylabel="accuracy", ylim=(0.5, 1.0))
    curves.yaxis.set_major_formatter("{x:.0%}")
    curves.set_xlim(left=0)
    curves.legend(frameon=False, loc="lower right")
    private = next(run for run in runs if run.settings.sigma)
    bins = np.geomspace(1e-3, 20, 50)
    for name, params, color in [
        ("before training", start(np.random.default_rng(SEED)), "#999999"),
        (f"after ({private.settings.name})", private.params, "#2a78d6"),
    ]:
        lengths = fg.vmap(length)(per_example_gradients(params, data.x, data.y))
        histogram.hist(lengths, bins, color=color, alpha=0.7, label=name)
    histogram.axvline(private.settings.bound, color="#222222", linewidth=1.2, linestyle="--", label="bound C")
    histogram.set(title="Length of the gradient for each image", xlabel="length", ylabel="images", xscale="log")
    histogram.legend(frameon=False, loc="upper left")
    for axes in (curves, histogram):
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15)


def demo(picture: Path, epochs: int = EPOCHS, quiet: bool = False) -> list[Run]:
    """Train with and without privacy, print what each reaches and what the gradients cost, and draw it."""
    data, test = load()
    runs = [train(settings, data, test, epochs, quiet=quiet) for settings in ALL]
    draw(runs, data, picture)
    print(f"\n{report(runs, timings(data))}\n\nThe picture is in {os.path.relpath(picture)}")
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description="Train on handwritten digits with differential privacy.")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes through the data (default: %(default)s)")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error(f"--epochs must be at least 1, not {options.epochs}")
    demo(PICTURE, options.epochs)


if __name__ == "__main__":
    main()
