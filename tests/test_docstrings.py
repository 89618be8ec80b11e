"""What a docstring shows is what happens: every `>>>` example of the library runs.

An example starts from nothing but the conventional imports: `np`, `fg` and `fnp`.
"""

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules() -> Iterator[ModuleType]:
    """Every module of the library."""
    yield fg
    for module in pkgutil.walk_packages(fg.__path__, "funcgrad."):
        yield importlib.import_module(module.name)


def documented(owner: object, name: str) -> Iterator[tuple[str, object]]:
    """`owner` and what is defined in it, whether or not a factory or a decorator made it."""
    yield name, owner
    for key, value in list(vars(owner).items()):
        member = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if inspect.isclass(member) and (member.__module__, member.__qualname__) == home(owner, key):
            yield from documented(member, f"{name}.{key}")
        elif isinstance(member, property) or (
            callable(member)
            and not inspect.isclass(member)
            and str(getattr(member, "__module__", "")).startswith("funcgrad")
        ):
            yield f"{name}.{key}", member


def home(owner: object, key: str) -> tuple[str, str]:
    """The module and the qualified name of a class that `owner` defines, rather than imports, as `key`."""
    if inspect.isclass(owner):
        return owner.__module__, f"{owner.__qualname__}.{key}"
    assert isinstance(owner, ModuleType)
    return owner.__name__, key


def examples() -> Iterator[doctest.DocTest]:
    """Every docstring with an example, once, under the shortest name that leads to it."""
    finder = doctest.DocTestFinder(recurse=False, exclude_empty=True)
    found: dict[str, doctest.DocTest] = {}
    for module in modules():
        for name, thing in documented(module, module.__name__):
            for test in finder.find(thing, name, module, globs={"np": np, "fg": fg, "fnp": fnp}):
                known = found.get(test.docstring or "")
                if test.examples and (known is None or len(name) < len(known.name)):
                    found[test.docstring or ""] = test
    return iter(sorted(found.values(), key=lambda test: test.name))


@pytest.mark.parametrize("example", [pytest.param(test, id=test.name) for test in examples()])
def test_the_example_of_a_docstring_shows_what_happens(example: doctest.DocTest) -> None:
    report: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.append)
    if report:
        pytest.fail("".join(report), pytrace=False)
