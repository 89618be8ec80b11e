"""Recurrent networks learn to write: one character after the other, from five chapters of Alice in Wonderland.

A recurrent network reads a character, updates its state and says how likely each character is to come next. `scan`
carries the state along the text, so the program holds one cell, however long the text is. Its gradient, the clipping of
that gradient and the step of Adam are one compiled function.

    python examples/char_rnn.py [--steps N]

Sources: S. Hochreiter, J. Schmidhuber, "Long short-term memory" (1997), with the forget gate of F. Gers, J.
Schmidhuber, F. Cummins, "Learning to forget" (2000); R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training
recurrent neural networks" (2013), algorithm 1 (clipping); D. Kingma, J. Ba, "Adam" (2015), algorithm 1.
"""

from __future__ import annotations

import argparse
import os
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import lax
from funcgrad.extend import Array

HERE = Path(__file__).parent
DATA = HERE / "data" / "alice.txt"
PICTURE = HERE / "out" / "char_rnn.png"
SEED = 1865
STEPS = 1000

Params: TypeAlias = dict[str, Array]
State: TypeAlias = tuple[Array, ...]  # what a network remembers of the text so far: arrays of shape (batch, hidden)
Cell: TypeAlias = Callable[[Params, State, Array], State]


class Text(NamedTuple):
    """A text as numbers: the places of its characters in the alphabet."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    alphabet: str


def load() -> Text:
    """Chapters I to IV to learn from, chapter V to be tested on; a paragraph is one line."""
    text = "\n".join(" ".join(part.split()) for part in DATA.read_text(encoding="ascii").split("\n\n"))
    alphabet = "".join(sorted(set(text)))
    cut = text.index("CHAPTER V.")
    return Text(encode(text[:cut], alphabet), encode(text[cut:], alphabet), alphabet)


def encode(text: str, alphabet: str) -> NDArray[np.intp]:
    return np.array([alphabet.index(character) for character in text])


# The cells: from the state, and what the input adds to the gates, to the next state


def simple_cell(params: Params, state: State, x: Array) -> State:
    (h,) = state
    return (fnp.tanh(x + h @ params["W"]),)


def lstm_cell(params: Params, state: State, x: Array) -> State:
    h, c = state
    write, forget, read, new = fnp.split(x + h @ params["W"], 4, axis=-1)
    c = fg.nn.sigmoid(forget) * c + fg.nn.sigmoid(write) * fnp.tanh(new)
    return fg.nn.sigmoid(read) * fnp.tanh(c), c


@dataclass(frozen=True)
class Model:
    """A recurrent network: its cell, how many gates that has and how many arrays it remembers."""

    name: str
    cell: Cell
    gates: int
    memories: int
    rate: float
    hidden: int = 128

    def start(self, symbols: int, rng: np.random.Generator) -> Params:
        """Random weights; an LSTM that remembers at first (bias 1 at its forget gate)."""
        size = self.hidden
        bias = np.zeros((self.gates, size))
        bias[1:2] = 1.0
        weights = {
            "U": rng.normal(0.0, 1 / np.sqrt(size), (symbols, self.gates * size)),
            "W": rng.normal(0.0, 1 / np.sqrt(size), (size, self.gates * size)),
            "b": bias.ravel(),
            "V": rng.normal(0.0, 1 / np.sqrt(size), (size, symbols)),
            "c": np.zeros(symbols),
        }
        return {name: w.astype(np.float32) for name, w in weights.items()}

    def empty(self, params: Params, batch: int) -> State:
        """The state before anything was read."""
        return (np.zeros((batch, self.hidden), params["W"].dtype),) * self.memories


def models(hidden: int = 128) -> list[Model]:
    return [
        Model("simple RNN", simple_cell, gates=1, memories=1, rate=3e-3, hidden=hidden),
        Model("LSTM", lstm_cell, gates=4, memories=2, rate=8e-3, hidden=hidden),
    ]


def read(model: Model, params: Params, state: State, x: Array) -> tuple[State, Array]:
    """The state after a text x of shape (length, batch), and the scores of what comes next, at each of its places."""
    one_hot = fg.nn.one_hot(x, len(params["U"]), dtype=params["U"].dtype)
    inputs = one_hot @ params["U"] + params["b"]  # for all places at once; only the state has to wait for its turn

    def step(state: State, x: Array) -> tuple[State, Array]:
        state = model.cell(params, state, x)
        return state, state[0]

    state, hidden = lax.scan(step, state, inputs)
    return state, hidden @ params["V"] + params["c"]


def cross_entropy(model: Model, params: Params, text: Array) -> Array:
    """Minus the mean log-probability of each character after those before it, in texts of shape (length, batch)."""
    _, scores = read(model, params, model.empty(params, text.shape[1]), text[:-1])
    return -fnp.mean(fnp.take_along_axis(fg.nn.log_softmax(scores), text[1:, :, None], axis=-1))


# Training


def clip(gradient: Params, longest: float) -> Params:
    """The gradient, made shorter if it is longer than that: one steep place must not throw the parameters far away."""
    length = fnp.sqrt(sum(fnp.sum(g**2) for g in fg.tree.leaves(gradient)))
    shorter: Params = fg.tree.map(lambda g: g * fnp.minimum(1.0, longest / length), gradient)
    return shorter


class Moments(NamedTuple):
    """Running means of the gradient and of its square, and how many they are of."""

    mean: Params
    square: Params
    count: Array


def adam(params: Params, moments: Moments, gradient: Params, rate: Array) -> tuple[Params, Moments]:
    """One step of Adam: each parameter moves by about `rate`, in the mean direction of its last gradients."""
    mean = fg.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments.mean, gradient)
    square = fg.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, moments.square, gradient)
    count = moments.count + 1
    scale = rate * fnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)  # as both means began at zero
    params = fg.tree.map(lambda w, m, v: w - scale * m / (fnp.sqrt(v) + 1e-8), params, mean, square)
    return params, Moments(mean, square, count)


def update(model: Model, params: Params, moments: Moments, text: Array, rate: Array) -> tuple[Params, Moments, Array]:
    """One step of training on texts of shape (length, batch); the loss before it, too."""
    loss, gradient = fg.value_and_grad(partial(cross_entropy, model))(params, text)
    params, moments = adam(params, moments, clip(gradient, 1.0), rate)
    return params, moments, loss


def windows(text: NDArray[np.intp], length: int, starts: Sequence[int] | NDArray[np.intp]) -> NDArray[np.intp]:
    """Pieces of a text, as columns."""
    pieces: NDArray[np.intp] = text[np.arange(length + 1)[:, None] + np.asarray(starts)]
    return pieces


@dataclass
class Run:
    """What came of training a model: its parameters, the loss of each step, and that on the test text now and then."""

    model: Model
    params: Params
    characters: int = 0
    seconds: float = 0.0
    train: list[float] = field(default_factory=list)
    test: dict[int, float] = field(default_factory=dict)


def train(model: Model, text: Text, steps: int = STEPS, batch: int = 32, length: int = 64, quiet: bool = False) -> Run:
    """Adam on random pieces of the text; the learning rate falls linearly to zero."""
    rng = np.random.default_rng(SEED)
    run = Run(model, model.start(len(text.alphabet), rng))
    zero = fg.tree.map(np.zeros_like, run.params)
    moments = Moments(zero, zero, np.float32(0.0))
    step = fg.jit(partial(update, model))
    test_loss = fg.jit(partial(cross_entropy, model))
    exam = windows(text.test, length, range(0, len(text.test) - length, length))
    began = time.perf_counter()
    with tqdm(range(steps), desc=f"{model.name:>10}", unit="step", disable=quiet) as progress:
        for k in progress:
            pieces = windows(text.train, length, rng.integers(0, len(text.train) - length, batch))
            rate = np.float32(model.rate * (1 - k / steps))
            run.params, moments, loss = step(run.params, moments, pieces, rate)
            run.train.append(float(loss))
            run.characters += batch * length
            if k % 20 == 19 or k == steps - 1:
                run.test[k + 1] = float(test_loss(run.params, exam))
                progress.set_postfix(loss=f"{loss:.3f}", test=f"{run.test[k + 1]:.3f}", refresh=False)
    run.seconds = time.perf_counter() - began
    return run


# Writing


def write(model: Model, params: Params, prompt: Array, noise: Array, temperature: Array) -> Array:
    """A continuation of a prompt, drawn character by character.

    The character with the largest sum of score / temperature and Gumbel noise is a draw from the softmax of
    score / temperature. So all randomness comes in as an argument, and the writing is a scan over it.
    """
    state, scores = read(model, params, model.empty(params, 1), prompt[:, None])

    def step(before: tuple[State, Array], noise: Array) -> tuple[tuple[State, Array], Array]:
        state, scores = before
        chosen = fnp.argmax(scores / temperature + noise, axis=-1)
        state, scores = read(model, params, state, chosen[None])
        return (state, scores[0]), chosen[0]

    return lax.scan(step, (state, scores[-1]), noise)[1]


def sample(run: Run, alphabet: str, prompt: str, length: int = 400, temperature: float = 0.5) -> str:
    noise = np.random.default_rng(SEED).gumbel(size=(length, len(alphabet))).astype(np.float32)
    writer = fg.jit(partial(write, run.model))
    written = writer(run.params, encode(prompt, alphabet), noise, np.float32(temperature))
    return prompt + "".join(alphabet[i] for i in written)


# What came of it


def report(runs: Sequence[Run]) -> str:
    lines = [f"{'':<10}  training loss  test loss  characters a second   time"]
    for run in runs:
        loss = f"{np.mean(run.train[-20:]):13.2f}  {list(run.test.values())[-1]:9.2f}"
        lines.append(f"{run.model.name:<10}  {loss}  {run.characters / run.seconds:19,.0f}  {run.seconds:3.0f} s")
    return "\n".join(lines)


def draw(runs: Sequence[Run], path: Path) -> None:
    """The losses, by step."""
    from matplotlib.figure import Figure  # slow, and needed only here

    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for run, color in zip(runs, ["#eb6834", "#2a78d6"], strict=True):
        axes.plot(np.arange(1, len(run.train) + 1), run.train, color=color, linewidth=0.8, alpha=0.7)
        axes.plot(list(run.test), list(run.test.values()), color=color, linewidth=2, marker=".", label=run.model.name)
    axes.set(
        title="Learning to write (thin: training text, dots: unseen chapter)", xlabel="step", ylabel="nats a character"
    )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15)


def demo(picture: Path, steps: int = STEPS, quiet: bool = False) -> list[Run]:
    """Train both networks, print how well they guess and what they write, and draw the losses."""
    text = load()
    runs = [train(model, text, steps, quiet=quiet) for model in models()]
    draw(runs, picture)
    print(f"\n{report(runs)}")
    for run in runs:
        print(f"\nThe {run.model.name} writes:\n")
        for line in sample(run, text.alphabet, "Alice ").splitlines():
            print(textwrap.fill(line, 100, initial_indent="    ", subsequent_indent="    "))
    print(f"\nThe picture is in {os.path.relpath(picture)}")
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description="Train two recurrent networks to write like Lewis Carroll.")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps (default: %(default)s)")
    options = parser.parse_args()
    if options.steps < 1:
        parser.error(f"--steps must be at least 1, not {options.steps}")
    demo(PICTURE, options.steps)


if __name__ == "__main__":
    main()
