"""The laws that every primitive obeys, over drawn shapes, dtypes and values.

type          the type rule says what NumPy returns
pullback      <ct, df> agrees with central differences
second order  so does the pullback of the pullback
linearity     the pullback is linear in the cotangent
batching      a batch is a Python loop
reads         what a rule does not read may be absent
staging       the jaxpr, evaluated, is the function
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
from funcgrad.core.ir import evaluate
from funcgrad.core.primitive import Primitive, out_types
from funcgrad.core.types import is_inexact, type_of
from funcgrad.transforms.stage import stage
from tests.cases import CASES
from tests.cases.base import Case

names = pytest.mark.parametrize("name", sorted(CASES))
few = settings(max_examples=40)


def apply(primitive: Primitive, args: tuple[Any, ...]) -> tuple[Any, ...]:
    with np.errstate(all="ignore"):
        y = primitive(*args)
    return y if primitive.multiple else (y,)


def differentiated(case: Case) -> list[int]:
    return [i for i, x in enumerate(case.args) if is_inexact(type_of(x).dtype)]


def close(a: Any, b: Any, rtol: float = 1e-6) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=1e-8)


def of_inexact(case: Case) -> Any:
    """The primitive as a function of the arguments that are differentiated."""
    places = differentiated(case)

    def f(*xs: Any) -> Any:
        args = list(case.args)
        for i, x in zip(places, xs, strict=True):
            args[i] = x
        return case.primitive(*args)

    return f


@names
@few
@given(data=st.data())
def test_the_type_rule_says_what_numpy_returns(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    for dtype in data.draw(st.sampled_from([(None,), (np.float32,), (np.float16,)])):
        args = tuple(
            x.astype(dtype) if dtype and isinstance(x, np.ndarray) and x.dtype == np.float64 else x for x in case.args
        )
        try:
            expected = out_types(case.primitive, list(map(type_of, args)))
        except TypeError:
            with pytest.raises(TypeError):
                apply(case.primitive, args)
            return
        for y, t in zip(apply(case.primitive, args), expected, strict=True):
            assert type_of(y).shape == t.shape
            assert type_of(y).dtype == t.dtype


@names
@few
@given(data=st.data())
def test_the_pullback_agrees_with_central_differences(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if case.derivative and differentiated(case):
        args = [case.args[i] for i in differentiated(case)]
        fg.testing.check_grads(of_inexact(case), args, order=1, rtol=case.rtol)


@names
@settings(max_examples=20)
@given(data=st.data())
def test_the_pullback_of_the_pullback_agrees_with_central_differences(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if case.derivative and differentiated(case):
        args = [case.args[i] for i in differentiated(case)]
        fg.testing.check_grads(of_inexact(case), args, order=2, rtol=10 * case.rtol)


@names
@settings(max_examples=10)
@given(data=st.data())
def test_the_pullback_is_linear_in_the_cotangent(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if not case.derivative or not differentiated(case):
        return
    ys, pullback = fg.vjp(of_inexact(case), *(case.args[i] for i in differentiated(case)))
    random = np.random.default_rng(0)
    g1, g2 = (
        fg.tree.map(lambda y: np.asarray(random.standard_normal(np.shape(y))).astype(y.dtype), ys) for _ in range(2)
    )
    total = pullback(fg.tree.map(lambda a, b: (2 * a + b).astype(a.dtype), g1, g2))
    for both, one, other in zip(total, pullback(g1), pullback(g2), strict=True):
        close(both, 2 * one + other)


@names
@few
@given(data=st.data())
def test_a_batch_is_a_python_loop(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    batched = data.draw(st.tuples(*(st.booleans() for _ in case.args)).filter(any) if case.args else st.just(()))
    n = data.draw(st.integers(1, 3))
    scales = 1 + 0.01 * np.arange(n)

    def stacked(x: Any) -> Any:
        x = np.asarray(x)
        rows = [(x * s).astype(x.dtype) if is_inexact(x.dtype) else x for s in scales]
        return np.stack(rows)

    args = tuple(stacked(x) if b else x for x, b in zip(case.args, batched, strict=True))
    with np.errstate(all="ignore"):
        got = case.primitive.batch(batched, *args)
    rows = [
        apply(case.primitive, tuple(x[i] if b else x for x, b in zip(args, batched, strict=True))) for i in range(n)
    ]
    for j, y in enumerate(got if case.primitive.multiple else (got,)):
        assert np.shape(y)[:1] == (n,)
        close(y, np.stack([row[j] for row in rows]), rtol=1e-10)


@names
@settings(max_examples=20)
@given(data=st.data())
def test_a_rule_reads_only_what_it_says(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    places = differentiated(case)
    if not case.derivative or case.primitive.multiple or not places:
        return
    for chosen in itertools.islice(itertools.combinations(places, min(len(places), 1)), 3):
        wanted = tuple(type_of(x) if i in chosen else None for i, x in enumerate(case.args))
        (y,) = apply(case.primitive, case.args)
        g = np.ones(np.shape(y), np.asarray(y).dtype)
        full = case.primitive.vjp(wanted, g, y, *case.args)
        saved = [y, *case.args]
        for place in case.primitive.unread(wanted):
            saved[place] = None
        bare = case.primitive.vjp(wanted, g, *saved)
        for w, a, b in zip(wanted, full, bare, strict=True):
            assert (a is None) == (b is None) == (w is None)
            if w is not None:
                a, b = (fg.core.primitive.plain(ct) for ct in (a, b))
                assert type_of(a).shape == w.shape
                assert type_of(a).dtype == w.dtype
                close(a, b)


@names
@settings(max_examples=20)
@given(data=st.data())
def test_the_staged_primitive_is_the_primitive(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    jaxpr, _ = stage(lambda *args: case.primitive(*args), case.args, {})
    with np.errstate(all="ignore"):
        for a, b in zip(evaluate(jaxpr, case.args), apply(case.primitive, case.args), strict=True):
            np.testing.assert_array_equal(a, b)


@names
@settings(max_examples=10)
@given(data=st.data())
def test_the_staged_pullback_is_the_pullback(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if not case.derivative or not differentiated(case):
        return
    xs = [case.args[i] for i in differentiated(case)]
    f = of_inexact(case)

    def pulled(*args: Any) -> Any:
        y, pullback = fg.vjp(f, *args)
        return pullback(fg.tree.map(lambda part: np.ones(part.shape, part.dtype), y))

    jaxpr, _ = stage(pulled, xs, {})
    with np.errstate(all="ignore"):
        for a, b in zip(evaluate(jaxpr, xs), pulled(*xs), strict=True):
            close(a, b, rtol=1e-10)
            assert type_of(a).dtype == type_of(b).dtype
