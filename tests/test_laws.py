"""The laws that every primitive obeys, over drawn shapes, dtypes and values.

type          the type rule says what NumPy returns
pullback      <ct, df> agrees with central differences
second order  so does the pullback of the pullback
linearity     the pullback is linear in the cotangent
batching      a batch is a Python loop
kinds         a primitive does what its kind says
reads         what a rule does not read may be absent
residuals     a forward rule gives the results too
masks         structural zeros are carried to where the pullback of zeros is zero
staging       the jaxpr, evaluated, is the function, and so are the pullback's and the batch's
compiling     compiled equals evaluated, in every dtype, shape and layout, at special values too
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
import funcgrad.numpy as fnp
from funcgrad.core.ir import evaluate
from funcgrad.core.kinds import Contraction, Elementwise, IndexMap, Library, Program, Reduction, Scatter
from funcgrad.core.primitive import Masked, Primitive, Structured, Unbatched, out_types, plain
from funcgrad.core.types import Typed, is_inexact, type_of
from funcgrad.ops.dynamic import DynamicUpdateSlice
from funcgrad.ops.entries import fill
from funcgrad.ops.index import IndexAdd
from funcgrad.transforms.programs.branch import Cond
from funcgrad.transforms.programs.call import Call
from funcgrad.transforms.programs.custom_rule import CustomVjp
from funcgrad.transforms.programs.loops import Scan, While
from funcgrad.transforms.tracing.stage import stage
from tests.cases import CASES
from tests.cases.base import Case
from tests.cases.programs import CASES as PROGRAMS
from tests.dressed import FIXED, dressed, dtypes_for

names = pytest.mark.parametrize("name", sorted(CASES))
programs = pytest.mark.parametrize("name", sorted(PROGRAMS))
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
    # a program was made for operands of one type
    dtypes = ["f8"] if isinstance(case.primitive, Program) else ["f8", "f4", "f2"]
    if isinstance(case.primitive, Elementwise) and name not in FIXED:
        dtypes = dtypes_for(case.primitive)
    dtype = data.draw(st.sampled_from(dtypes))
    args = tuple(x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x for x in case.args)
    try:
        expected = out_types(case.primitive, list(map(type_of, args)))
    except TypeError:
        with pytest.raises(TypeError):
            apply(case.primitive, args)
        return
    for y, t in zip(apply(case.primitive, args), expected, strict=True):
        assert len(np.shape(y)) == len(t.shape)
        # -1 is any length
        assert all(m in (n, -1) for n, m in zip(np.shape(y), t.shape, strict=True))
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
    leaves, structure = fg.tree.flatten(ys)
    random = np.random.default_rng(0)
    g1, g2 = (fg.tree.unflatten(structure, [cotangent(y, random) for y in leaves]) for _ in range(2))
    total = pullback(fg.tree.map(lambda a, b: None if a is None else 2 * a + b, g1, g2))
    for both, one, other in zip(total, pullback(g1), pullback(g2), strict=True):
        close(both, 2 * one + other)


def cotangent(y: Any, random: np.random.Generator) -> Any:
    """One of the type of `y`; None where that is not inexact."""
    t = type_of(y)
    return np.asarray(random.standard_normal(t.shape), t.dtype) if is_inexact(t.dtype) else None


@names
@few
@given(data=st.data())
def test_a_batch_is_a_python_loop(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if not case.args:
        return
    batched = data.draw(st.tuples(*(st.booleans() for _ in case.args)).filter(any))
    n = data.draw(st.integers(1, 3))
    scales = 1 + 0.01 * np.arange(n)

    def stacked(place: int, x: Any) -> Any:
        x = np.asarray(x)
        rows = [(x * s).astype(x.dtype) if is_inexact(x.dtype) else x for s in scales]
        return np.stack(case.others[place][:n] if place in case.others else rows)

    args = tuple(stacked(i, x) if b else x for i, (x, b) in enumerate(zip(case.args, batched, strict=True)))
    with np.errstate(all="ignore"):
        got = case.primitive.batch(batched, *args)
    rows = [
        apply(case.primitive, tuple(x[i] if b else x for x, b in zip(args, batched, strict=True))) for i in range(n)
    ]
    jaxpr, _ = stage(lambda *args: fg.tree.map(unmarked, case.primitive.batch(batched, *args)), args, {})
    with np.errstate(all="ignore"):
        staged = evaluate(jaxpr, args)
    for j, y in enumerate(got if case.primitive.multiple else (got,)):
        assert type_of(staged[j]).dtype == type_of(rows[0][j]).dtype
        if isinstance(y, Unbatched):
            y = np.stack([y.value] * n)
            staged[j] = np.stack([staged[j]] * n)
        assert np.shape(y)[:1] == (n,)
        assert type_of(y).dtype == type_of(rows[0][j]).dtype
        close(y, np.stack([row[j] for row in rows]), rtol=1e-10)
        close(y, staged[j], rtol=1e-10)


def unmarked(y: Any) -> Any:
    return y.value if isinstance(y, Unbatched) else y


def wanting(case: Case, data: st.DataObject) -> tuple[Typed | None, ...]:
    """The types of some of the arguments that are differentiated, of one at least."""
    chosen = data.draw(st.sets(st.sampled_from(differentiated(case)), min_size=1))
    return tuple(type_of(x) if i in chosen else None for i, x in enumerate(case.args))


def cotangents(ys: tuple[Any, ...], data: st.DataObject) -> tuple[Any, ...]:
    """A cotangent of each result."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    return tuple(cotangent(y, random) for y in ys)


