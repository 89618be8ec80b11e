"""For each primitive, a strategy that draws applications of it: `CASES` by the primitive's name."""

from __future__ import annotations

import importlib
import pkgutil

from hypothesis.strategies import SearchStrategy

from tests.cases.base import Case

CASES: dict[str, SearchStrategy[Case]] = {}
for _module in pkgutil.iter_modules(__path__):
    if _module.name != "base":
        CASES.update(importlib.import_module(f"tests.cases.{_module.name}").CASES)
