"""Every line of the elementwise table, on the domain where the function is smooth; conversion and selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.ops.gamma import Polygamma
from funcgrad.ops.pointwise import Convert, select, table
from funcgrad.ops.special import Sinc
from tests.cases.base import Case

Domain = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


def between(low: float, high: float) -> Domain:
    """The interval from low to high."""
    return lambda random, shape: np.asarray(random.uniform(low, high, shape))


def apart(low: float, high: float) -> Domain:
    """Numbers of either sign with an absolute value from low to high: 0 is out of reach of a small step."""
    return lambda random, shape: np.asarray(random.uniform(low, high, shape) * random.choice([-1, 1], shape))


def off_axes(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Complex numbers away from the axes, where the branch cuts lie."""
    return np.asarray(apart(0.3, 1.5)(random, shape) + 1j * apart(0.3, 1.5)(random, shape))


def whole(low: int, high: int) -> Domain:
    """Integers from low to high."""
    return lambda random, shape: np.asarray(random.integers(low, high, shape))


def truth(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Booleans."""
    return np.asarray(random.random(shape) < 0.5)


ANY, NONZERO, POSITIVE, UNIT = between(-2, 2), apart(0.2, 2), between(0.2, 3), between(-0.9, 0.9)

UNARY: dict[str, Domain] = {
    "negative": ANY,
    "positive": ANY,
    "absolute": NONZERO,
    "fabs": NONZERO,
    "square": ANY,
    "reciprocal": NONZERO,
    "sqrt": POSITIVE,
    "cbrt": NONZERO,
    "exp": ANY,
    "exp2": ANY,
    "expm1": ANY,
    "log": POSITIVE,
    "log2": POSITIVE,
    "log10": POSITIVE,
    "log1p": between(-0.8, 2),
    "sigmoid": between(-5, 5),
    "softplus": between(-5, 5),
    "gelu": between(-5, 5),
    "erf": ANY,
    "erfc": ANY,
    **dict.fromkeys(["lgamma", "digamma", "trigamma", "gamma", "gammasgn"], apart(0.3, 0.7)),
    "logit": between(0.1, 0.9),
    "sin": ANY,
    "cos": ANY,
    "tan": between(-1.2, 1.2),
    "arcsin": UNIT,
    "arccos": UNIT,
    "arctan": ANY,
    "sinh": ANY,
    "cosh": ANY,
    "tanh": ANY,
    "arcsinh": ANY,
    "arccosh": between(1.2, 3),
    "arctanh": UNIT,
    "deg2rad": ANY,
    "rad2deg": ANY,
    "relu": NONZERO,
    "conjugate": ANY,
    "real": ANY,
    "imag": off_axes,
    "direction": off_axes,
    "sign": NONZERO,
    "floor": ANY,
    "ceil": ANY,
    "rint": ANY,
    "trunc": ANY,
    "isnan": ANY,
    "isinf": ANY,
    "isfinite": ANY,
    "signbit": ANY,
    "logical_not": truth,
    "bitwise_not": whole(-8, 8),
}
BINARY: dict[str, tuple[Domain, Domain]] = {
    "add": (ANY, ANY),
    "subtract": (ANY, ANY),
    "multiply": (ANY, ANY),
    "divide": (ANY, NONZERO),
    "power": (POSITIVE, ANY),
    # quotients between -1 and 1, away from the integers, where the remainder jumps
    "remainder": (apart(0.2, 1.8), apart(2, 3)),
    "fmod": (apart(0.2, 1.8), apart(2, 3)),
    "floor_divide": (apart(0.2, 1.8), apart(2, 3)),
    "hypot": (NONZERO, NONZERO),
    "logaddexp": (ANY, ANY),
    "xlogy": (ANY, POSITIVE),
    "betaln": (POSITIVE, POSITIVE),
    "arctan2": (NONZERO, ANY),
    "maximum": (ANY, ANY),
    "minimum": (ANY, ANY),
    "fmax": (ANY, ANY),
    "fmin": (ANY, ANY),
    "copysign": (NONZERO, NONZERO),
    "heaviside": (NONZERO, ANY),
    **dict.fromkeys(["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"], (ANY, ANY)),
    **dict.fromkeys(["logical_and", "logical_or", "logical_xor"], (truth, truth)),
    **dict.fromkeys(["bitwise_and", "bitwise_or", "bitwise_xor"], (whole(-8, 8), whole(-8, 8))),
    **dict.fromkeys(["left_shift", "right_shift"], (whole(-8, 8), whole(0, 4))),
}
_ANALYTIC = """
    negative positive square reciprocal sqrt exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan
    sinh cosh tanh arcsinh arccosh arctanh add subtract multiply divide power
"""
COMPLEX = {*_ANALYTIC.split(), "absolute", "conjugate", "real", "imag"}


def random(draw: st.DrawFn) -> np.random.Generator:
    """Numbers by seed: none is special, so no tie or kink is hit."""
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


@st.composite
def unary(draw: st.DrawFn, name: str) -> Case:
    primitive = table()[name]
    domain = off_axes if name in COMPLEX and draw(st.booleans()) else UNARY[name]
    return Case(primitive, (domain(random(draw), draw(shapes)),), derivative=not primitive.constant)


@st.composite
def binary(draw: st.DrawFn, name: str) -> Case:
    primitive = table()[name]
    domains = [off_axes if name in COMPLEX and draw(st.booleans()) else domain for domain in BINARY[name]]
    pair = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3)).input_shapes
    source = random(draw)
    args = tuple(domain(source, shape) for domain, shape in zip(domains, pair, strict=True))
    return Case(primitive, args, derivative=not primitive.constant)


@st.composite
def conversions(draw: st.DrawFn) -> Case:
    domain, dtype = draw(
        st.sampled_from([(ANY, complex), (off_axes, complex), (off_axes, float), (ANY, float), (ANY, int)])
    )
    primitive = Convert(np.dtype(dtype))
    return Case(primitive, (domain(random(draw), draw(shapes)),), derivative=not primitive.constant)


@st.composite
def selections(draw: st.DrawFn) -> Case:
    three = draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, min_side=0, max_side=3)).input_shapes
    source = random(draw)
    domains: list[Any] = [truth, ANY, draw(st.sampled_from([ANY, off_axes]))]
    return Case(select, tuple(domain(source, shape) for domain, shape in zip(domains, three, strict=True)))


@st.composite
def cardinal_sines(draw: st.DrawFn) -> Case:
    x = between(-3, 3)(random(draw), draw(shapes))
    return Case(Sinc(draw(st.integers(0, 3))), (x * draw(st.sampled_from([1, 0.1, 1e-9, 0])),))


@st.composite
def polygammas(draw: st.DrawFn) -> Case:
    return Case(Polygamma(draw(st.integers(2, 4))), (apart(0.3, 0.7)(random(draw), draw(shapes)),))


CASES = {
    **{name: unary(name) for name in UNARY},
    **{name: binary(name) for name in BINARY},
    "convert": conversions(),
    "select": selections(),
    "sinc": cardinal_sines(),
    "polygamma": polygammas(),
}
