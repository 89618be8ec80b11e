"""Train classifiers on handwritten digits: scores, a loss, its gradient, a step downhill.

A linear classifier with the multiclass SVM loss, the same with softmax, and a two-layer network. Their parameters are
pytrees, and `value_and_grad` differentiates the loss with respect to all of them at once.

    python examples/digits.py [--epochs N] [--quiet]

Source: the course of Stanford CS231n on linear classification and neural networks.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.extend import Array

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

HERE = Path(__file__).parent
DATA = HERE / "data" / "digits.npz"
PICTURE = HERE / "out" / "digits.png"
SEED = 231
EPOCHS = 30

Layer: TypeAlias = dict[str, Array]  # weights "W" of shape (inputs, outputs) and biases "b" of shape (outputs,)
Params: TypeAlias = Any  # any pytree of arrays: a Layer, a Network


class Digits(NamedTuple):
    """Images, as rows of 64 pixels, and the digit that each shows."""

    x: NDArray[np.float64]
    y: NDArray[np.intp]


def load(seed: int = SEED) -> tuple[Digits, Digits]:
    """Three quarters of the images for training, one quarter for testing, at random; scaled to mean 0, variance 1."""
    with np.load(DATA) as data:
        x, y = data["images"].reshape(-1, 64), data["labels"].astype(np.intp)
    test, train = np.split(np.random.default_rng(seed).permutation(len(x)), [len(x) // 4])
    x = (x - x[train].mean()) / x[train].std()
    return Digits(x[train], y[train]), Digits(x[test], y[test])


# The models: what scores do these pixels give each of the ten digits?


@dataclass(frozen=True)
class Network:
    """The parameters of a network with one hidden layer."""

    hidden: Layer
    output: Layer


def layer(inputs: int, outputs: int, rng: np.random.Generator | None = None) -> Layer:
    """Zeros; or random weights that keep the variance through a ReLU (He et al., 2015, equation 10)."""
    W = rng.normal(0.0, np.sqrt(2.0 / inputs), (inputs, outputs)) if rng else np.zeros((inputs, outputs))
    return {"W": W, "b": np.zeros(outputs)}


def linear(params: Layer, x: Array) -> Array:
    return x @ params["W"] + params["b"]


def network(params: Network, x: Array) -> Array:
    return linear(params.output, fg.nn.relu(linear(params.hidden, x)))


# The losses: how wrong are these scores?


def hinge(scores: Array, y: Array) -> Array:
    """The multiclass SVM loss: each wrong digit should score at least 1 less than the right one."""
    correct = scores[fnp.arange(len(y)), y]
    margins = fnp.maximum(0.0, scores - correct[:, None] + 1.0)
    return fnp.mean(fnp.sum(margins, axis=1) - 1.0)  # less the margin of the right digit itself


def cross_entropy(scores: Array, y: Array) -> Array:
    """The softmax loss: minus the log-probability of the right digit."""
    return -fnp.mean(fg.nn.log_softmax(scores)[fnp.arange(len(y)), y])


def penalty(params: Params) -> Array:
    """L2 regularisation: the squares of all weights, not of the biases."""
    return sum(fnp.sum(w**2) for w in fg.tree.leaves(params) if w.ndim == 2)


# Training


@dataclass(frozen=True)
class Model:
    """A classifier, and how to train it."""

    name: str
    start: Params
    scores: Callable[[Any, Array], Array]
    loss: Callable[[Array, Array], Array]
    rate: float
    momentum: float = 0.0
    decay: float = 1e-3


@dataclass
class Run:
    """What came of training a model: its parameters; for each epoch, loss and accuracy on the images that it was
    training on, and after it the accuracy on the test images."""

    model: Model
    params: Params
    seconds: float = 0.0
    loss: list[float] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    test: list[float] = field(default_factory=list)


def models(seed: int = SEED) -> list[Model]:
    rng = np.random.default_rng(seed)
    net = Network(hidden=layer(64, 256, rng), output=layer(256, 10, rng))
    return [
        Model("linear, SVM loss", layer(64, 10), linear, hinge, rate=0.01),
        Model("linear, softmax", layer(64, 10), linear, cross_entropy, rate=0.1),
        Model("two-layer network", net, network, cross_entropy, rate=0.1, momentum=0.9),
    ]


def minibatches(data: Digits, rng: np.random.Generator, size: int = 32) -> Iterator[Digits]:
    """All of the data in random order, a few images at a time."""
    order = rng.permutation(len(data.y))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield Digits(data.x[chosen], data.y[chosen])


def sgd(params: Params, velocity: Params, gradient: Params, rate: float, momentum: float) -> tuple[Params, Params]:
    """One step of stochastic gradient descent: the velocity turns downhill, the parameters follow it."""
    velocity = fg.tree.map(lambda v, g: momentum * v - rate * g, velocity, gradient)
    return fg.tree.map(lambda w, v: w + v, params, velocity), velocity


def train(model: Model, data: Digits, test: Digits, epochs: int = EPOCHS, quiet: bool = False) -> Run:
    """Minibatch gradient descent; the learning rate falls linearly to zero."""

    def objective(params: Params, batch: Digits) -> tuple[Array, Array]:
        scores = model.scores(params, batch.x)
        return model.loss(scores, batch.y) + model.decay * penalty(params), scores

    loss_and_gradient = fg.value_and_grad(objective, has_aux=True)
    rng = np.random.default_rng(SEED)
    run = Run(model, model.start)
    velocity = fg.tree.map(np.zeros_like, run.params)
    began = time.perf_counter()
    with tqdm(range(epochs), desc=f"{model.name:>17}", unit="epoch", disable=quiet) as progress:
        for epoch in progress:
            rate = model.rate * (1 - epoch / epochs)
            losses, right = [], []
            for batch in minibatches(data, rng):
                (loss, scores), gradient = loss_and_gradient(run.params, batch)
                run.params, velocity = sgd(run.params, velocity, gradient, rate, model.momentum)
                losses.append(loss)
                right.append(np.mean(np.argmax(scores, axis=1) == batch.y))
            run.loss.append(float(np.mean(losses)))
            run.train.append(float(np.mean(right)))
            run.test.append(accuracy(run, test))
            progress.set_postfix(loss=f"{run.loss[-1]:.3f}", accuracy=f"{run.test[-1]:.1%}", refresh=False)
    run.seconds = time.perf_counter() - began
    return run


def predict(run: Run, data: Digits) -> NDArray[np.intp]:
    """The digit with the highest score, for each image."""
    best: NDArray[np.intp] = np.argmax(run.model.scores(run.params, data.x), axis=1)
    return best


def accuracy(run: Run, data: Digits) -> float:
    return float(np.mean(predict(run, data) == data.y))


# What was learned, as a table and as a picture


def report(runs: Sequence[Run]) -> str:
    lines = [f"{'':<17}  test accuracy  training accuracy  training time"]
    lines += [f"{r.model.name:<17}  {r.test[-1]:>13.1%}  {r.train[-1]:>17.1%}  {r.seconds:>11.1f} s" for r in runs]
    return "\n".join(lines)


def draw(runs: Sequence[Run], test: Digits, path: Path) -> None:
    """Learning curves, the templates of the linear classifiers, and what the last model misread."""
    from matplotlib.figure import Figure  # slow, and needed only here

    rows = 1 if np.sum(predict(runs[-1], test) != test.y) <= 10 else 2
    heights = [3.7, 2.7, 0.4 + 1.3 * rows]
    figure = Figure(figsize=(11, sum(heights)), dpi=110, layout="constrained")
    grid = figure.add_gridspec(3, 1, height_ratios=heights, hspace=0.04)
    draw_curves(figure.add_subfigure(grid[0]), runs)
    draw_templates(figure.add_subfigure(grid[1]), [run for run in runs if isinstance(run.params, dict)])
    draw_misread(figure.add_subfigure(grid[2]), runs[-1], test, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15)


def draw_curves(figure: SubFigure, runs: Sequence[Run]) -> None:
    loss, accuracies = figure.subplots(1, 2)
    for run, color in zip(runs, ["#2a78d6", "#eb6834", "#1baf7a"], strict=True):
        epochs = np.arange(1, len(run.loss) + 1)
        loss.plot(epochs, run.loss, color=color, linewidth=2, marker=".", label=run.model.name)
        accuracies.plot(
            epochs, run.test, color=color, linewidth=2, marker=".", label=f"{run.model.name}: {run.test[-1]:.1%}"
        )
        accuracies.plot(epochs, run.train, color=color, linewidth=1.2, linestyle=":")
    loss.set(title="Training loss, with regularisation", xlabel="epoch", ylabel="loss", yscale="log")
    loss.set_yticks([0.1, 0.2, 0.5, 1.0, 2.0], ["0.1", "0.2", "0.5", "1", "2"])
    loss.minorticks_off()
    accuracies.set(title="Accuracy on test images (dotted: training images)", xlabel="epoch", ylabel="accuracy")
    accuracies.locator_params(axis="y", steps=[1, 2, 5, 10])
    accuracies.yaxis.set_major_formatter("{x:.0%}")
    for axes in (loss, accuracies):
        axes.legend(frameon=False)
        axes.set_xlim(left=0)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)


def draw_templates(figure: SubFigure, runs: Sequence[Run]) -> None:
    """The weights of each digit as an image: the picture that the linear classifier looks for."""
    figure.suptitle("What the linear classifiers look for: the weights of each digit")
    grid = figure.subplots(len(runs), 10, squeeze=False)
    for row, run in zip(grid, runs, strict=True):
        row[0].set_ylabel(run.model.name.removeprefix("linear, "))
        templates = run.params["W"].T / np.abs(run.params["W"]).max()
        for axes, template in zip(row, templates, strict=True):
            axes.imshow(template.reshape(8, 8), cmap="RdBu_r", vmin=-1, vmax=1)
            axes.set(xticks=[], yticks=[])
    for digit, axes in enumerate(grid[0]):
        axes.set_title(str(digit))
    bar = figure.colorbar(grid[0, 0].images[0], ax=grid, ticks=[-1, 0, 1], aspect=24, pad=0.01)
    bar.ax.set_yticklabels(["ink speaks against", "does not matter", "ink speaks for"])


def draw_misread(figure: SubFigure, run: Run, test: Digits, rows: int) -> None:
    read = predict(run, test)
    wrong = np.flatnonzero(read != test.y)
    grid = figure.subplots(rows, 10, squeeze=False)
    some = f"; here are {grid.size} of them" if len(wrong) > grid.size else ""
    figure.suptitle(f"The {run.model.name} misread {len(wrong)} of {len(test.y)} test digits{some}")
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, i in zip(grid.flat, wrong, strict=False):
        axes.imshow(test.x[i].reshape(8, 8), cmap="gray_r")
        axes.set_title(f"{test.y[i]}, read as {read[i]}", fontsize=10)


def demo(picture: Path, epochs: int = EPOCHS, quiet: bool = False) -> list[Run]:
    """Train all models, print what they reach, and draw what they learned."""
    digits, test = load()
    runs = [train(model, digits, test, epochs, quiet) for model in models()]
    draw(runs, test, picture)
    print(f"\n{report(runs)}\n\nThe picture is in {os.path.relpath(picture)}")
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description="Train three classifiers on handwritten digits.")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes through the data (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="show no progress bars")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error(f"--epochs must be at least 1, not {options.epochs}")
    demo(PICTURE, options.epochs, options.quiet)


if __name__ == "__main__":
    main()
