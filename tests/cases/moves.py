"""Transpose, flip, pad, concatenate, stop_gradient."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.ops.flow import StopGradient
from funcgrad.ops.join import Concatenate, Pad
from funcgrad.ops.shape import Flip, Transpose
from tests.cases.base import Case, normal

shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3)


@st.composite
def transposes(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    return Case(Transpose(tuple(draw(st.permutations(range(len(shape)))))), (draw(normal(shape)),))


@st.composite
def flips(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    axes = draw(st.lists(st.integers(0, len(shape) - 1), unique=True))
    return Case(Flip(tuple(sorted(axes))), (draw(normal(shape)),))


@st.composite
def pads(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    ends = st.tuples(st.integers(0, 2), st.integers(0, 2))
    return Case(Pad(tuple(draw(ends) for _ in shape)), (draw(normal(shape)),))


@st.composite
def concatenations(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    axis = draw(st.integers(0, len(shape) - 1))
    lengths = tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)))
    parts = tuple(draw(normal((*shape[:axis], n, *shape[axis + 1 :]))) for n in lengths)
    return Case(Concatenate(axis, lengths), parts)


CASES = {
    "transpose": transposes(),
    "flip": flips(),
    "pad": pads(),
    "concatenate": concatenations(),
    "stop_gradient": shapes.flatmap(normal).map(lambda x: Case(StopGradient(), (x,), derivative=False)),
}
