"""Reading and writing at an index, in every form that NumPy knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.core.primitive import Primitive
from funcgrad.ops.index import GetItem, IndexAdd, parse
from funcgrad.ops.scatter import ScatterAdd, ScatterMax, ScatterMin, ScatterMultiply, ScatterSet
from tests.cases.base import Case, normal

Index = tuple[Any, ...]


@st.composite
def basic_entries(draw: st.DrawFn, n: int) -> Any:
    """An int or a slice for an axis of length n."""
    part = st.none() | st.integers(-n - 1, n + 1)
    spans = st.builds(slice, part, part, st.sampled_from([None, 1, 2, -1, -2]))
    return draw(spans | st.integers(-n, n - 1) if n else spans)


@st.composite
def indices(draw: st.DrawFn) -> tuple[tuple[int, ...], Index]:
    """A shape, and an index for it: basic, with integer arrays, or with a boolean mask."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3))
    kind = draw(st.sampled_from(["basic", "arrays", "mask"]))
    if kind == "mask":
        ndim = draw(st.integers(1, len(shape)))
        mask = draw(hnp.arrays(bool, shape[:ndim]))
        return shape, (mask, *(draw(basic_entries(n)) for n in shape[ndim:]))
    used = draw(st.integers(0, len(shape)))
    items: list[Any] = [draw(basic_entries(n)) for n in shape[:used]]
    if kind == "arrays" and used:
        common = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=2))
        places = draw(st.lists(st.integers(0, used - 1), min_size=1, unique=True))
        for i in places:
            items[i] = draw(hnp.arrays(np.int64, common, elements=st.integers(-shape[i], shape[i] - 1)))
    for _ in range(draw(st.integers(0, 1))):
        items.insert(draw(st.integers(0, len(items))), None)
    return shape, tuple(items)


@st.composite
def reads(draw: st.DrawFn) -> Case:
    shape, index = draw(indices())
    entries, arrays, selects = parse(shape, index)
    return Case(GetItem(entries, selects), (draw(normal(shape)), *arrays))


@st.composite
def sums(draw: st.DrawFn) -> Case:
    shape, index = draw(indices())
    onto = draw(st.booleans())
    operands: list[Any] = [draw(normal(shape, stream=1))] * onto
    entries, arrays, _ = parse(shape, index)
    repeats = draw(st.integers(1, 2))
    for _ in range(repeats):
        operands += [*arrays, draw(normal(np.zeros(shape)[index].shape))]
    return Case(IndexAdd(shape, (entries,) * repeats, (len(arrays),) * repeats, onto), tuple(operands))


@st.composite
def writes(draw: st.DrawFn, write: Callable[[Any], Primitive]) -> Case:
    shape, index = draw(indices())
    entries, arrays, _ = parse(shape, index)
    places = np.arange(np.prod(shape)).reshape(shape)[index]
    # a product over equal positions has no derivative with respect to its factors
    derivative = write is not ScatterMultiply or np.unique(places).size == places.size
    return Case(
        write(entries), (draw(normal(shape)), draw(normal(places.shape, stream=1)), *arrays), derivative=derivative
    )


CASES = {
    "getitem": reads(),
    "index_add": sums(),
    "scatter_set": writes(ScatterSet),
    "scatter_add": writes(ScatterAdd),
    "scatter_multiply": writes(ScatterMultiply),
    "scatter_min": writes(ScatterMin),
    "scatter_max": writes(ScatterMax),
}
