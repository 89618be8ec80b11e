"""The laws that every primitive obeys, over drawn shapes, dtypes and values.

type          the type rule says what NumPy returns
pullback      <ct, df> agrees with central differences
second order  so does the pullback of the pullback
linearity     the pullback is linear in the cotangent
batching      a batch is a Python loop
kinds         a primitive does what its kind says
reads         what a rule does not read may be absent
masks         structural zeros are carried to where the pullback of zeros is zero
staging       the jaxpr, evaluated, is the function, and so are the pullback's and the batch's
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg
from funcgrad.core.ir import evaluate
from funcgrad.core.kinds import Contraction, Elementwise, IndexMap, Library, Reduction, Scatter
from funcgrad.core.primitive import Masked, Primitive, Structured, out_types, plain
from funcgrad.core.types import Typed, is_inexact, type_of
from funcgrad.ops.index import IndexAdd, fill
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
    dtype = data.draw(st.sampled_from([np.float64, np.float32, np.float16]))
    args = tuple(x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x for x in case.args)
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
    jaxpr, _ = stage(lambda *args: case.primitive.batch(batched, *args), args, {})
    with np.errstate(all="ignore"):
        staged = evaluate(jaxpr, args)
    for j, y in enumerate(got if case.primitive.multiple else (got,)):
        assert np.shape(y)[:1] == (n,)
        assert type_of(y).dtype == type_of(staged[j]).dtype == type_of(rows[0][j]).dtype
        close(y, np.stack([row[j] for row in rows]), rtol=1e-10)
        close(y, staged[j], rtol=1e-10)


def wanting(case: Case, data: st.DataObject) -> tuple[Typed | None, ...]:
    """The types of some of the arguments that are differentiated, of one at least."""
    chosen = data.draw(st.sets(st.sampled_from(differentiated(case)), min_size=1))
    return tuple(type_of(x) if i in chosen else None for i, x in enumerate(case.args))


def cotangents(ys: tuple[Any, ...], data: st.DataObject) -> tuple[Any, ...]:
    """A cotangent of each result."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    return tuple(np.asarray(random.standard_normal(np.shape(y)), np.asarray(y).dtype) for y in ys)


