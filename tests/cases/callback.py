"""Calls of Python functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, final

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.core.types import Array, ArrayType
from funcgrad.ops.callback import Effect, PureCallback, Target
from tests.cases.base import Case, normal


@final
@dataclass(frozen=True)
class Wave(Target):
    """Two results of two operands, element by element: a float and a bool."""

    def call(self, xs: Sequence[Array]) -> Any:
        x1, x2 = (x.astype(float) for x in xs)
        return np.sin(x1) * x2, x1 + 0 * x2 < x2

    def unpack(self, result: Any) -> Sequence[Any]:
        return result

    def refuse(self, i: int, got: ArrayType, declared: ArrayType) -> NoReturn:
        raise AssertionError(f"result {i} is {got}, declared {declared}")


@st.composite
def calls(draw: st.DrawFn) -> Case:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    types = (ArrayType(shape, np.dtype(float)), ArrayType(shape, np.dtype(bool)))
    method = draw(st.sampled_from(["sequential", "expand_dims", "broadcast_all"]))
    primitive = PureCallback("wave", Wave(), types, method)
    # first derivatives are tested with the function; second ones there are not
    return Case(primitive, (draw(normal(shape)), draw(normal(shape, stream=1))), derivative=False)


@st.composite
def effects(draw: st.DrawFn) -> Case:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    return Case(Effect("nothing", lambda *xs: None), (draw(normal(shape)), draw(normal(()))), derivative=False)


CASES = {"pure_callback": calls(), "effect": effects()}