def pulled_back(case: Case, wanted: tuple[Typed | None, ...], g: Any, y: Any) -> tuple[Any, ...]:
    """What the rule gives."""
    with np.errstate(all="ignore"):
        if not case.primitive.residuals:
            return case.primitive.vjp(wanted, g, y, *case.args)
        _, residuals = case.primitive.forward(wanted, *case.args)
        return case.primitive.vjp(wanted, g, *residuals)


@names
@settings(max_examples=30)
@given(data=st.data())
def test_a_rule_reads_only_what_it_says(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if not case.derivative or not differentiated(case) or case.primitive.residuals:
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
        got = pulled_back(case, wanted, some, ys)
        for w, a, b in zip(wanted, got, pulled_back(case, wanted, zeros, ys), strict=True):
            assert w is not None or a is None
            assert (b is None) == (w is None) or case.primitive.residuals
            if w is not None:
                close(0 if a is None else plain(a), 0 if b is None else plain(b))


@programs
@settings(max_examples=30)
@given(data=st.data())
def test_a_forward_rule_gives_the_results_and_what_the_pullback_needs(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if not case.primitive.residuals or not differentiated(case):
        return
    wanted = wanting(case, data)
    ys, residuals = case.primitive.forward(wanted, *case.args)
    for a, b in zip(ys, apply(case.primitive, case.args), strict=True):
        np.testing.assert_array_equal(a, b)
        assert type_of(a) == type_of(b)
    # the more is wanted, the same it is
    every = tuple(type_of(x) if i in differentiated(case) else None for i, x in enumerate(case.args))
    gs = cotangents(ys, data)
    for w, a, b in zip(
        wanted, case.primitive.vjp(wanted, gs, *residuals), pulled_back(case, every, gs, ys), strict=True
    ):
        if w is None:
            assert a is None
        else:
            close(0 if a is None else plain(a), 0 if b is None else plain(b))
            assert a is None or (plain(a).shape, plain(a).dtype) == (w.shape, w.dtype)


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


@programs
@settings(max_examples=20)
@given(data=st.data())
def test_a_program_takes_structural_zeros_for_zeros(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    if not case.primitive.residuals or not differentiated(case):
        return
    wanted = wanting(case, data)
    ys = apply(case.primitive, case.args)
    masks = [data.draw(st.none() | hnp.arrays(bool, np.shape(y))) for y in ys]
    zeroed = [
        g if m is None or g is None else np.where(m, g, 0) for g, m in zip(cotangents(ys, data), masks, strict=True)
    ]
    masked = [g if m is None or g is None else Masked(g, m) for g, m in zip(zeroed, masks, strict=True)]
    if any(g is not None for g in zeroed):
        got = pulled_back(case, wanted, tuple(masked), ys)
        for a, b in zip(got, pulled_back(case, wanted, tuple(zeroed), ys), strict=True):
            close(0 if a is None else plain(a), 0 if b is None else plain(b))


def follows_each_element(case: Case, y: Any) -> None:
    shape = np.broadcast_shapes(*map(np.shape, case.args))
    assert np.shape(y) == shape
    for place in np.ndindex(shape):
        (one,) = apply(case.primitive, tuple(np.broadcast_to(x, shape)[place] for x in case.args))
        close(np.asarray(y)[place], one, rtol=1e-10)


def moves_elements(case: Case, y: Any) -> None:
    given = np.concatenate([np.ravel(x) for x in case.args or (y,)])
    assert np.all(np.isin(y, given) | (np.asarray(y) == 0))


def leaves_the_rest_alone(case: Case, y: Any) -> None:
    rest = np.ones(np.shape(y), bool)
    if isinstance(case.primitive, IndexAdd):
        before = case.args[0] if case.primitive.onto else np.zeros(np.shape(y))
        for entries, arrays, _ in case.primitive.split(case.args):
            rest[fill(entries, arrays)] = False
    elif isinstance(case.primitive, DynamicUpdateSlice):
        before, v, *starts = case.args
        corner = [min(max(0, i + n if i < 0 else i), n - m) for i, n, m in zip(starts, y.shape, v.shape, strict=True)]
        rest[tuple(slice(i, i + m) for i, m in zip(corner, v.shape, strict=True))] = False
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


def runs_its_jaxprs(case: Case, *ys: Any) -> None:
    """A program is what Python makes of its jaxprs."""
    p: Any = case.primitive
    args = list(case.args)
    stacked: list[Any] = []
    match p:
        case Call():
            got = evaluate(p.jaxpr, args)
        case Cond():
            got = evaluate(p.branches[args[0]], args[1:])
        case CustomVjp():
            consts, _, xs = p.parts(args)
            got = evaluate(p.jaxpr, [*consts, *xs])
        case While():
            cond_consts, consts, got = p.parts(args)
            while evaluate(p.cond, [*cond_consts, *got])[0]:
                got = evaluate(p.body, [*consts, *got])
        case Scan():
            steps, consts, got, xs = p.parts(args)
            n = steps[0] if steps else p.length
            for i in range(n)[::-1] if p.reverse else range(n):
                out = evaluate(p.body, [*consts, *got, *(x[i] for x in xs)])
                got = out[: p.carry]
                stacked.append(out[p.carry :])
            columns = zip(*(stacked[::-1] if p.reverse else stacked), strict=True)
            got = [*got, *(map(np.stack, columns) if stacked else ys[p.carry :])]
    for a, b in zip(ys, got, strict=True):
        close(a, b, rtol=1e-12)
        assert type_of(a).dtype == type_of(b).dtype


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
    Program: runs_its_jaxprs,
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
@settings(max_examples=20)
@given(data=st.data())
def test_the_compiled_primitive_is_the_primitive(name: str, data: st.DataObject) -> None:
    one = data.draw(dressed(data.draw(CASES[name])))
    before = [np.copy(x) for x in one.args]
    compiled = fg.jit(lambda *args: one.f(*args))
    with np.errstate(all="ignore"):
        try:
            expected = one.f(*one.args)
        except ValueError as error:  # an integer to a negative power
            with pytest.raises(type(error)):
                compiled(*one.args)
            return
        got = compiled(*one.args)
    one.agree(*((y if one.primitive.multiple else (y,)) for y in (got, expected)))
    for x, y in zip(one.args, before, strict=True):
        np.testing.assert_array_equal(x, y)


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
        return pullback(fg.tree.map(lambda part: fnp.ones_like(part) if is_inexact(type_of(part).dtype) else None, y))

    jaxpr, _ = stage(pulled, xs, {})
    with np.errstate(all="ignore"):
        for a, b in zip(evaluate(jaxpr, xs), pulled(*xs), strict=True):
            close(a, b, rtol=1e-10)
            assert type_of(a).dtype == type_of(b).dtype
