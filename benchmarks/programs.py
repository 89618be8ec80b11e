"""Rows that every library writes in its own way: loops, batches of gradients, calls of compiled functions.

A `Tools` is what a library offers for them; where it has no loop of its own, Python's takes its place. Each gradient
is also written by hand in NumPy. That is timed, and everybody is compared with it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.libraries import Array, Library, Tree, is_installed, load, map_tree, unchanged
from benchmarks.rows import BY_HAND, Call

JIT, EAGER, LOOP, JAX, AUTOGRAD = "funcgrad jit", "funcgrad", "loop of grad", "jax jit", "autograd"
CONTENDERS = (JIT, EAGER, LOOP, AUTOGRAD, JAX, BY_HAND)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a library offers: see `Library`. `scan` and `while_loop` are those of `lax`, on a carry alone."""

    xp: Any
    grad: Callable[..., Any]
    scan: Callable[[Callable[[Any, Any], Any], Any, Any], Any]
    while_loop: Callable[[Callable[[Any], Any], Callable[[Any], Any], Any], Any]
    batched: Callable[..., Any]
    compile: Callable[[Callable[..., Any]], Callable[..., Any]] = unchanged
    array: Callable[[Array], Any] = unchanged
    wait: Callable[[Any], Any] = unchanged


def python_scan(step: Callable[[Any, Any], Any], carry: Any, xs: Any) -> Any:
    for x in xs:
        carry = step(carry, x)
    return carry


def python_while(condition: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any) -> Any:
    while condition(carry):
        carry = body(carry)
    return carry


def stacking(f: Callable[..., Any]) -> Callable[..., Any]:
    """The results of `f` for each example of a batch, which follows the parameters, one after the other."""

    def batch(parameters: Tree, *arrays: Any) -> Any:
        results = [f(parameters, *example) for example in zip(*arrays, strict=True)]
        return {name: np.stack([r[name] for r in results]) for name in results[0]}

    return batch


def _tools(library: Library, compile: Callable[..., Any] = unchanged) -> Tools:
    """The tools of a library without loops and batches."""
    wait = library.wait or unchanged
    return Tools(library.xp, library.grad, python_scan, python_while, stacking, compile, library.array, wait)


def _lax_tools(module: str, library: Library, compile: Callable[..., Any] = unchanged) -> Tools:
    """The tools of funcgrad or JAX."""
    package, lax = importlib.import_module(module), importlib.import_module(f"{module}.lax")

    def scan(step: Callable[[Any, Any], Any], carry: Any, xs: Any) -> Any:
        return lax.scan(lambda carry, x: (step(carry, x), None), carry, xs)[0]

    def batched(f: Callable[..., Any]) -> Callable[..., Any]:
        def batch(parameters: Tree, *arrays: Any) -> Any:
            return package.vmap(f, in_axes=(None, *[0] * len(arrays)))(parameters, *arrays)

        return batch

    return replace(_tools(library, compile), scan=scan, while_loop=lax.while_loop, batched=batched)


def installed_tools() -> dict[str, Tools]:
    """The tools of every contender that is installed."""
    found: dict[str, Tools] = {}
    if is_installed("funcgrad"):
        library = load("funcgrad")
        found[JIT] = _lax_tools("funcgrad", library, importlib.import_module("funcgrad").jit)
        found[EAGER] = _lax_tools("funcgrad", library)
        found[LOOP] = _tools(library)
    if is_installed("autograd"):
        found[AUTOGRAD] = _tools(load("autograd"))
    if is_installed("jax"):
        library = load("jax jit")
        found[JAX] = _lax_tools("jax", library, library.compile)
    return found


@dataclass(frozen=True, slots=True)
class ProgramProblem:
    """`f(tools, *args)`, what is timed, compiled; and the same result by hand."""

    f: Callable[..., Any]
    args: tuple[Tree, ...]
    by_hand: Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class ProgramRow:
    """A line of the table; `left_out` says why a contender is not measured here.

    A loop of gradients is one where they form a batch. Elsewhere it is what funcgrad does eagerly.
    """

    name: str
    problem: Callable[[], ProgramProblem]
    batch: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)
    slow: frozenset[str] = frozenset()


def program_contenders(row: ProgramRow, tools: Mapping[str, Tools]) -> tuple[dict[str, Call], Any]:
    """A callable without arguments for each contender, and the result that it should have."""
    problem = row.problem()
    absent = {*row.left_out, *(() if row.batch else (LOOP,))}
    calls: dict[str, Call] = {name: _call(problem, t) for name, t in tools.items() if name not in absent}
    calls[BY_HAND] = partial(problem.by_hand, *problem.args)
    return calls, calls[BY_HAND]()


def _call(problem: ProgramProblem, tools: Tools) -> Call:
    args = [map_tree(tools.array, x) for x in problem.args]
    f = tools.compile(partial(problem.f, tools))
    if tools.wait is unchanged:
        return partial(f, *args)
    return lambda: tools.wait(f(*args))


def program_complaint(call: Call, expected: Any) -> str | None:
    """What is wrong with the result of `call`; None where it is right."""
    try:
        found = map_tree(np.asarray, call())
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    if not isinstance(expected, dict):
        found, expected = {"": found}, {"": expected}
    wrong = [name for name in expected if not np.allclose(found[name], expected[name], rtol=1e-8, atol=1e-10)]
    return f"is wrong {', '.join(wrong)}" if wrong else None


