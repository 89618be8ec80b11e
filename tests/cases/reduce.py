"""The largest, the product, any and all, and where the largest stands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.core.primitive import Primitive
from funcgrad.ops.reduce import AllTrue, AnyTrue, ArgMax, ArgMin, Max, Min, Prod
from tests.cases.base import Case, normal
from tests.cases.broadcast import axes_of, shapes

filled = hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3)


@st.composite
def extrema(draw: st.DrawFn, primitive: Callable[[tuple[int, ...]], Primitive]) -> Case:
    # an empty array is fine as long as none of the folded axes is empty
    shape = draw(filled | shapes.filter(lambda shape: 0 in shape))
    axes = tuple(axis for axis in draw(axes_of(len(shape))) if shape[axis])
    return Case(primitive(axes), (draw(normal(shape)),))


@st.composite
def products(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    x = draw(normal(shape))
    zeros = draw(hnp.arrays(bool, shape, elements=st.integers(0, 5).map(lambda i: i == 0)))
    return Case(Prod(draw(axes_of(len(shape)))), (np.where(zeros, 0.0, x),))


@st.composite
def truths(draw: st.DrawFn, primitive: Callable[[tuple[int, ...]], Primitive]) -> Case:
    shape = draw(shapes)
    x = draw(hnp.arrays(bool, shape) | hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 1.0])))
    return Case(primitive(draw(axes_of(len(shape)))), (x,), derivative=False)


@st.composite
def places(draw: st.DrawFn, primitive: Callable[[int | None], Primitive]) -> Case:
    shape = draw(filled)
    axis = draw(st.none() | st.sampled_from(range(len(shape))) if shape else st.none())
    return Case(primitive(axis), (draw(normal(shape)),), derivative=False)


CASES = {
    "max": extrema(Max),
    "min": extrema(Min),
    "prod": products(),
    "any": truths(AnyTrue),
    "all": truths(AllTrue),
    "argmax": places(ArgMax),
    "argmin": places(ArgMin),
}
