"""Settings, read from the environment when funcgrad is imported.

A value that is none of those allowed is an error: a switch that is misspelt would otherwise do the opposite of what is
meant. A variable that is almost called like one of these is told.
"""

from __future__ import annotations

import os
import warnings
from typing import Final

from funcgrad.core.errors import ArgumentError

_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("0", "false", "no", "off")
_known: list[str] = []


def _read(name: str) -> str:
    _known.append(name)
    return os.environ.get(name, "").strip()


def _chosen(name: str, *others: str, default: bool = False) -> bool | str:
    """Whether a variable says yes or no; or which one it says of `others`."""
    given = _read(name).lower()
    if not given:
        return default
    if given in others:
        return given
    if given not in (*_YES, *_NO):
        raise ArgumentError(
            f"the environment variable {name} is {os.environ[name]!r}, which is none of its values",
            f"one of {', '.join([f'{name}=0', f'{name}=1', *(f'{name}={word}' for word in others)])}",
        )
    return given in _YES


def _is_on(name: str, default: bool = False) -> bool:
    return bool(_chosen(name, default=default))


def _tell_misspelt() -> None:
    """Tell of each variable of the environment that is probably meant to be one of ours."""
    unknown = [name for name in os.environ if name.startswith("FUNCGRAD_") and name not in _known]
    for name in unknown:
        import difflib  # rarely needed

        if close := difflib.get_close_matches(name, _known, 1, 0.85):
            warnings.warn(
                f"the environment variable {name} has no meaning; did you mean {close[0]}?", UserWarning, stacklevel=2
            )


_check: Final = _chosen("FUNCGRAD_CHECK", "first")

CHECK = bool(_check)
"""`FUNCGRAD_CHECK=1`: check every jaxpr, compare what machine code computes with NumPy in each call, and remember the
source line of every traced operation for error messages."""

COMPARE = CHECK
"""Whether results of machine code are compared; what was compiled before is not affected."""

CHECK_FIRST = _check == "first"
"""`FUNCGRAD_CHECK=first`: the same, but of each program only the first call is compared with NumPy."""

DISABLE_JIT = _is_on("FUNCGRAD_DISABLE_JIT")
"""`FUNCGRAD_DISABLE_JIT=1`: jitted functions are the functions themselves, in every thread."""

DEBUG_NANS = _is_on("FUNCGRAD_DEBUG_NANS")
"""`FUNCGRAD_DEBUG_NANS=1`: `debug_nans` holds everywhere, in every thread."""

DEBUG_INFS = _is_on("FUNCGRAD_DEBUG_INFS")
"""`FUNCGRAD_DEBUG_INFS=1`: `debug_infs` holds everywhere, in every thread."""

CHECK_TRACER_LEAKS = _is_on("FUNCGRAD_CHECK_TRACER_LEAKS")
"""`FUNCGRAD_CHECK_TRACER_LEAKS=1`: `checking_leaks` holds everywhere, in every thread."""

CACHE = _is_on("FUNCGRAD_CACHE", default=True)
"""`FUNCGRAD_CACHE=0`: no machine code is kept on disk, and none is read from there."""

CACHE_DIR = _read("FUNCGRAD_CACHE_DIR")
"""`FUNCGRAD_CACHE_DIR`: the folder for machine code, in place of the platform's folder for caches."""

NATIVE = _is_on("FUNCGRAD_NATIVE", default=True)
"""`FUNCGRAD_NATIVE=0`: compiled programs run through NumPy, as they do where there is no LLVM."""

NUM_THREADS = _read("FUNCGRAD_NUM_THREADS")
"""`FUNCGRAD_NUM_THREADS`: how many threads run the loops of jitted functions; see `set_num_threads`."""

_tell_misspelt()
