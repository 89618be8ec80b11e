"""Slices whose start is a value: inside the array, beyond it on either side, and counted from the end."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.ops.dynamic import DynamicSlice, DynamicUpdateSlice
from tests.cases.base import Case, normal

Shape = tuple[int, ...]


@st.composite
def slices(draw: st.DrawFn) -> tuple[Shape, Shape, tuple[Any, ...]]:
    """A shape, the sizes of a slice of such an array, and its starts."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    sizes = tuple(draw(st.integers(0, n)) for n in shape)
    dtypes = st.sampled_from([np.int64, np.int64, np.int8])
    starts = tuple(draw(dtypes)(draw(st.integers(-n - 2, n + 2))) for n in shape)
    return shape, sizes, starts


@st.composite
def reads(draw: st.DrawFn) -> Case:
    shape, sizes, starts = draw(slices())
    return Case(DynamicSlice(sizes), (draw(normal(shape)), *starts))


@st.composite
def writes(draw: st.DrawFn) -> Case:
    shape, sizes, starts = draw(slices())
    return Case(DynamicUpdateSlice(sizes), (draw(normal(shape)), draw(normal(sizes, stream=1)), *starts))


CASES = {"dynamic_slice": reads(), "dynamic_update_slice": writes()}
