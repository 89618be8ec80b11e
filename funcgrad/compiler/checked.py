"""Checking machine code: with `FUNCGRAD_CHECK=1`, the results of each call are compared with what NumPy computes.

Integers and truth values have to be equal, and floats up to some units in the last place. Where they are not, that may
be due to rounding: compiled code adds up in another order, and a difference of two numbers that are almost equal, a
comparison or an iteration makes much of little. How much is found out by *Monte Carlo arithmetic*: NumPy computes
again, with a random relative error in each result of an operation, and what that changes may differ.

Source: D. Stott Parker, "Monte Carlo Arithmetic: exploiting randomness in floating-point arithmetic", UCLA CSD-970002
(1997).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias, final

import numpy as np

from funcgrad.core import config
from funcgrad.core.errors import InternalError
from funcgrad.core.ir import Jaxpr, Literal
from funcgrad.core.kinds import Contraction, Reduction, Running
from funcgrad.core.trace import Var
from funcgrad.core.types import Array, is_inexact, native

Noise: TypeAlias = Callable[[Any], Any]

# Units in the last place that results may differ by without a closer look: some for each of a few operations.
_ULPS = 64
# How often NumPy computes again, the error of an operation in units in the last place, and by how much more than what
# that has changed results may differ.
_SAMPLES, _NOISE, _MARGIN = 3, 8.0, 64

_reference: ContextVar[Noise | None] = ContextVar("funcgrad_reference", default=None)


def reference() -> Noise | None:
    """What is done with each result, while NumPy computes what machine code is compared with; None at other times."""
    return _reference.get()


def evaluate_with(noise: Noise, jaxpr: Jaxpr, args: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs as NumPy computes them, as arrays of their own; so do the programs within."""
    env: dict[Var, Array] = dict(zip(jaxpr.inputs, args, strict=True))
    with _reference_by(noise), np.errstate(all="ignore"):
        for equation in jaxpr.equations:
            xs = [x.value if isinstance(x, Literal) else env[x] for x in equation.inputs]
            y = equation.primitive(*xs)
            env.update(zip(equation.outputs, map(noise, y if equation.primitive.multiple else (y,)), strict=True))
    out = [x.value if isinstance(x, Literal) else env[x] for x in jaxpr.outputs]
    return tuple([y.copy() if isinstance(y, np.ndarray) else y for y in out])


@contextmanager
def _reference_by(noise: Noise) -> Iterator[None]:
    token = _reference.set(noise)
    try:
        yield
    finally:
        _reference.reset(token)


@final
class Checked:
    """Machine code whose results are compared with what NumPy computes: in each call, or in the first one.

    Args:
        jaxpr: What it was compiled from.
        run: The code.
        owned: The positions of the arguments that it overwrites.
    """

    def __init__(self, jaxpr: Jaxpr, run: Callable[..., tuple[Array, ...]], owned: frozenset[int]) -> None:
        self._jaxpr = jaxpr
        self._run = run
        self._owned = owned
        self._seen = False

    def __call__(self, *args: Array) -> tuple[Array, ...]:
        """The results.

        Raises:
            InternalError: They differ by more than rounding does.
        """
        if self._seen and config.CHECK_FIRST:
            return self._run(*args)
        self._seen = True
        jaxpr = self._jaxpr
        kept = [x.copy() if i in self._owned and isinstance(x, np.ndarray) else x for i, x in enumerate(args)]
        try:
            expected = evaluate_with(_exact, jaxpr, kept)
        except Exception:
            # it is the program that raises the error for the user
            return self._run(*args)
        ys = self._run(*args)
        for place, (y, z) in enumerate(zip(ys, expected, strict=True)):
            if _wrong(y, z, _units(jaxpr) * _epsilon(jaxpr) * _size(z)).any():
                _look_closer(jaxpr, kept, ys, expected, place)
        return ys


@final
class Reference:
    """A program within one that is being checked: it runs as NumPy runs it.

    Attributes:
        reused: It overwrites no argument.
    """

    reused: frozenset[int] = frozenset()

    def __init__(self, jaxpr: Jaxpr, noise: Noise) -> None:
        self._jaxpr = jaxpr
        self._noise = noise

    def __call__(self, *args: Array) -> tuple[Array, ...]:
        """The outputs for these inputs."""
        return evaluate_with(self._noise, self._jaxpr, args)


def _exact(y: Any) -> Any:
    return y


