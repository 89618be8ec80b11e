"""Sorting and searching."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.ops.order import Argsort, Permute, SearchSorted, Sort
from tests.cases.base import Case, normal

shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)


@st.composite
def sorts(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    return Case(Sort(draw(st.sampled_from(range(len(shape))))), (draw(normal(shape)),))


@st.composite
def orders(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    x = draw(normal(shape))
    return Case(Argsort(draw(st.sampled_from(range(len(shape))))), (x,), derivative=False)


@st.composite
def permutations(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    axis = draw(st.sampled_from(range(len(shape))))
    order = np.argsort(draw(normal(shape, stream=1)), axis)
    return Case(Permute(axis, draw(st.booleans())), (draw(normal(shape)), order))


@st.composite
def searches(draw: st.DrawFn) -> Case:
    side = draw(st.sampled_from(["left", "right"]))
    values = st.sampled_from([-1.0, 0.0, 1.0, 2.0, np.inf, np.nan])
    a = np.sort(draw(hnp.arrays(np.float64, st.integers(0, 4), elements=values)))
    v = draw(hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0), elements=values))
    return Case(SearchSorted(side), (a, v), derivative=False)


CASES = {"sort": sorts(), "argsort": orders(), "permute": permutations(), "searchsorted": searches()}
