"""Broadcast, sum, reshape."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.ops.broadcast import BroadcastTo, Sum
from funcgrad.ops.shape import Reshape
from tests.cases.base import Case, normal

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


@st.composite
def axes_of(draw: st.DrawFn, ndim: int) -> tuple[int, ...]:
    """Some of the axes of an array, in order."""
    return tuple(axis for axis in range(ndim) if draw(st.booleans()))


@st.composite
def broadcasts(draw: st.DrawFn) -> Case:
    target = draw(shapes)
    lead = draw(st.integers(0, len(target)))
    shape = tuple(draw(st.sampled_from([n, 1])) for n in target[lead:])
    return Case(BroadcastTo(target), (draw(normal(shape)),))


@st.composite
def sums(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    return Case(Sum(draw(axes_of(len(shape)))), (draw(normal(shape)),))


@st.composite
def reshapes(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    target = [n for n in draw(st.permutations(shape)) if n != 1]
    for _ in range(draw(st.integers(0, 2))):
        target.insert(draw(st.integers(0, len(target))), 1)
    return Case(Reshape(tuple(target)), (draw(normal(shape)),))


CASES = {"broadcast_to": broadcasts(), "sum": sums(), "reshape": reshapes()}
