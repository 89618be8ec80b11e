"""Identities that steer transformations, arrays that are part of a program, and the numbers of branches."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.ops.flow import BranchIndex, Given, Named, Weaken
from tests.cases.base import Case, normal

shapes = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)


@st.composite
def givens(draw: st.DrawFn) -> Case:
    dtype = draw(st.sampled_from([np.float64, np.int64, bool]))
    return Case(Given.of(draw(normal(draw(shapes))).astype(dtype)), (), derivative=False)


@st.composite
def nameds(draw: st.DrawFn) -> Case:
    return Case(Named("x"), (draw(normal(draw(shapes))),))


@st.composite
def weakens(draw: st.DrawFn) -> Case:
    # a Python number has no other dtype than these
    x = draw(normal(draw(st.just(()) | shapes)))
    return Case(Weaken(), (np.float64(x) if x.shape == () else x,))


@st.composite
def branch_indices(draw: st.DrawFn) -> Case:
    count = draw(st.integers(1, 3))
    dtype = draw(st.sampled_from([np.int64, np.int8, np.uint8]))
    x = draw(hnp.arrays(dtype, draw(shapes), elements=st.integers(0, count - 1)))
    return Case(BranchIndex(count), (x if x.shape else x[()],), derivative=False)


CASES = {"given": givens(), "named": nameds(), "weaken": weakens(), "branch_index": branch_indices()}
