"""Matrices: well-conditioned ones where they are inverted, any, singular ones too, where they need not be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from funcgrad.core.primitive import Primitive
from funcgrad.ops.det import Cofactors, Det, InverseTransposed, Slogdet
from funcgrad.ops.linalg import Cholesky, Inverse, Qr, Solve, SolveTriangular
from funcgrad.ops.spectral import Eigh, Eigvalsh, Pinv, Svd, Svdvals
from tests.cases.base import Case, normal

Array = np.ndarray
stacks = st.sampled_from([(), (), (2,), (0,), (2, 1)])
orders = st.integers(0, 3)


@st.composite
def regular(draw: st.DrawFn, stack: tuple[int, ...], n: int) -> Array:
    """Matrices that are far from singular, as are their triangles."""
    return draw(normal((*stack, n, n))) / 2 + 3 * np.eye(n)


@st.composite
def any_matrices(draw: st.DrawFn, stack: tuple[int, ...], n: int) -> Array:
    """Matrices of any rank, zero included."""
    rank = draw(st.integers(0, n))
    return draw(normal((*stack, n, rank))) @ draw(normal((rank, n), 1))


@st.composite
def applied(draw: st.DrawFn, primitive: Callable[[], Primitive]) -> Case:
    return Case(primitive(), (draw(regular(draw(stacks), draw(orders))),))


@st.composite
def systems(draw: st.DrawFn, primitive: st.SearchStrategy[Primitive]) -> Case:
    stack1, stack2 = draw(st.sampled_from([((), ()), ((2,), ()), ((), (2,)), ((2, 1), (3,)), ((0,), ())]))
    n, k = draw(orders), draw(orders)
    return Case(draw(primitive), (draw(regular(stack1, n)), draw(normal((*stack2, n, k)))))


@st.composite
def positive(draw: st.DrawFn) -> Case:
    x = draw(regular(draw(stacks), draw(orders)))
    # the gradient is that of a function of symmetric matrices, so its own test varies only those
    return Case(Cholesky(), (x @ x.swapaxes(-1, -2),), derivative=False)


@st.composite
def determinants(draw: st.DrawFn) -> Case:
    return Case(Det(), (draw(any_matrices(draw(stacks), draw(orders))),))


@st.composite
def cofactors(draw: st.DrawFn) -> Case:
    stack, n = draw(stacks), draw(orders)
    directions = [draw(normal((n, n), i)) for i in range(draw(st.integers(0, 2)))]
    return Case(Cofactors(), (draw(any_matrices(stack, n)), *directions))


@st.composite
def apart(draw: st.DrawFn, m: int, n: int) -> Array:
    """Matrices of full rank whose singular values are far apart."""
    k = min(m, n)
    u, v = (np.linalg.qr(draw(normal((size, k), i)))[0] for i, size in enumerate((m, n)))
    matrix = (u * (1 + np.arange(k))) @ v.T
    stack = draw(stacks)
    return matrix * (1 + 0.1 * np.arange(np.prod(stack, dtype=int)).reshape((*stack, 1, 1)))


@st.composite
def rectangular(draw: st.DrawFn, primitive: Primitive) -> Case:
    completed = primitive == Svd(full=True)
    return Case(primitive, (draw(apart(draw(orders), draw(orders))),), derivative=not completed)


@st.composite
def tall(draw: st.DrawFn) -> Case:
    m = draw(orders)
    full = draw(st.booleans())
    # what completes Q is an arbitrary basis
    return Case(Qr(full), (draw(apart(m, draw(st.integers(0, m)))),), derivative=not full)


@st.composite
def symmetric(draw: st.DrawFn, primitive: st.SearchStrategy[Primitive]) -> Case:
    x = draw(apart(*[draw(orders)] * 2))
    # as for Cholesky
    return Case(draw(primitive), (x + x.swapaxes(-1, -2),), derivative=False)


@st.composite
def pseudoinverses(draw: st.DrawFn) -> Case:
    return Case(Pinv(), (draw(apart(draw(orders), draw(orders))), np.asarray(0.1)))


CASES = {
    "inv": applied(Inverse),
    "inverse_transposed": applied(InverseTransposed),
    "slogdet": applied(Slogdet),
    "det": determinants(),
    "cofactors": cofactors(),
    "cholesky": positive(),
    "svd": rectangular(Svd()) | rectangular(Svd(full=True)),
    "svdvals": rectangular(Svdvals()),
    "eigh": symmetric(st.builds(Eigh, st.booleans())),
    "eigvalsh": symmetric(st.builds(Eigvalsh, st.booleans())),
    "pinv": pseudoinverses(),
    "qr": tall(),
    "solve": systems(st.just(Solve())),
    "solve_triangular": systems(st.builds(SolveTriangular, st.booleans(), st.booleans(), st.booleans())),
}
