"""What a strategy of the law tests draws: one application of a primitive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcgrad.core.primitive import Primitive


@dataclass(frozen=True)
class Case:
    """A primitive and arguments in a region where it is smooth.

    Attributes:
        primitive: The primitive, with its parameters.
        args: NumPy arrays; the float64 and complex128 ones among them are differentiated.
        derivative: False where there is nothing to differentiate.
        rtol: How closely the pullback must match central differences.
        others: For the places of some arguments that are not differentiated, the values that they have in a batch.
    """

    primitive: Primitive
    args: tuple[Any, ...]
    derivative: bool = True
    rtol: float = 1e-6
    others: Mapping[int, Sequence[Any]] = field(default_factory=dict)


def normal(shape: tuple[int, ...], stream: int = 0) -> st.SearchStrategy[np.ndarray]:
    """Arrays of standard normal numbers, by seed: no value is special, so no tie or kink is hit.

    Two arrays that must not hold equal numbers take different streams.
    """
    return st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng([seed, stream]).standard_normal(shape))
