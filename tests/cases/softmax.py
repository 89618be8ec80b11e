"""The normalized exponentials, over any axes."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.core.primitive import Primitive
from funcgrad.ops.softmax import LogSoftmax, LogSumExp, Softmax
from tests.cases.base import Case, normal

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


@st.composite
def exponentials(draw: st.DrawFn, make: Callable[[tuple[int, ...]], Primitive]) -> Case:
    shape = draw(shapes)
    axes = tuple(axis for axis in range(len(shape)) if draw(st.booleans()))
    # the sum over nothing has the logarithm −inf, of which there are no differences
    return Case(make(axes), (draw(normal(shape)),), derivative=all(shape[axis] for axis in axes))


CASES = {
    "logsumexp": exponentials(LogSumExp),
    "softmax": exponentials(lambda axes: Softmax(axes, 0.0)),
    "log_softmax": exponentials(LogSoftmax),
}
