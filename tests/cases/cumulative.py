"""Running sums and products, and the linear recurrence."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.ops.cumulative import CumProd, CumSum, Recurrence
from tests.cases.base import Case, normal

shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)


@st.composite
def sums(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    axis = draw(st.sampled_from(range(len(shape))))
    return Case(CumSum(axis, draw(st.booleans())), (draw(normal(shape)),))


@st.composite
def products(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    axis = draw(st.sampled_from(range(len(shape))))
    zeros = draw(hnp.arrays(bool, shape, elements=st.integers(0, 4).map(lambda i: i == 0)))
    x = np.where(zeros, 0.0, draw(normal(shape)))
    return Case(CumProd(axis, draw(st.booleans()), draw(st.booleans())), (x,))


@st.composite
def recurrences(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    axis = draw(st.sampled_from(range(len(shape))))
    return Case(Recurrence(axis, draw(st.booleans())), (draw(normal(shape)), draw(normal(shape, stream=1))))


CASES = {"cumsum": sums(), "cumprod": products(), "recurrence": recurrences()}
