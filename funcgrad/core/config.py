"""Settings, read from the environment when funcgrad is imported."""

from __future__ import annotations

import os

CHECK = os.environ.get("FUNCGRAD_CHECK", "") not in ("", "0")
"""`FUNCGRAD_CHECK=1`: check every jaxpr, and remember the source line of every traced operation for error messages."""

DISABLE_JIT = os.environ.get("FUNCGRAD_DISABLE_JIT", "") not in ("", "0")
"""`FUNCGRAD_DISABLE_JIT=1`: jitted functions are the functions themselves, in every thread."""
