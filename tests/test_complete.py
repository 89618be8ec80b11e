"""Nothing is forgotten.

Every primitive has a strategy for the laws and a row in the documentation, every public name its docstring and example.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
from pathlib import Path

import pytest

import funcgrad as fg
from funcgrad.core.primitive import Primitive, registered
from funcgrad.ops.pointwise import Binary, Unary, table
from tests.cases import CASES
from tests.test_docs import blocks

PUBLIC = [
    "funcgrad",
    "funcgrad.debug",
    "funcgrad.lax",
    "funcgrad.numpy",
    "funcgrad.numpy.linalg",
    "funcgrad.nn",
    "funcgrad.special",
    "funcgrad.tree",
    "funcgrad.testing",
]


DOCS = Path(__file__).parent.parent / "docs" / "api"
ERRORS = " ".join(name for name in vars(fg.errors) if name.endswith("Error"))

# as the package has them, before a test or a block of the docs adds a line
LINES = set(table())


def primitive_names() -> set[str]:
    classes = {
        cls.name
        for cls in registered()
        if cls not in (Unary, Binary)
        and cls.__module__.startswith("funcgrad")
        # what the compiler writes is never traced
        and not cls.__module__.startswith("funcgrad.compiler")
    }
    return classes | LINES


def test_every_primitive_has_an_input_strategy() -> None:
    assert primitive_names() - set(CASES) == set()


def test_every_primitive_has_a_row_in_the_documentation() -> None:
    rows = io.StringIO()
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(rows):
        for block in blocks((DOCS / "primitives.md").read_text(encoding="utf-8")):
            exec(block.code, names)
    assert {name for name in primitive_names() if f"| `{name}` |" not in rows.getvalue()} == set()


@pytest.mark.parametrize("cls", registered(), ids=lambda cls: cls.__name__)
def test_a_primitive_class_is_final_and_immutable(cls: type[Primitive]) -> None:
    assert getattr(cls, "__final__", False)
    assert "__dict__" not in dir(cls)


def public_names() -> list[tuple[str, str]]:
    found = []
    for module in PUBLIC:
        for name in importlib.import_module(module).__all__:
            value = getattr(importlib.import_module(module), name)
            own = (getattr(value, "__module__", None) or "").startswith("funcgrad")
            if own and (inspect.isfunction(value) or inspect.isclass(value)):
                found.append((module, name))
    return found


@pytest.mark.parametrize(("module", "name"), public_names())
def test_a_public_name_has_a_docstring_with_an_example(module: str, name: str) -> None:
    doc = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
    assert ">>>" in doc


@pytest.mark.parametrize("name", fg.extend.__all__)
def test_what_extends_the_library_has_a_docstring_and_a_place_in_the_documentation(name: str) -> None:
    assert inspect.getdoc(getattr(fg.extend, name))
    assert re.search(rf"\b{name}\b", (DOCS / "extend.md").read_text(encoding="utf-8") + ERRORS)


@pytest.mark.parametrize("name", ERRORS.split())
def test_an_error_says_when_it_is_raised(name: str) -> None:
    error = getattr(fg.errors, name)
    assert "__doc__" in vars(error)
    assert issubclass(error, fg.errors.FuncgradError | AssertionError)


def test_the_door_is_this_and_no_more() -> None:
    assert fg.__all__ == [
        "ShapeDtypeStruct",
        "at",
        "checking_leaks",
        "checkpoint",
        "checkpoint_name",
        "checkpoint_policies",
        "clear_caches",
        "closure_convert",
        "custom_gradient",
        "custom_vjp",
        "debug",
        "debug_infs",
        "debug_nans",
        "disable_jit",
        "errors",
        "eval_shape",
        "extend",
        "get_num_threads",
        "grad",
        "hvp",
        "jit",
        "lax",
        "log_compiles",
        "make_jaxpr",
        "nn",
        "numpy",
        "print_saved_residuals",
        "pure_callback",
        "remat",
        "saved_residuals",
        "set_num_threads",
        "special",
        "stop_gradient",
        "testing",
        "tree",
        "value_and_grad",
        "vjp",
        "vmap",
    ]