# The gradient of a recurrent network, whose steps depend on each other


def rnn_gradient(tools: Tools, w: Any, xs: Any) -> Any:
    def loss(w: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            h, total = carry
            h = tools.xp.tanh(tools.xp.dot(w, h) + x)
            return h, total + tools.xp.sum(h * h)

        return tools.scan(step, (0.0 * xs[0], 0.0), xs)[1]

    return tools.grad(loss)(w)


def rnn_by_hand(w: Array, xs: Array) -> Array:
    states = [np.zeros(len(w))]
    total = 0.0
    for x in xs:
        states.append(np.tanh(w @ states[-1] + x))
        total += np.sum(states[-1] * states[-1])
    gw, gh = np.zeros_like(w), np.zeros(len(w))
    for before, h in zip(states[-2::-1], states[:0:-1], strict=True):
        gz = (gh + 2.0 * h) * (1.0 - h * h)
        gw += np.outer(gz, before)
        gh = w.T @ gz
    return gw


def rnn(steps: int, width: int = 32) -> ProgramProblem:
    rng = np.random.default_rng(0)
    w = rng.normal(0.0, width**-0.5, (width, width))
    return ProgramProblem(rnn_gradient, (w, rng.normal(size=(steps, width))), rnn_by_hand)


# A differential equation: a pendulum, followed until some time has passed


def pendulum_gradient(tools: Tools, stiffness: Any, angles: Any) -> Any:
    def loss(stiffness: Any) -> Any:
        def step(state: Any) -> Any:
            t, angle, speed = state
            speed = speed - 0.01 * stiffness * tools.xp.sin(angle)
            return t + 0.01, angle + 0.01 * speed, speed

        _, angle, _ = tools.while_loop(lambda state: state[0] < 9.995, step, (0.0, angles, 0.0 * angles))
        return tools.xp.sum(angle * angle)

    return tools.grad(loss)(stiffness)


def pendulum_by_hand(stiffness: Array, angles: Array) -> Array:
    tape = []
    t, angle, speed = 0.0, angles, 0.0 * angles
    while t < 9.995:
        tape.append(angle)
        speed = speed - 0.01 * stiffness * np.sin(angle)
        angle = angle + 0.01 * speed
        t += 0.01
    np.sum(angle * angle)
    gk, gangle, gspeed = 0.0, 2.0 * angle, 0.0 * angle
    for angle in reversed(tape):
        gspeed = gspeed + 0.01 * gangle
        gk -= 0.01 * np.sum(gspeed * np.sin(angle))
        gangle = gangle - 0.01 * stiffness * np.cos(angle) * gspeed
    return np.asarray(gk)


def pendulum() -> ProgramProblem:
    return ProgramProblem(pendulum_gradient, (np.array(2.0), np.linspace(0.1, 3.0, 10)), pendulum_by_hand)


# A gradient for each example


def example_gradients(tools: Tools, w: Any, images: Any, labels: Any) -> Any:
    xp = tools.xp

    def loss(w: Any, image: Any, label: Any) -> Any:
        h = xp.tanh(xp.dot(image, w["w1"]) + w["b1"])
        z = xp.dot(h, w["w2"]) + w["b2"]
        return xp.log(xp.sum(xp.exp(z))) - xp.sum(label * z)

    return tools.batched(tools.grad(loss))(w, images, labels)


def example_gradients_by_hand(w: dict[str, Array], images: Array, labels: Array) -> dict[str, Array]:
    h = np.tanh(images @ w["w1"] + w["b1"])
    e = np.exp(h @ w["w2"] + w["b2"])
    gz = e / np.sum(e, axis=1, keepdims=True) - labels
    gh = (gz @ w["w2"].T) * (1.0 - h * h)
    return {"w1": images[:, :, None] * gh[:, None], "b1": gh, "w2": h[:, :, None] * gz[:, None], "b2": gz}


def examples(batch: int, width: int = 32, classes: int = 10) -> ProgramProblem:
    rng = np.random.default_rng(0)
    w = {
        "w1": rng.normal(0.0, width**-0.5, (width, width)),
        "b1": np.zeros(width),
        "w2": rng.normal(0.0, width**-0.5, (width, classes)),
        "b2": np.zeros(classes),
    }
    images, labels = rng.normal(size=(batch, width)), np.eye(classes)[rng.integers(0, classes, batch)]
    return ProgramProblem(example_gradients, (w, images, labels), example_gradients_by_hand)


# The cost of a call of a compiled function


def tiny() -> ProgramProblem:
    return ProgramProblem(lambda tools, x: x + 1.0, (np.ones(3),), lambda x: x + 1.0)


TINY = "call of jit(x + 1), n = 3"
WHILE = "ODE by while_loop, 1,000 steps"
EXAMPLES = "64 gradients of an MLP, one by example"

PROGRAM_ROWS = (
    ProgramRow(TINY, tiny, left_out={AUTOGRAD: "it does not compile"}),
    ProgramRow("RNN by scan, 100 steps", partial(rnn, 100)),
    ProgramRow("RNN by scan, 1,000 steps", partial(rnn, 1_000), slow=frozenset({AUTOGRAD})),
    ProgramRow(
        WHILE,
        pendulum,
        left_out={JAX: "its while_loop cannot be differentiated in reverse mode"},
        slow=frozenset({AUTOGRAD}),
    ),
    ProgramRow(EXAMPLES, partial(examples, 64), batch=True),
)
