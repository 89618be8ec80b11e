"""Einstein's summation with any number of operands, as a chain of contractions of two.

The specification and the shapes decide everything, so they are turned into a plan once: each operand is first reduced
to distinct letters that it shares with others (repeated letters are a diagonal, letters of its own are summed over),
then pairs are contracted in the order that keeps intermediate results small.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np

from funcgrad.core.errors import ArgumentError, ShapeError
from funcgrad.core.types import Array, Shape
from funcgrad.ops.broadcast import Sum
from funcgrad.ops.contract import LETTERS, Contract, contraction
from funcgrad.ops.index import diagonal
from funcgrad.ops.pointwise import convert
from funcgrad.ops.shape import reshape, transpose


def einsum(spec: str, operands: list[Array]) -> Array:
    """`numpy.einsum` on operands that are arrays or tracers."""
    dtype = operands[0].dtype
    if any(x.dtype is not dtype for x in operands):
        dtype = np.result_type(*(x.dtype for x in operands))
        operands = [convert(x, dtype) for x in operands]
    plan = _plan(spec, tuple([x.shape for x in operands]))
    if plan.direct is not None:
        return plan.direct(*operands)
    terms = [reduction.apply(x) for reduction, x in zip(plan.reductions, operands, strict=True)]
    for i, j, primitive in plan.steps:
        x2, x1 = terms.pop(j), terms.pop(i)
        terms.append(primitive(x1, x2))
    return transpose(terms[0], plan.order)


@dataclass(frozen=True)
class _Reduction:
    """What happens to one operand before it meets the others.

    Attributes:
        shape: Its shape without the axes of length 1 that broadcasting repeats.
        letters: The letters of the axes that are left; a repeated one is a diagonal.
        summed: The letters that occur nowhere else.
    """

    shape: Shape
    letters: str
    summed: str

    @property
    def result(self) -> str:
        """The letters of what is left, in the order in which `apply` leaves them."""
        letters = self.letters
        while (c := _repeated(letters)) is not None:
            letters = letters.replace(c, "", 2) + c
        return "".join(c for c in letters if c not in self.summed)

    def apply(self, x: Array) -> Array:
        x = reshape(x, self.shape)
        letters = self.letters
        while (c := _repeated(letters)) is not None:
            first = letters.index(c)
            x = diagonal(x, 0, first, letters.index(c, first + 1))
            letters = letters.replace(c, "", 2) + c
        if not self.summed:
            return x
        return convert(Sum(tuple(i for i, c in enumerate(letters) if c in self.summed))(x), x.dtype)


def _repeated(letters: str) -> str | None:
    return next((c for i, c in enumerate(letters) if c in letters[:i]), None)


@dataclass(frozen=True)
class _Plan:
    """Reduce each operand; contract terms i < j, which moves their result to the end; order the axes at last.

    If `direct` is not None, that contraction alone is all there is to do.
    """

    reductions: tuple[_Reduction, ...]
    steps: tuple[tuple[int, int, Contract], ...]
    order: tuple[int, ...]
    direct: Contract | None


@lru_cache(maxsize=1024)
def _plan(spec: str, shapes: tuple[Shape, ...]) -> _Plan:
    terms, out = _parse(spec, tuple(map(len, shapes)))
    sizes = _sizes(spec, terms, shapes)
    for c in out:
        if c not in sizes:
            _refuse(spec, f"the result has the letter {c!r}, which no operand has")
    kept = [[(c, n) for c, n in zip(*axes, strict=True) if n == sizes[c]] for axes in zip(terms, shapes, strict=True)]
    letters = ["".join(c for c, _ in axes) for axes in kept]
    reductions = []
    for k, axes in enumerate(kept):
        elsewhere = "".join([out, *letters[:k], *letters[k + 1 :]])
        summed = "".join(sorted(set(letters[k]) - set(elsewhere)))
        reductions.append(_Reduction(tuple(n for _, n in axes), letters[k], summed))
    left = [reduction.result for reduction in reductions]
    steps, last = _pairs(left, out, sizes)
    alone = len(terms) == 2 and all(r.result == term for r, term in zip(reductions, terms, strict=True))
    direct = steps[0][2] if alone and last == out else None
    return _Plan(tuple(reductions), steps, tuple(last.index(c) for c in out), direct)


def _pairs(terms: list[str], out: str, sizes: dict[str, int]) -> tuple[tuple[tuple[int, int, Contract], ...], str]:
    steps = []
    for places in _path(terms, out, sizes):
        taken = sorted(places)
        while len(taken) > 1:
            j, i = taken.pop(), taken.pop()
            term2, term1 = terms.pop(j), terms.pop(i)
            needed = out + "".join(terms)
            both = [c for c in term1 if c in term2 and c in needed]
            free = [c for c in term1 + term2 if c not in both and (c in term1) != (c in term2)]
            result = "".join([*both, *free]) if terms else out
            steps.append((i, j, contraction(f"{term1},{term2}->{result}")))
            terms.append(result)
            taken.append(len(terms) - 1)
    return tuple(steps), terms[0]


def _path(terms: list[str], out: str, sizes: dict[str, int]) -> list[tuple[int, ...]]:
    """Which terms to contract in turn, each result going to the end: NumPy's greedy order."""
    if len(terms) < 3:
        return [tuple(range(len(terms)))]
    point = np.empty(())
    arrays = [np.broadcast_to(point, [sizes[c] for c in term]) for term in terms]
    path: list[Any] = np.einsum_path(f"{','.join(terms)}->{out}", *arrays, optimize="greedy")[0]
    return path[1:]