@names
@settings(max_examples=30)
@given(data=st.data())
def test_a_rule_reads_only_what_it_says(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if not case.derivative or not differentiated(case):
        return
    wanted = wanting(case, data)
    y: Any = apply(case.primitive, case.args)
    g: Any = cotangents(y, data)
    if not case.primitive.multiple:
        (y,), (g,) = y, g
    saved = [y, *case.args]
    for place in case.primitive.unread(wanted):
        saved[place] = None
    with np.errstate(all="ignore"):
        full = case.primitive.vjp(wanted, g, y, *case.args)
        bare = case.primitive.vjp(wanted, g, *saved)
    for w, a, b in zip(wanted, full, bare, strict=True):
        assert (a is None) == (b is None) == (w is None)
        if w is not None:
            assert type_of(plain(a)).shape == w.shape
            assert type_of(plain(a)).dtype == w.dtype
            np.testing.assert_array_equal(plain(a), plain(b))


@names
@settings(max_examples=30)
@given(data=st.data())
def test_a_result_without_a_cotangent_is_one_whose_cotangent_is_zero(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if not case.derivative or not differentiated(case) or not case.primitive.multiple:
        return
    wanted = wanting(case, data)
    ys = apply(case.primitive, case.args)
    some = tuple(g if data.draw(st.booleans()) else None for g in cotangents(ys, data))
    if any(g is not None for g in some):
        zeros = tuple(np.zeros_like(y) if g is None else g for g, y in zip(some, ys, strict=True))
        got = case.primitive.vjp(wanted, some, ys, *case.args)
        for w, a, b in zip(wanted, got, case.primitive.vjp(wanted, zeros, ys, *case.args), strict=True):
            assert (b is None) == (w is None)
            if w is not None:
                close(0 if a is None else plain(a), plain(b))


@names
@settings(max_examples=30)
@given(data=st.data())
def test_structural_zeros_are_carried_to_where_the_pullback_of_zeros_is_zero(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if not case.derivative or case.primitive.multiple or not differentiated(case):
        return
    wanted = wanting(case, data)
    (y,) = apply(case.primitive, case.args)
    (g,) = cotangents((y,), data)
    some = data.draw(hnp.arrays(bool, g.shape))
    for mask in (some, np.ones(g.shape, bool), np.zeros(g.shape, bool)):
        g0 = np.where(mask, g, np.zeros((), g.dtype))
        with np.errstate(all="ignore"):
            expected = case.primitive.vjp(wanted, g0, y, *case.args)
            got = case.primitive.vjp_masked(wanted, Masked(g0, mask), y, *case.args)
        for w, a, b in zip(wanted, got, expected, strict=True):
            assert (a is None) == (b is None) == (w is None)
            if w is not None:
                assert plain(a).shape == w.shape
                assert plain(a).dtype == w.dtype
                close(plain(a), plain(b))
                if isinstance(a, Structured):
                    a = a.dense()
                if isinstance(a, Masked):
                    assert a.mask.shape == w.shape
                    assert not np.any(np.asarray(plain(b))[~np.asarray(a.mask)])


def follows_each_element(case: Case, y: Any) -> None:
    shape = np.broadcast_shapes(*map(np.shape, case.args))
    assert np.shape(y) == shape
    for place in np.ndindex(shape):
        (one,) = apply(case.primitive, tuple(np.broadcast_to(x, shape)[place] for x in case.args))
        close(y[place], one, rtol=1e-10)


def moves_elements(case: Case, y: Any) -> None:
    given = np.concatenate([np.ravel(x) for x in case.args])
    assert np.all(np.isin(y, given) | (np.asarray(y) == 0))


def leaves_the_rest_alone(case: Case, y: Any) -> None:
    rest = np.ones(np.shape(y), bool)
    if isinstance(case.primitive, IndexAdd):
        before = np.zeros(np.shape(y))
        for entries, arrays, _ in case.primitive.split(case.args):
            rest[fill(entries, arrays)] = False
    else:
        before, _, *arrays = case.args
        rest[fill(case.primitive.entries, tuple(arrays))] = False
    np.testing.assert_array_equal(y[rest], before[rest])


def drops_its_axes(case: Case, y: Any) -> None:
    (x,) = case.args
    every = tuple(range(x.ndim))
    axes = getattr(case.primitive, "axes", getattr(case.primitive, "axis", ...))
    if axes is ...:  # it folds the axes of its choice
        choices = [c for n in range(x.ndim + 1) for c in itertools.combinations(every, n)]
    else:
        choices = [every if axes is None else (axes,) if isinstance(axes, int) else axes]
    assert np.shape(y) in [tuple(n for i, n in enumerate(x.shape) if i not in choice) for choice in choices]


def is_bilinear(case: Case, y: Any) -> None:
    x1, x2 = case.args
    z1, z2 = np.cos(x1), np.cos(x2)
    close(case.primitive(x1 + 2 * z1, x2), y + 2 * case.primitive(z1, x2))
    close(case.primitive(x1, x2 + 2 * z2), y + 2 * case.primitive(x1, z2))


KINDS = {
    Elementwise: follows_each_element,
    IndexMap: moves_elements,
    Scatter: leaves_the_rest_alone,
    Reduction: drops_its_axes,
    Contraction: is_bilinear,
}


@names
@settings(max_examples=30)
@given(data=st.data())
def test_a_primitive_does_what_its_kind_says(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    (kind,) = (kind for kind in (*KINDS, Library) if isinstance(case.primitive, kind))
    if kind is not Library:
        KINDS[kind](case, *apply(case.primitive, case.args))


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
