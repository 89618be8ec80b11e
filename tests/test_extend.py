"""Adding a primitive takes one line of the table, or one class, and one strategy: then every law holds for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import pytest
import scipy.special
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
from funcgrad.core import primitive as registry
from funcgrad.extend import (
    Array,
    ArrayType,
    IndexMap,
    Library,
    Reduction,
    Typed,
    Wanted,
    binary,
    broadcast_to,
    implements,
    not_differentiable,
    registered,
    reshape,
    unary,
)
from funcgrad.ops import array, pointwise
from tests import test_complete, test_laws
from tests.cases import CASES
from tests.cases.base import Case, normal

shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3)
LAWS = [law for name, law in vars(test_laws).items() if name.startswith("test_")]


def define() -> dict[str, Any]:
    """Four new primitives, by name. They are defined here, not at the top, so that the fixture can take them back."""
    erfcx = unary("erfcx", scipy.special.erfcx, lambda g, x, y: g * (2 * x * y - 2 / math.sqrt(math.pi)))
    implements(scipy.special.erfcx)(erfcx)

    ratio = binary("ratio", lambda a, b: np.exp(a - b), lambda g, y: g * y, lambda g, y: -g * y, dtype=_floating)

    @final
    @dataclass(frozen=True, slots=True)
    class Turn(IndexMap):
        """The elements shifted along an axis; what leaves at the end comes in at the beginning."""

        name: ClassVar[str] = "turn"
        axis: int
        by: int

        def out_type(self, x: Typed) -> ArrayType:
            return ArrayType(x.shape, x.dtype)

        def impl(self, x: Array) -> Array:
            return np.roll(x, self.by, self.axis)

        def vjp(self, wanted: Wanted, g: Array, y: None, x: None) -> tuple[Array | None]:
            return (Turn(self.axis, -self.by)(g) if wanted[0] else None,)

        def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
            return Turn(self.axis + 1, self.by)(x)

    @final
    @dataclass(frozen=True, slots=True)
    class SumOfSquares(Reduction):
        """Σ x² over the last axis."""

        name: ClassVar[str] = "sum_of_squares"

        def out_type(self, x: Typed) -> ArrayType:
            return ArrayType(x.shape[:-1], x.dtype)

        def impl(self, x: Array) -> Array:
            return (x * x).sum(axis=-1)

        def unread(self, wanted: Wanted) -> tuple[int]:
            return (0,)

        def vjp(self, wanted: Wanted, g: Array, y: None, x: Array) -> tuple[Array | None]:
            if wanted[0] is None:
                return (None,)
            column = reshape(g, (*wanted[0].shape[:-1], 1))
            return (broadcast_to(column, wanted[0].shape) * (2 * x),)

        def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
            return self(x)

    return {"erfcx": erfcx, "ratio": ratio, "turn": Turn, "sum_of_squares": SumOfSquares()}


def _floating(*types: Typed) -> Any:
    difference = np.subtract.resolve_dtypes((*(t.dtype for t in types), None))[-1]
    return np.exp.resolve_dtypes((difference, None))[-1]


def strategies(new: dict[str, Any]) -> dict[str, st.SearchStrategy[Case]]:
    pairs = st.tuples(shapes.flatmap(normal), normal((1,), 1))
    turns = st.tuples(shapes.flatmap(normal), st.integers(-4, 4)).map(lambda d: Case(new["turn"](0, d[1]), (d[0],)))
    return {
        "erfcx": shapes.flatmap(normal).map(lambda x: Case(new["erfcx"], (x,))),
        "ratio": pairs.map(lambda xs: Case(new["ratio"], xs)),
        "turn": turns,
        "sum_of_squares": shapes.flatmap(normal).map(lambda x: Case(new["sum_of_squares"], (x,))),
    }


@pytest.fixture(scope="module")
def new() -> Iterator[dict[str, Any]]:
    """The new primitives, with their strategies among the cases of the laws; both are gone after this file."""
    tables: list[dict[Any, Any]] = [pointwise._lines, array._implementations, CASES]
    before = [dict(t) for t in tables]
    classes = list(registry._registry)
    primitives = define()
    CASES.update(strategies(primitives))
    yield primitives
    for t, old in zip(tables, before, strict=True):
        t.clear()
        t.update(old)
    registry._registry[:] = classes


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("test_"))
@pytest.mark.parametrize("name", ["erfcx", "ratio", "turn", "sum_of_squares"])
def test_the_law_holds_for_the_new_primitive(new: dict[str, Any], name: str, law: Callable[..., None]) -> None:
    law(name=name)


def test_there_are_laws() -> None:
    assert len(LAWS) >= 8


def test_a_wrong_rule_breaks_a_law(new: dict[str, Any]) -> None:
    wrong = unary("wrong", np.sin, lambda g, x: g * np.sin(x))
    CASES["wrong"] = shapes.flatmap(normal).map(lambda x: Case(wrong, (x,)))
    with pytest.raises(AssertionError, match="central differences"):
        test_laws.test_the_pullback_agrees_with_central_differences(name="wrong")
    pointwise._lines.pop("wrong")
    CASES.pop("wrong")


def test_the_new_function_nests_stages_and_prints(new: dict[str, Any]) -> None:
    erfcx = new["erfcx"]
    x = np.array([0.5, 2.0])
    slope = 2 * x * scipy.special.erfcx(x) - 2 / math.sqrt(math.pi)
    np.testing.assert_allclose(fg.grad(lambda z: erfcx(z).sum())(x), slope)
    fg.testing.check_grads(erfcx, (x,), order=3)
    assert erfcx(0.0) == 1.0
    assert repr(fg.make_jaxpr(erfcx)(x)) == "{ lambda ; a:f64[2]. let\n    b:f64[2] = erfcx a\n  in b }"
    assert "turn[axis=0, by=1] a" in repr(fg.make_jaxpr(new["turn"](0, 1))(x))


def test_the_function_of_the_other_library_works_on_traced_values(new: dict[str, Any]) -> None:
    np.testing.assert_allclose(
        fg.grad(lambda z: scipy.special.erfcx(z).sum())(np.ones(2)),
        2 * scipy.special.erfcx(np.ones(2)) - 2 / math.sqrt(math.pi),
    )


def test_the_new_primitives_are_complete(new: dict[str, Any]) -> None:
    test_complete.test_every_primitive_has_an_input_strategy()
    found = [cls for cls in registered() if cls.__name__ in ("Turn", "SumOfSquares")]
    assert {cls.__name__ for cls in found} == {"Turn", "SumOfSquares"}
    for cls in found:
        test_complete.test_a_primitive_class_is_final_and_immutable(cls)


@pytest.mark.parametrize("name", ["sin", "getitem"])
def test_a_primitive_without_a_strategy_is_found_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delitem(CASES, name)
    with pytest.raises(AssertionError, match=name):
        test_complete.test_every_primitive_has_an_input_strategy()


def test_a_primitive_is_a_value(new: dict[str, Any]) -> None:
    turn = new["turn"]
    assert turn(0, 1) == turn(0, 1) != turn(1, 1)
    assert len({turn(0, 1), turn(0, 1), turn(0, 2)}) == 2
    with pytest.raises(AttributeError):
        turn(0, 1).axis = 1


def test_a_class_of_the_same_name_elsewhere_does_not_replace_one_of_funcgrad(new: dict[str, Any]) -> None:
    before = set(registered())

    @final
    class Sum(Library):
        __slots__ = ()
        name: ClassVar[str] = "my_sum"
        out_type = impl = vjp = batch = None

    Sum.__qualname__ = "Sum"
    assert set(registered()) - before == {Sum}
    assert before < set(registered())


def test_a_primitive_without_a_derivative_says_why(new: dict[str, Any]) -> None:
    @final
    @dataclass(frozen=True, slots=True)
    class Step(Library):
        name: ClassVar[str] = "step"

        def out_type(self, x: Typed) -> ArrayType:
            return ArrayType(x.shape, x.dtype)

        def impl(self, x: Array) -> Array:
            return np.nextafter(x, np.inf)

        def vjp(self, wanted: Wanted, g: Array, y: Array, x: Array) -> tuple[None]:
            not_differentiable(self, "it is a step of floating-point numbers")

        def batch(self, batched: tuple[bool, ...], x: Array) -> Array:
            return self(x)

    assert Step()(np.float64(1.0)) > 1.0
    with pytest.raises(fg.errors.NotDifferentiableError) as caught:
        fg.grad(lambda x: Step()(x) * x)(1.0)
    message = str(caught.value)
    assert message.startswith("[FG010] step has no derivative: it is a step of floating-point numbers\n")
    assert "stop_gradient" in message
    assert fg.grad(lambda x: Step()(fg.stop_gradient(x)) * x)(1.0) > 1.0


def test_a_forgotten_rule_is_found_when_the_primitive_is_made(new: dict[str, Any]) -> None:
    @final
    @dataclass(frozen=True, slots=True)
    class Forgetful(Library):
        name: ClassVar[str] = "forgetful"

        def out_type(self, x: Typed) -> ArrayType:
            return ArrayType(x.shape, x.dtype)

        def impl(self, x: Array) -> Array:
            return x

        def vjp(self, wanted: Wanted, g: Array, y: Array, x: Array) -> tuple[Array]:
            return (g,)

    with pytest.raises(TypeError, match="batch"):
        Forgetful()
    assert Forgetful not in registered()


def test_a_rule_with_an_unknown_letter_is_refused(new: dict[str, Any]) -> None:
    before = dict(pointwise._lines)
    with pytest.raises(TypeError, match="a rule takes g and any of x, y; this one takes g, z"):
        unary("typo", np.sin, lambda g, z: g * z)
    with pytest.raises(TypeError, match="any of x1, x2, y"):
        binary("typo", np.add, lambda g, x: g, lambda g: g)
    with pytest.raises(TypeError, match="typo: give a pullback for each argument"):
        binary("typo", np.add, lambda g: g)
    assert pointwise._lines == before


def test_the_door_offers_what_it_says() -> None:
    for name in fg.extend.__all__:
        assert getattr(fg.extend, name) is not None
    assert fg.extend.__all__ == sorted(fg.extend.__all__)
