"""Settings, read from the environment when funcgrad is imported."""

from __future__ import annotations

import os

CHECK = os.environ.get("FUNCGRAD_CHECK", "") not in ("", "0")
"""`FUNCGRAD_CHECK=1`: check every jaxpr, compare what machine code computes with NumPy in each call, and remember the
source line of every traced operation for error messages."""

COMPARE = CHECK
"""Whether results of machine code are compared; what was compiled before is not affected."""

CHECK_FIRST = os.environ.get("FUNCGRAD_CHECK", "") == "first"
"""`FUNCGRAD_CHECK=first`: the same, but of each program only the first call is compared with NumPy."""

DISABLE_JIT = os.environ.get("FUNCGRAD_DISABLE_JIT", "") not in ("", "0")
"""`FUNCGRAD_DISABLE_JIT=1`: jitted functions are the functions themselves, in every thread."""

DEBUG_NANS = os.environ.get("FUNCGRAD_DEBUG_NANS", "") not in ("", "0")
"""`FUNCGRAD_DEBUG_NANS=1`: `debug_nans` holds everywhere, in every thread."""

DEBUG_INFS = os.environ.get("FUNCGRAD_DEBUG_INFS", "") not in ("", "0")
"""`FUNCGRAD_DEBUG_INFS=1`: `debug_infs` holds everywhere, in every thread."""

CHECK_TRACER_LEAKS = os.environ.get("FUNCGRAD_CHECK_TRACER_LEAKS", "") not in ("", "0")
"""`FUNCGRAD_CHECK_TRACER_LEAKS=1`: `checking_leaks` holds everywhere, in every thread."""

CACHE = os.environ.get("FUNCGRAD_CACHE", "") != "0"
"""`FUNCGRAD_CACHE=0`: no machine code is kept on disk, and none is read from there."""

CACHE_DIR = os.environ.get("FUNCGRAD_CACHE_DIR", "")
"""`FUNCGRAD_CACHE_DIR`: the folder for machine code, in place of the platform's folder for caches."""

NATIVE = os.environ.get("FUNCGRAD_NATIVE", "") != "0"
"""`FUNCGRAD_NATIVE=0`: compiled programs run through NumPy, as they do where there is no LLVM."""

NUM_THREADS = os.environ.get("FUNCGRAD_NUM_THREADS", "").strip()
"""`FUNCGRAD_NUM_THREADS`: how many threads run the loops of jitted functions; see `set_num_threads`."""
