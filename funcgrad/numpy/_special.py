"""The functions of `scipy.special` that are differentiable, by name: SciPy is imported by who calls them, not here."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from funcgrad.core.types import Array
from funcgrad.numpy._ufunc import stands_for
from funcgrad.ops import elementwise as ew
from funcgrad.ops import gamma as gm
from funcgrad.ops.array import implements_scipy
from funcgrad.ops.pointwise import select


def _log_expit(x: Array) -> Array:
    return -ew.softplus(-x)


def _loggamma(x: Array) -> Array:
    """The principal value, which is no real number for negative ones."""
    return select(ew.less(x, 0), math.nan, gm.lgamma(x))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "betaln": gm.betaln,
    "cbrt": ew.cbrt,
    "erf": ew.erf,
    "erfc": ew.erfc,
    "exp2": ew.exp2,
    "expit": ew.sigmoid,
    "expm1": ew.expm1,
    "gamma": gm.gamma,
    "gammaln": gm.lgamma,
    "gammasgn": gm.gammasgn,
    "log1p": ew.log1p,
    "log_expit": _log_expit,
    "loggamma": _loggamma,
    "logit": ew.logit,
    # scipy.special.digamma is this ufunc, too
    "psi": gm.digamma,
    "xlogy": ew.xlogy,
}


def register() -> None:
    """Make these functions of `scipy.special` accept traced values."""
    for name, function in _FUNCTIONS.items():
        implements_scipy(name, partial(stands_for, function=function))
