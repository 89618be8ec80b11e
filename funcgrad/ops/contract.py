"""Contraction: products of two arrays, summed over common axes. Matrix products, `dot`, `tensordot` are all this one.

A contraction is written in Einstein's notation, `ij,jk->ik`. Each letter stands in exactly two of the three terms, or
in all three: in both operands it is summed over, in one operand and the result it is free, in all three it is a batch
axis. So the roles can be exchanged, and the pullback is again a contraction, found by exchanging the result with the
operand: from y[ik] = x1[ij] x2[jk] follow ct1[ij] = g[ik] x2[jk] and ct2[jk] = x1[ij] g[ik]. No transposition is left
over, and the derivative of any order is a contraction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, final

import numpy as np

from funcgrad.core.errors import ShapeError
from funcgrad.core.kinds import Contraction
from funcgrad.core.primitive import Wanted
from funcgrad.core.types import Array, ArrayType, Shape, Typed, broadcast_shapes, promote
from funcgrad.ops.broadcast import Sum
from funcgrad.ops.elementwise import multiply
from funcgrad.ops.pointwise import fit
from funcgrad.ops.shape import reshape, transpose

Kernel = Callable[[Array, Array], Array]
# those of the alphabet; the module `string` would also make its templates
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@final
@dataclass(frozen=True, slots=True)
class Contract(Contraction):
    """The products of two arrays summed as `spec` says, such as `ij,jk->ik`."""

    name: ClassVar[str] = "contract"
    fresh = True
    spec: str
    impl: Kernel = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "impl", _kernel(self.spec))

    def __reduce__(self) -> tuple[Callable[[str], Contract], tuple[str]]:
        return contraction, (self.spec,)

    @property
    def terms(self) -> tuple[str, str, str]:
        """The letters of the operands and of the result."""
        return _terms(self.spec)

    def out_type(self, x1: Typed, x2: Typed) -> ArrayType:
        letters1, letters2, out = self.terms
        sizes: dict[str, int] = {}
        for letters, x in ((letters1, x1), (letters2, x2)):
            if len(letters) != len(x.shape):
                raise ShapeError(f"{self}: an array of shape {x.shape} has {len(x.shape)} axes, not {len(letters)}")
            for letter, n in zip(letters, x.shape, strict=True):
                if sizes.setdefault(letter, n) != n:
                    _refuse_lengths(self.spec, x1.shape, x2.shape, letter)
        return ArrayType(tuple(sizes[letter] for letter in out), promote(x1, x2))

    def expand(self, x1: Any, x2: Any) -> Any:
        letters1, letters2, out = self.terms
        summed = "".join(dict.fromkeys(c for c in letters1 + letters2 if c not in out))
        order = out + summed
        y = multiply(_spread(x1, letters1, order), _spread(x2, letters2, order))
        return Sum(tuple(range(len(out), len(order))))(y) if summed else y

    def unread(self, wanted: Wanted) -> Sequence[int]:
        w1, w2 = wanted
        return (0, 2) if w1 is None else (0, 1) if w2 is None else (0,)

    def vjp(self, wanted: Wanted, g: Array, y: None, x1: Array, x2: Array) -> tuple[Any, ...]:
        w1, w2 = wanted
        pull1, pull2 = _pullbacks(self.spec)
        return (
            None if w1 is None else fit(pull1(g, x2), w1),
            None if w2 is None else fit(pull2(x1, g), w2),
        )

    def batch(self, batched: tuple[bool, ...], x1: Array, x2: Array) -> Array:
        letters1, letters2, out = self.terms
        new = unused_letter(self.spec)
        lead1, lead2 = (new if b else "" for b in batched)
        return contraction(f"{lead1}{letters1},{lead2}{letters2}->{new}{out}")(x1, x2)


@lru_cache(maxsize=4096)
def contraction(spec: str) -> Contract:
    """The contraction that `spec` describes; the same one each time."""
    return Contract(spec)


@lru_cache(maxsize=4096)
def _terms(spec: str) -> tuple[str, str, str]:
    operands, _, out = spec.partition("->")
    letters1, _, letters2 = operands.partition(",")
    for letter in set(operands) - {","} | set(out):
        if (letter in letters1) + (letter in letters2) + (letter in out) < 2:
            raise ValueError(f"contraction {spec!r}: {letter!r} must stand in two of the three terms, or in all")
    if any(len(set(term)) != len(term) for term in (letters1, letters2, out)):
        raise ValueError(f"contraction {spec!r} repeats a letter within a term")
    return letters1, letters2, out


@lru_cache(maxsize=4096)
def _pullbacks(spec: str) -> tuple[Contract, Contract]:
    letters1, letters2, out = _terms(spec)
    return contraction(f"{out},{letters2}->{letters1}"), contraction(f"{letters1},{out}->{letters2}")


def unused_letter(spec: str) -> str:
    """A letter that does not occur in `spec`."""
    return next(letter for letter in LETTERS if letter not in spec)


def _refuse_lengths(spec: str, shape1: Shape, shape2: Shape, letter: str) -> None:
    letters1, letters2, _ = _terms(spec)
    axis1, axis2 = letters1.index(letter), letters2.index(letter)
    if _renamed(spec) not in _MATRIX_PRODUCTS:
        raise ShapeError(
            f"contraction {spec!r} of shapes {shape1} and {shape2}: axis {axis1} of the first has length "
            f"{shape1[axis1]}, but axis {axis2} of the second has length {shape2[axis2]}",
            f"both are {letter!r} and must be equal: transpose or reshape an operand",
        )
    refuse_matmul(shape1, shape2)


def refuse_matmul(shape1: Shape, shape2: Shape) -> None:
    """Raise the error of a matrix product whose inner lengths differ."""
    inner1, inner2 = shape1[-1], shape2[0 if len(shape2) == 1 else -2]
    fix = "the last axis of a must be as long as the last but one of b"
    if len(shape1) == len(shape2) == 2:
        guesses = {
            "a @ b.T": (shape1[1], shape2[1]),
            "a.T @ b": (shape1[0], shape2[0]),
            "b @ a": (shape2[1], shape1[0]),
        }
        fix = next((f"did you mean {guess}?" for guess, (m, n) in guesses.items() if m == n), fix)
    raise ShapeError(f"matmul: {shape1} @ {shape2}: inner {inner1} != {inner2}", fix)


def _renamed(spec: str) -> str:
    """`spec` with the letters a, b, c ... in their order of appearance."""
    names: dict[str | int, str | int | None] = {}
    for letter in spec:
        if letter.isalpha():
            names.setdefault(letter, LETTERS[len(names)])
    return spec.translate(str.maketrans(names))


# With vectors and matrices numpy.dot costs less than numpy.matmul, and transposes are views that BLAS reads directly.
_MATRIX_PRODUCTS: dict[str, Kernel] = {
    "ab,bc->ac": np.dot,
    "ab,b->a": np.dot,
    "a,ab->b": np.dot,
    "a,a->": np.dot,
}
_DIRECT: dict[str, Kernel] = {
    **_MATRIX_PRODUCTS,
    "ab,cb->ac": lambda x1, x2: np.dot(x1, x2.T),
    "ab,ac->bc": lambda x1, x2: np.dot(x1.T, x2),
    "ab,ca->bc": lambda x1, x2: np.dot(x1.T, x2.T),
    "ab,bc->ca": lambda x1, x2: np.dot(x2.T, x1.T),
    "ab,cb->ca": lambda x1, x2: np.dot(x2, x1.T),
    "ab,ac->cb": lambda x1, x2: np.dot(x2.T, x1),
    "ab,ca->cb": lambda x1, x2: np.dot(x2, x1),
    "ab,a->b": lambda x1, x2: np.dot(x2, x1),
    "a,ba->b": lambda x1, x2: np.dot(x2, x1),
    "a,b->ab": np.multiply.outer,
}


def _kernel(spec: str) -> Kernel:
    """NumPy code for a contraction: a matrix product of views, of copies only where BLAS could not read the view."""
    direct = _DIRECT.get(_renamed(spec))
    if direct is not None:
        return direct
    letters1, letters2, out = _terms(spec)
    summed = [c for c in letters1 if c in letters2 and c not in out]
    if not summed:
        return _products(letters1, letters2, out)
    if not out:
        align = _grouped(letters2, [letters1])
        return lambda x1, x2: np.dot(x1.ravel(), align(x2))
    if all(c in letters1 and c in letters2 for c in out):
        return lambda x1, x2: np.einsum(spec, x1, x2)
    if out[-1] not in letters2:
        swapped = _matrix_product(letters2, letters1, out)
        return lambda x1, x2: swapped(x2, x1)
    return _matrix_product(letters1, letters2, out)


def _products(letters1: str, letters2: str, out: str) -> Kernel:
    order1 = tuple(letters1.index(c) for c in out if c in letters1)
    order2 = tuple(letters2.index(c) for c in out if c in letters2)
    index1 = tuple(slice(None) if c in letters1 else None for c in out)
    index2 = tuple(slice(None) if c in letters2 else None for c in out)
    return lambda x1, x2: np.multiply(x1.transpose(order1)[index1], x2.transpose(order2)[index2])


def _matrix_product(letters1: str, letters2: str, out: str) -> Kernel:
    """Rows are free in the first operand, columns in the second.

    What is left of the free axes of an operand may be folded into its rows or columns, for one large product, or be
    run through as a stack of small ones, which needs no reshaping.
    """
    free1 = "".join(c for c in out if c not in letters2)
    free2 = "".join(c for c in out if c not in letters1)
    # neighbouring axes fold into one without a copy; others are left where they are
    stack2 = "" if free2 in letters2 else free2[:-1]
    stacked = _stacked_product(letters1, letters2, out, free1[:-1], stack2)
    if free1 not in letters1 or len(free1) < 2:
        return stacked
    folded = _stacked_product(letters1, letters2, out, "", stack2)
    row, inner = letters1.index(free1[-1]), letters1.index(next(c for c in letters1 if c not in out))

    def kernel(x1: Array, x2: Array) -> Array:
        size, shape = x1.size, x1.shape
        few = size < _FOLD_FROM_SIZE and size <= _FOLD_FROM_COUNT * shape[row] * shape[inner]
        return stacked(x1, x2) if few else folded(x1, x2)

    return kernel


# Where folding pays for reshaping: measured with OpenBLAS on matrices of 8×8 to 512×512.
_FOLD_FROM_SIZE = 16384
_FOLD_FROM_COUNT = 32


def _stacked_product(letters1: str, letters2: str, out: str, stack1: str, stack2: str) -> Kernel:
    """A stack of matrix products, along common axes and those in `stack1` and `stack2`; the other axes are folded."""
    batch = [c for c in out if c in letters1 and c in letters2]
    summed = "".join(c for c in letters1 if c in letters2 and c not in out)
    rows = "".join(c for c in out if c not in letters2 and c not in stack1)
    columns = "".join(c for c in out if c not in letters1 and c not in stack2)
    # matmul broadcasts, so the stack of the second operand needs no place in the first if it has none itself
    gap1, gap2 = [""] * len(stack2) * bool(batch or stack1), [""] * len(stack1) * bool(batch or stack2)
    align1 = _grouped(letters1, [*batch, *stack1, *gap1, rows, summed])
    align2 = _grouped(letters2, [*batch, *gap2, *stack2, summed, columns])
    made = "".join([*batch, *stack1, *stack2, rows, columns])
    order = tuple(made.index(c) for c in out)
    if len(rows) == len(columns) == 1 and order == tuple(range(len(out))):
        if align1 is _same and align2 is _same:
            return np.matmul
        return lambda x1, x2: np.matmul(align1(x1), align2(x2))
    places1 = [letters1.index(c) for c in [*batch, *stack1]]
    places2 = [letters2.index(c) for c in stack2]
    row_places, column_places = [letters1.index(c) for c in rows], [letters2.index(c) for c in columns]

    def kernel(x1: Array, x2: Array) -> Array:
        shape1, shape2 = x1.shape, x2.shape
        y = np.matmul(align1(x1), align2(x2))
        shape = [shape1[i] for i in places1] + [shape2[i] for i in places2]
        shape += [shape1[i] for i in row_places] + [shape2[i] for i in column_places]
        return y.reshape(shape).transpose(order)

    return kernel


def _spread(x: Any, letters: str, order: str) -> Any:
    """The axes of an array in another order, with axes of length 1 for the letters that it lacks."""
    x = transpose(x, tuple(letters.index(c) for c in order if c in letters))
    lengths = iter(x.shape)
    return reshape(x, tuple(next(lengths) if c in letters else 1 for c in order))


def _same(x: Array) -> Array:
    return x


def _grouped(letters: str, groups: list[str]) -> Callable[[Array], Array]:
    """A function that orders the axes of an array by groups of letters, and folds each group into one axis."""
    order = tuple(letters.index(c) for group in groups for c in group)
    ordered = order == tuple(range(len(order)))
    if all(len(group) == 1 for group in groups):
        return _same if ordered else lambda x: x.transpose(order)
    places = [[letters.index(c) for c in group] for group in groups]

    def align(x: Array) -> Array:
        shape = x.shape
        return (x if ordered else x.transpose(order)).reshape([math.prod([shape[i] for i in g]) for g in places])

    return align


_MATMUL = contraction("ij,jk->ik")
_VECTOR_PRODUCTS = {(1, 1): contraction("i,i->"), (2, 1): contraction("ij,j->i"), (1, 2): contraction("i,ij->j")}


def matmul(x1: Array, x2: Array) -> Array:
    """The operator `x1 @ x2`: the matrix product of the last two axes, the others broadcast."""
    if x1.__class__ in (list, tuple) or x2.__class__ in (list, tuple):
        return matmul(*(np.asarray(x) if x.__class__ in (list, tuple) else x for x in (x1, x2)))
    ndim1, ndim2 = getattr(x1, "ndim", 0), getattr(x2, "ndim", 0)
    if ndim1 == 2 == ndim2:
        return _MATMUL(x1, x2)
    product = _VECTOR_PRODUCTS.get((ndim1, ndim2))
    if product is not None:
        return product(x1, x2)
    if not (ndim1 and ndim2):
        raise ShapeError(
            f"matmul: {np.shape(x1)} @ {np.shape(x2)}: a scalar is not a matrix", "multiply by a scalar with a * b"
        )
    primitive, shape1, shape2 = _stacked(x1.shape, x2.shape)
    return primitive(reshape(x1, shape1), reshape(x2, shape2))


@lru_cache(maxsize=4096)
def _stacked(shape1: Shape, shape2: Shape) -> tuple[Contract, Shape, Shape]:
    """The contraction that a matrix product of stacks is, and the shapes that it takes.

    An axis of length 1 that the other operand repeats is dropped: the letter is then free in the other, so no copy
    is made of what broadcasting repeats, and the pullback sums over it.
    """
    lead1, matrix1 = shape1[:-2], shape1[-2:]
    lead2, matrix2 = (shape2[:-2], shape2[-2:]) if len(shape2) > 1 else ((), shape2)
    try:
        lead = broadcast_shapes(lead1, lead2)
    except ValueError:
        raise ShapeError(
            f"matmul: {shape1} @ {shape2}: the stacks of shapes {lead1} and {lead2} do not broadcast",
            "each axis before the last two, counted from the last, must be equal or 1",
        ) from None
    if matrix1[-1] != matrix2[0]:
        refuse_matmul(shape1, shape2)
    names = "abcdefghlmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(lead)]
    kept1, kept2 = _kept(lead1, lead, names), _kept(lead2, lead, names)
    rows, columns = ("i" if len(shape1) > 1 else ""), ("k" if len(shape2) > 1 else "")
    spec = f"{''.join(kept1)}{rows}j,{''.join(kept2)}j{columns}->{names}{rows}{columns}"
    return contraction(spec), (*kept1.values(), *matrix1), (*kept2.values(), *matrix2)


def _kept(lead: Shape, full: Shape, names: str) -> dict[str, int]:
    """The axes of `lead`, by letter, that are not repeated when it broadcasts to `full`."""
    skip = len(full) - len(lead)
    return {c: n for c, n, m in zip(names[skip:], lead, full[skip:], strict=True) if n == m}


def dot(x1: Array, x2: Array) -> Array:
    """`numpy.dot`: the last axis of `x1` with the last but one of `x2`; a product where either is a scalar."""
    ndim1, ndim2 = len(x1.shape), len(x2.shape)
    if not (ndim1 and ndim2):
        return multiply(x1, x2)
    if ndim1 <= 2 >= ndim2:
        return matmul(x1, x2)
    return tensordot(x1, x2, (ndim1 - 1,), (max(ndim2 - 2, 0),))


def tensordot(x1: Array, x2: Array, axes1: tuple[int, ...], axes2: tuple[int, ...]) -> Array:
    """The products of `x1` and `x2` summed over `axes1` of the one with `axes2` of the other."""
    return _tensordot(len(x1.shape), len(x2.shape), axes1, axes2)(x1, x2)


@lru_cache(maxsize=4096)
def _tensordot(ndim1: int, ndim2: int, axes1: tuple[int, ...], axes2: tuple[int, ...]) -> Contract:
    letters1 = LETTERS[:ndim1]
    letters2 = list(LETTERS[ndim1 : ndim1 + ndim2])
    for axis1, axis2 in zip(axes1, axes2, strict=True):
        letters2[axis2] = letters1[axis1]
    summed = {letters1[axis] for axis in axes1}
    out = "".join(c for c in (*letters1, *letters2) if c not in summed)
    return contraction(f"{letters1},{''.join(letters2)}->{out}")