def _look_closer(
    jaxpr: Jaxpr, args: Sequence[Array], ys: Sequence[Array], expected: Sequence[Array], place: int
) -> None:
    """Raise if rounding is no excuse for the difference in an output."""
    epsilon = _epsilon(jaxpr)
    y, z = ys[place], expected[place]
    allowed = _units(jaxpr) * epsilon * _size(z)
    random = np.random.default_rng(0)

    def noise(x: Any) -> Any:
        if not is_inexact(np.result_type(x)):
            return x
        factor = 1 + _NOISE * epsilon * random.uniform(-1, 1, np.shape(x))
        # an infinite complex number times a number has parts that are none
        with np.errstate(all="ignore"):
            return (x * factor).astype(x.dtype)[()] if isinstance(x, np.ndarray | np.generic) else type(x)(x * factor)

    changes = False
    for _ in range(_SAMPLES):
        (other,) = evaluate_with(noise, jaxpr, [noise(x) for x in args])[place : place + 1]
        changes |= bool(_wrong(other, z, 0).any())
        with np.errstate(all="ignore"):
            changed = np.abs(np.asarray(other) - np.asarray(z)) if is_inexact(np.result_type(z)) else np.zeros(())
            # a NaN or an infinity that comes and goes allows anything, and so does a change of the largest numbers
            allowed = np.maximum(allowed, _MARGIN * np.where(np.isfinite(changed) | _equal(other, z), changed, np.inf))
    wrong = _wrong(y, z, allowed)
    if wrong.any() and (is_inexact(np.result_type(z)) or not changes):
        _refuse(jaxpr, place, y, z, wrong)


def _equal(y: Any, z: Any) -> Any:
    return (np.asarray(y) == z) | ((np.asarray(y) != y) & (np.asarray(z) != z))


def _wrong(y: Any, z: Any, allowed: Any) -> Any:
    """Where two results differ by more than is allowed; everywhere if they have other types."""
    a, b = np.asarray(y), np.asarray(z)
    if a.shape != b.shape or native(a.dtype) != native(b.dtype):
        return np.ones((), bool)
    if not is_inexact(a.dtype):
        return np.asarray(a != b)
    if a.dtype.kind == "c":
        # one part may be infinite or NaN, and the other one is still a number
        return np.asarray(~(_close(a.real, b.real, allowed) & _close(a.imag, b.imag, allowed)))
    return np.asarray(~_close(a, b, allowed))


def _close(a: Any, b: Any, allowed: Any) -> Any:
    info = np.finfo(a.dtype)
    # below the smallest normal number, some of SciPy's functions give 0
    least = np.maximum(_ULPS * float(info.eps) * _size(b), float(info.tiny))
    with np.errstate(all="ignore"):
        return _equal(a, b) | (np.abs(a - b) <= np.maximum(allowed, least))


def _units(jaxpr: Jaxpr) -> float:
    """The units in the last place that results may differ by without a closer look.

    NumPy adds up long lines one number after the other, and its error grows with the root of their number or faster.
    """
    sums = [e for e in jaxpr.equations if isinstance(e.primitive, Reduction | Contraction | Running)]
    longest = max((math.prod(x.shape) for e in sums for x in e.inputs), default=0)
    return _ULPS + 2 * math.sqrt(longest)


def _epsilon(jaxpr: Jaxpr) -> float:
    """The relative precision of the coarsest floats in a program."""
    dtypes = {v.dtype for v in (*jaxpr.inputs, *(v for e in jaxpr.equations for v in e.outputs))}
    return float(max([np.finfo(dtype).eps for dtype in dtypes if is_inexact(dtype)], default=0.0))


def _size(z: Any) -> Any:
    """What the precision is relative to: the numbers, and no less than the smallest normal one."""
    if not is_inexact(np.result_type(z)):
        return 0
    with np.errstate(all="ignore"):
        size = np.abs(np.asarray(z)).astype(np.float64)
    return np.where(np.isfinite(size), size, 0) + float(np.finfo(np.result_type(z)).tiny)


def _refuse(jaxpr: Jaxpr, place: int, y: Any, z: Any, wrong: Any) -> None:
    a, b = np.asarray(y), np.asarray(z)
    what = f"output {place} of {len(jaxpr.outputs)} of a compiled program"
    if a.shape != b.shape or native(a.dtype) != native(b.dtype):
        found, other = (f"{x.dtype}{list(x.shape)}" for x in (a, b))
        raise InternalError(f"{what} is {found}, but NumPy gives {other}\n{jaxpr!r}")
    at = tuple(map(int, np.argwhere(wrong)[0]))
    where = f" at {list(at)}" if at else ""
    raise InternalError(
        f"{what} is {a[at]!r}{where}, but NumPy gives {b[at]!r}; "
        f"{np.count_nonzero(wrong)} of {a.size} elements differ by more than rounding explains\n{jaxpr!r}"
    )
