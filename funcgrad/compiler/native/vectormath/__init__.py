"""Vector math: branch-free code for transcendental functions."""

from __future__ import annotations

from collections.abc import Callable

from funcgrad.compiler.native.builder import Value

FUNCTIONS: dict[str, Callable[..., Value]] = {}
