"""Nothing is forgotten: every primitive has a strategy for the laws, every public name its docstring and example."""

from __future__ import annotations

import importlib
import inspect

import pytest

import funcgrad as fg
from funcgrad.core.primitive import Primitive, registered
from funcgrad.ops.pointwise import Binary, Unary, table
from tests.cases import CASES

PUBLIC = ["funcgrad", "funcgrad.numpy", "funcgrad.numpy.linalg", "funcgrad.nn", "funcgrad.tree", "funcgrad.testing"]


# as the package has them, before a test or a block of the docs adds a line
LINES = set(table())


def test_every_primitive_has_an_input_strategy() -> None:
    classes = {cls.name for cls in registered() if cls not in (Unary, Binary) and cls.__module__.startswith("funcgrad")}
    assert (classes | LINES) - set(CASES) == set()


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


def test_the_door_is_this_and_no_more() -> None:
    assert fg.__all__ == [
        "ShapeDtypeStruct",
        "at",
        "errors",
        "eval_shape",
        "extend",
        "grad",
        "hvp",
        "make_jaxpr",
        "nn",
        "numpy",
        "stop_gradient",
        "testing",
        "tree",
        "value_and_grad",
        "vjp",
    ]
