"""The rows of the table, and how a row becomes one callable for each contender."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks import problems
from benchmarks.libraries import Library, Tree, map_tree
from benchmarks.problems import Problem

FORWARD = "forward"
BY_HAND = "by hand"

Call = Callable[[], Any]


class Size(enum.Enum):
    """What a row is about: the cost of a call, of the arithmetic, or of one primitive."""

    SMALL = "small"
    LARGE = "large"
    OVERHEAD = "overhead"


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A line of the table.

    `left_out` says why a contender is not measured here; `slow` names those that are left out in a hurry.
    """

    name: str
    size: Size
    problem: Callable[[], Problem]
    left_out: Mapping[str, str] = field(default_factory=dict)
    slow: frozenset[str] = frozenset()


OVERHEAD_LINKS = 10
OVERHEAD_PRIMITIVES = OVERHEAD_LINKS * problems.LINK + 1  # and the sum
OVERHEAD = f"chain of {OVERHEAD_LINKS * problems.LINK}, n = 1"
SHORT_LOOP = "x[i]**2 in a loop, n = 400"
LONG_LOOP = "x[i]**2 in a loop, n = 4,000"

ROWS: Sequence[Row] = (
    Row("Rosenbrock, n = 10", Size.SMALL, problems.rosenbrock_gradient),
    Row("chain of 12, n = 1", Size.SMALL, partial(problems.chain, 1, 1)),
    Row("chain of 12, n = 1,000", Size.SMALL, partial(problems.chain, 1, 1_000)),
    Row("MLP, 8 × 16", Size.SMALL, partial(problems.mlp, 8, 16)),
    Row("MLP, 32 × 128", Size.SMALL, partial(problems.mlp, 32, 128)),
    Row(SHORT_LOOP, Size.SMALL, partial(problems.indexing_loop, 400), slow=frozenset({"jax eager", "jax jit"})),
    Row(
        LONG_LOOP,
        Size.SMALL,
        partial(problems.indexing_loop, 4_000),
        left_out={
            "jax eager": "it compiles each of the 4,000 slices in its first call, for minutes",
            "jax jit": "it compiles for minutes",
        },
    ),
    Row("pytree of 100 arrays", Size.SMALL, problems.pytree),
    Row("Rosenbrock, Hessian · v", Size.SMALL, problems.rosenbrock_hvp),
    Row("damped wave, 2nd derivative", Size.SMALL, problems.damped_wave),
    Row("tanh, 3rd derivative", Size.SMALL, problems.tanh_thrice),
    Row("chain of 12, n = 1,000,000", Size.LARGE, partial(problems.chain, 1, 1_000_000)),
    Row("MLP, 256 × 512", Size.LARGE, partial(problems.mlp, 256, 512)),
    Row(OVERHEAD, Size.OVERHEAD, partial(problems.chain, OVERHEAD_LINKS, 1)),
)


def contenders(problem: Problem, libraries: Sequence[Library]) -> dict[str, Call]:
    """A callable without arguments for each library, and for NumPy's forward pass and gradient by hand."""
    calls: dict[str, Call] = {library.name: _derivative(problem, library) for library in libraries}
    calls[FORWARD] = partial(problem.f, np, problem.x, problem.data)
    if problem.by_hand is not None:
        calls[BY_HAND] = partial(problem.by_hand, problem.x, problem.data)
    return calls


def _derivative(problem: Problem, library: Library) -> Call:
    x = map_tree(library.array, problem.x)
    data = map_tree(library.array, problem.data)

    def f(x: Tree) -> Any:
        return problem.f(library.xp, x, data)

    derivative = library.compile(problem.derivative(library, f, data))
    if library.wait is None:
        return partial(derivative, x)
    wait = library.wait
    return lambda: wait(derivative(x))


def complaint(problem: Problem, call: Call) -> str | None:
    """What is wrong with the derivative that `call` returns; None where it is right."""
    truth = problem.by_hand or problem.exactly
    assert truth is not None, "a problem needs an answer"
    expected = truth(problem.x, problem.data)
    try:
        found = map_tree(np.asarray, call())
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            return "returns another tree"
        wrong = [name for name in expected if not _close(found[name], expected[name])]
        return f"is wrong at {', '.join(wrong)}" if wrong else None
    return None if _close(found, expected) else f"is {found}, expected {expected}"


def _close(found: Any, expected: Any) -> bool:
    if np.shape(found) != np.shape(expected):
        return False
    return np.allclose(found, expected, rtol=1e-8, atol=1e-10 * float(np.max(np.abs(expected))))