def _parse(spec: str, ndims: tuple[int, ...]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, an ellipsis spelled out."""
    spec = spec.replace(" ", "")
    left, arrow, out = spec.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        _refuse(spec, f"it has {len(terms)} terms for {len(ndims)} operands")
    for c in left.replace("...", "").replace(",", "") + out.replace("...", ""):
        if c not in LETTERS:
            _refuse(spec, f"{c!r} is not a letter")
    hidden = [n - len(term) + 3 if "..." in term else 0 for term, n in zip(terms, ndims, strict=True)]
    for k, (term, n, dots) in enumerate(zip(terms, ndims, hidden, strict=True)):
        if dots < 0 or (len(term) != n and "..." not in term):
            _refuse(spec, f"its term {term!r} does not name the {n} axes of operand {k}")
    names = "".join(c for c in LETTERS if c not in spec)[: max(hidden)]
    if len(names) < max(hidden) or (names and arrow and "..." not in out):
        _refuse(spec, "the axes that ... stands for must appear in the result as ... too")
    if not arrow:
        counts = Counter(left.replace("...", "").replace(",", ""))
        out = "..." + "".join(sorted(c for c, count in counts.items() if count == 1))
    out = out.replace("...", names)
    if _repeated(out) is not None:
        _refuse(spec, f"the result repeats the letter {_repeated(out)!r}")
    return [term.replace("...", names[len(names) - n :]) for term, n in zip(terms, hidden, strict=True)], out


def _sizes(spec: str, terms: list[str], shapes: tuple[Shape, ...]) -> dict[str, int]:
    """The length of each letter's axes; those of length 1 broadcast."""
    sizes: dict[str, int] = {}
    for k, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        for c, n in zip(term, shape, strict=True):
            before = sizes.setdefault(c, n)
            if before == 1:
                sizes[c] = n
            elif n not in (1, before):
                raise ShapeError(
                    f"einsum {spec!r}: {c!r} has length {n} in operand {k} of shape {shape}, but {before} before it",
                    "axes with the same letter must be equally long, or of length 1",
                )
    return sizes


def _refuse(spec: str, what: str) -> NoReturn:
    raise ArgumentError(f"einsum {spec!r}: {what}", "write one letter for each axis, as in 'ij,jk->ik'")
