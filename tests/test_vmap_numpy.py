"""vmap(f) is a Python loop over f, for the functions of funcgrad.numpy, funcgrad.numpy.linalg and funcgrad.nn.

So are its derivatives: vmap(grad(f)) loops over gradients, and the gradient of a sum over the batch adds them up. Each
line below is a function of one example and the arguments it takes; which of them are batched, and along which axes, is
drawn.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import nn
from funcgrad.core.ir import evaluate
from funcgrad.transforms.tracing.batch import batch_jaxpr
from funcgrad.transforms.vmap import vmap

Array = Any
Function = Callable[..., Any]
Maker = Callable[[np.random.Generator], Array]
Lines = dict[str, tuple[Any, ...]]

linalg = fnp.linalg


def real(*shape: int) -> Maker:
    return lambda random: random.standard_normal(shape)


def unit(*shape: int) -> Maker:
    """Numbers in the domain of all elementary functions."""
    return lambda random: random.uniform(0.2, 0.9, shape)


def upto(high: int, *shape: int) -> Maker:
    return lambda random: random.integers(0, high, shape)


def truth(*shape: int) -> Maker:
    return lambda random: random.random(shape) > 0.5


def definite(n: int) -> Maker:
    def make(random: np.random.Generator) -> Array:
        a = random.standard_normal((n, n))
        return a @ a.T + n * np.eye(n)

    return make


def words(text: str) -> list[str]:
    return text.split()


LINES: Lines = {}

UNARY = words("""
    abs cbrt negative positive reciprocal sign sqrt square angle ceil conj fix floor imag real rint round trunc arccos
    arcsin arcsinh arctan arctanh cos cosh deg2rad exp exp2 expm1 log log1p log2 log10 rad2deg sin sinc sinh tan tanh
    isfinite isinf isnan signbit isneginf isposinf logical_not nan_to_num
""")
for name in UNARY:
    LINES[name] = getattr(fnp, name), unit(2, 3)
LINES["of a number"] = lambda x: (fnp.exp(x), fnp.abs(x), x > 0.5, -x, 2 * x), unit()

BINARY = words("""
    add divide float_power floor_divide fmod hypot mod multiply power subtract copysign fmax fmin heaviside maximum
    minimum equal greater less_equal not_equal logical_and isclose arctan2 logaddexp logaddexp2
""")
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((3,), (2, 3)), ((2, 1), (3,)), ((), (2,)), ((2, 3), (2, 3))]
for name in BINARY:
    # broadcasting is written once, for all of them
    for a, b in SHAPES if name in ("divide", "maximum") else SHAPES[:1]:
        LINES[f"{name}, {a} and {b}"] = getattr(fnp, name), unit(*a), unit(*b)
for name in words("bitwise_and bitwise_or bitwise_xor left_shift right_shift floor_divide mod true_divide"):
    LINES[f"{name}, of integers"] = getattr(fnp, name), upto(5, 2, 3), lambda random: random.integers(1, 5, 3)

FOLDS = words("sum mean prod std var max min all any ptp median nansum nanmean nanmax nanmin nanprod nanstd nanvar")
for name in FOLDS:
    fold = getattr(fnp, name)
    LINES[name] = fold, unit(2, 3)
    LINES[f"{name}, an axis"] = lambda x, fold=fold: fold(x, axis=-1), unit(2, 3)
    LINES[f"{name}, two axes"] = lambda x, fold=fold: fold(x, axis=(0, 2), keepdims=True), unit(2, 3, 2)
for name in words("argmax argmin count_nonzero cumsum cumprod average"):
    fold = getattr(fnp, name)
    LINES[name] = fold, unit(2, 3)
    LINES[f"{name}, an axis"] = lambda x, fold=fold: fold(x, axis=0), unit(2, 3)
LINES |= {
    "sum where": (lambda x, m: fnp.sum(x, axis=0, where=m, initial=2.0), unit(2, 3), truth(3)),
    "max where": (lambda x, m: fnp.max(x, axis=1, where=m, initial=0.0), unit(2, 3), truth(2, 3)),
    "average with weights": (lambda x, w: fnp.average(x, axis=1, weights=w), unit(2, 3), unit(3)),
    "quantile": (lambda x: fnp.quantile(x, [0.1, 0.5], axis=1), unit(2, 5)),
    "quantile, a batched one": (lambda x, q: fnp.quantile(x, q, axis=0), unit(5, 2), unit(3)),
    "percentile": (lambda x: [fnp.percentile(x, q, axis=0) for q in (30, np.float64(30), [30])], unit(4, 2)),
    "methods": (lambda x: (x.sum(1), x.mean(), x.max(0), x.std(), x.argmax(), x.cumsum(1), x.dot(x.T)), unit(2, 3)),
}

STACKS: list[tuple[int, ...]] = [(3,), (2, 3), (3, 3), (4, 2, 3), (4, 3, 3), (1, 3, 2)]
for a, b in itertools.product(STACKS, STACKS):
    if a[-1] == b[-1 if len(b) == 1 else -2]:
        LINES[f"matmul, {a} and {b}"] = fnp.matmul, real(*a), real(*b)
        LINES[f"dot, {a} and {b}"] = fnp.dot, real(*a), real(*b)
PRODUCTS = words("""
    i,i-> ij,jk->ik ij,jk ij-> ij->ji ii ii->i ...j,j->... ...ij,...jk->...ik i,i,i-> bij,bjk,bkl->bil i,j
    ...i->... ...,...->... i,ij,j->
""")
LENGTHS = {"b": 2, "i": 3, "j": 3, "k": 3, "l": 2}
for spec in PRODUCTS:
    terms = spec.split("->")[0].split(",")
    shapes = [tuple(LENGTHS[c] for c in term if c.isalpha()) for term in terms]
    LINES[f"einsum {spec}"] = lambda *xs, spec=spec: fnp.einsum(spec, *xs), *(real(*shape) for shape in shapes)
    if "..." in spec:
        LINES[f"einsum {spec}, of stacks"] = (
            lambda *xs, spec=spec: fnp.einsum(spec, *xs),
            *(real(*(2,) * ("..." in term), *shape) for term, shape in zip(terms, shapes, strict=True)),
        )
LINES |= {
    "inner": (fnp.inner, real(2, 3), real(4, 3)),
    "outer": (fnp.outer, real(2, 3), real(4)),
    "kron": (fnp.kron, real(2), real(2, 2)),
    "vdot": (fnp.vdot, real(2, 3), real(2, 3)),
    "vecdot": (fnp.vecdot, real(2, 3), real(3)),
    "matvec": (fnp.matvec, real(2, 3), real(3)),
    "vecmat": (fnp.vecmat, real(2), real(2, 3)),
    "tensordot": (lambda a, b: fnp.tensordot(a, b, ([0, 1], [1, 0])), real(2, 3), real(3, 2)),
    "products with constants": (lambda x: np.ones((2, 3)) @ x + (x @ np.ones((3, 2))), real(3)),
}

LINES |= {
    "reshape(-1)": (lambda x: x.reshape(-1), real(3, 4)),
    "reshape by columns": (lambda x: fnp.reshape(x, (2, -1), order="F"), real(3, 4)),
    "shapes as numbers": (lambda x: x / x.shape[0] + len(x) * x.size - x.ndim, real(3, 4)),
    "iteration": (lambda x: sum(i * row for i, row in enumerate(x)), real(3, 4)),
    "T": (lambda x: (x.T, x.mT), real(3, 4)),
    "expand_dims": (lambda x: fnp.expand_dims(x, (0, 2)), real(3, 4)),
    "squeeze": (fnp.squeeze, real(1, 3, 1)),
    "moveaxis": (lambda x: (fnp.moveaxis(x, 0, -1), fnp.swapaxes(x, 0, 1), fnp.rollaxis(x, 2)), real(2, 3, 4)),
    "transpose": (lambda x: fnp.transpose(x, (2, 0, 1)), real(2, 3, 4)),
    "flip": (lambda x: (fnp.flip(x), fnp.flip(x, 1), fnp.flipud(x), fnp.fliplr(x), fnp.rot90(x, 3)), real(3, 4)),
    "roll": (lambda x: (fnp.roll(x, 2), fnp.roll(x, (1, 2), (0, 1))), real(3, 4)),
    "atleast": (lambda x: (fnp.atleast_1d(x), fnp.atleast_2d(x), fnp.atleast_3d(x)), real()),
    "broadcast_to": (lambda x: (fnp.broadcast_to(x, (2, 3, 4)), fnp.broadcast_to(x, (30, 3, 90))), real(3, 1)),
    "broadcast_arrays": (fnp.broadcast_arrays, real(3, 1), real(4)),
    "concatenate": (lambda a, b: fnp.concatenate([a, b, np.ones((2, 1))], axis=-1), real(2, 3), real(2, 1)),
    "concatenate, flat": (lambda a, b: fnp.concatenate([a, b], axis=None), real(2, 3), real(2)),
    "stack": (lambda a, b: (fnp.stack([a, b], -1), fnp.vstack([a, b]), fnp.dstack([a, b])), real(2, 3), real(2, 3)),
    "stack of vectors": (
        lambda a, b: (fnp.hstack([a, b]), fnp.column_stack([a, b]), fnp.stack([a, b])),
        real(3),
        real(3),
    ),
    "lists": (lambda a, b: (fnp.array([[a, b], [1.0, a]]), fnp.hstack([a, 2.0, b])), real(), real()),
    "tile": (lambda x: fnp.tile(x, (2, 1, 3)), real(3, 4)),
    "repeat": (lambda x: (fnp.repeat(x, 2), fnp.repeat(x, [1, 2, 0], axis=0)), real(3, 4)),
    "split": (lambda x: (*fnp.split(x, [1, 3], axis=1), *fnp.vsplit(x, 3), *fnp.unstack(x, axis=1)), real(3, 4)),
    "linspace": (lambda a, b: (fnp.linspace(a, b, 5), fnp.linspace(a, b, 4, axis=-1)), real(3), real(3)),
    "geomspace": (lambda a: (fnp.geomspace(a, 2.0, 4), fnp.logspace(a, 1, 3)), unit()),
    "meshgrid": (fnp.meshgrid, real(3), real(2)),
    "full": (lambda x, a: (fnp.full((2, 3), a), fnp.full_like(x, a), fnp.zeros_like(x) + x), real(3, 4), real()),
    "diag": (lambda x: (fnp.diag(x), fnp.diag(x[0], 1), fnp.diagonal(x, 1), fnp.trace(x)), real(3, 4)),
    "triangles": (lambda x: (fnp.tril(x), fnp.triu(x, -1)), real(2, 3, 4)),
    "dtypes": (lambda x: (x.astype(np.float32) * 2, (x * 10).astype(int), x > 0, x * 1j), real(3, 4)),
    "integers": (lambda i: (i * 2 + i // 2 - i % 3, i.astype(np.uint8) + np.uint8(3), i / 2), upto(9, 3)),
    "truth values": (lambda m: (m.sum(), m.mean(), ~m, m & m[0]), truth(3)),
    "complex numbers": (lambda x: fnp.abs(fnp.exp(1j * x) + x) ** 2 + fnp.angle(x + 2j), real(3)),
}

LINES |= {
    "x[int]": (lambda x: (x[1], x[-1, 2], x[1:, ::-2], x[None, ..., None, 1]), real(3, 4)),
    "x[list]": (lambda x: (x[[0, 2, 0]], x[[0, 2], [1, 1]], x[..., [0, 1]], x[np.ix_([0, 2], [1, 3])]), real(3, 4)),
    "x[list, :, list]": (lambda x: (x[[0, 1], :, [2, 0]], x[0, :, [1, 2]], x[[1], 1:, 0]), real(2, 3, 4)),
    "x[constant mask]": (lambda x: (x[np.eye(3, 4) > 0], x[np.array([True, False, True])]), real(3, 4)),
    "x[:0]": (lambda x: fnp.sum(x[:0]) + fnp.concatenate([x[:0], x]), real(3)),
    "x[i]": (lambda x, i: fg.at(x)[i].get(), real(3, 4), upto(3)),
    "x[:, i]": (lambda x, i: fg.at(x)[:, i].get(), real(3, 4), upto(4, 2, 2)),
    "x[-i]": (lambda x, i: fg.at(x)[-i - 1].get(), real(3, 4), upto(3, 2)),
    "x[i, j]": (lambda x, i, j: fg.at(x)[i, j].get(), real(3, 4), upto(3, 2), upto(4)),
    "x[i, :, j]": (lambda x, i, j: fg.at(x)[i, :, j].get(), real(3, 2, 4), upto(3, 2), upto(4, 2)),
    "x[i[:, None], j]": (lambda x, i, j: fg.at(x)[i[:, None], j].get(), real(3, 4), upto(3, 2), upto(4, 3)),
    "x[0, :, i]": (lambda x, i: fg.at(x)[0, :, i].get(), real(3, 2, 4), upto(4, 2)),
    "x[list, i]": (lambda x, i: fg.at(x)[[0, 1], i].get(), real(3, 4), upto(4, 2)),
    "x[None, i, None, :2]": (lambda x, i: fg.at(x)[None, i, None, :2].get(), real(3, 4), upto(3)),
    "x[..., i, :, 0]": (lambda x, i: fg.at(x)[..., i, :, 0].get(), real(3, 2, 4), upto(3)),
    "take": (lambda x, i: (fnp.take(x, i), fnp.take(x, i, axis=1, mode="wrap")), real(3, 4), upto(12, 2, 2)),
    "take_along_axis": (lambda x, i: fnp.take_along_axis(x, i, 1), real(3, 4), upto(4, 3, 2)),
    "where": (fnp.where, truth(3, 4), real(3, 4), real(4)),
    "where, with numbers": (lambda c, x: (fnp.where(c, x, 0.0), fnp.where(c, 1, x)), truth(4), real(3, 4)),
    "the where-trap": (lambda x: fnp.where(x > 0, fnp.log(x), 0.0), real(3, 4)),
    "clip": (lambda x, a: (fnp.clip(x, a, 1.0), x.clip(-0.5, 0.5)), real(3, 4), unit(4)),
    "sort": (lambda x: (fnp.sort(x, axis=0), fnp.sort(x), fnp.sort(x, axis=None)), real(3, 4)),
    "argsort": (lambda x: (fnp.argsort(x, axis=0), fnp.take_along_axis(x, fnp.argsort(x, axis=1), 1)), real(3, 4)),
    "searchsorted": (lambda a, v: fnp.searchsorted(fnp.sort(a), v, side="right"), real(5), real(2, 3)),
    "comparisons of arrays": (lambda a, b: (fnp.array_equal(a, b), fnp.allclose(a, b)), upto(2, 2), upto(2, 2)),
}
# a place that is written twice has the sum, or the largest of the values: those have derivatives
for method in words("set add subtract multiply divide min max"):
    write: Function = lambda x, index, v, method=method: getattr(fg.at(x)[index], method)(v + 4)
    LINES |= {
        f"at[1].{method}": (lambda x, v, write=write: write(x, 1, v), real(3, 4), real(4)),
        f"at[:, 1:3].{method}": (lambda x, v, write=write: write(x, np.s_[:, 1:3], v), real(3, 4), real()),
        f"at[mask].{method}": (lambda x, v, write=write: write(x, np.eye(3, 4) > 0, v), real(3, 4), real(3)),
        f"at[...].{method}": (lambda x, v, write=write: write(x, ..., v), real(3, 4), real(4)),
        f"at[i].{method}": (write, real(3, 4), upto(3), real(4)),
    }
    if method not in ("multiply", "divide"):
        LINES[f"at[i].{method}, repeated"] = write, real(3, 4), upto(3, 5), real(5, 1)
        LINES[f"at[i, :, 0].{method}"] = (
            lambda x, i, v, write=write: write(x, np.s_[i, :, 0], v),
            real(3, 2, 4),
            upto(3, 2),
            real(2, 2),
        )

LINES |= {
    "inv": (linalg.inv, definite(3)),
    "solve, a vector": (linalg.solve, definite(3), real(3)),
    "solve, a stack": (linalg.solve, definite(3), real(2, 3, 2)),
    "cholesky": (linalg.cholesky, definite(3)),
    "det": (lambda a: (linalg.det(a), *linalg.slogdet(a)), definite(3)),
    "eigh": (lambda a: (linalg.eigvalsh(a), linalg.eigh(a)[0], fnp.abs(linalg.eigh(a)[1])), definite(3)),
    "svd": (lambda a: (linalg.svdvals(a), linalg.svd(a, full_matrices=False)[1]), real(3, 2)),
    "pinv": (linalg.pinv, real(3, 2)),
    "qr": (lambda a: tuple(map(fnp.abs, linalg.qr(a))), real(3, 2)),
    "matrix_power": (lambda a: (linalg.matrix_power(a, 3), linalg.matrix_power(a, -2)), definite(3)),
    "cond": (lambda a: (linalg.cond(a), linalg.matrix_rank(a)), definite(3)),
    "multi_dot": (lambda a, b, c: linalg.multi_dot([a, b, c]), real(2, 3), real(3, 4), real(4)),
    "matrix norms": (lambda x: tuple(linalg.norm(x, o) for o in (None, 1, 2, np.inf, "nuc")), real(3, 4)),
    "vector norms": (lambda x: tuple(linalg.norm(x, o, axis=1) for o in (None, 0.5, 1, 3, -np.inf)), real(3, 4)),
}
for name in set(nn.__all__) - {"one_hot", "glu"}:
    LINES[f"nn.{name}"] = getattr(nn, name), real(3, 4)
LINES |= {
    "nn.softmax, axis 0": (lambda x: (nn.softmax(x, axis=0), nn.logsumexp(x, axis=(0, 1))), real(3, 4)),
    "nn.glu": (nn.glu, real(3, 4)),
    "nn.one_hot": (lambda i: nn.one_hot(i, 4), upto(4, 3)),
}

each = pytest.mark.parametrize("name", sorted(LINES))


def parts(out: Any) -> list[Any]:
    return list(out) if isinstance(out, tuple | list) else [out]


def same(y: Any, expected: Any) -> None:
    assert np.shape(y) == np.shape(expected)
    assert np.asarray(y).dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-9)


def stacked(rows: list[Any]) -> list[Any]:
    """The results of a loop, stacked part by part."""
    return [np.stack([np.asarray(part) for part in column]) for column in zip(*map(parts, rows), strict=True)]


class Batch:
    """Arguments of a line, some of which are batched along an axis, and how to pick one example."""

    def __init__(self, name: str, data: st.DataObject) -> None:
        self.f, *makers = LINES[name]
        random = np.random.default_rng(zlib.crc32(name.encode()))
        self.n = data.draw(st.sampled_from([1, 3]))
        flags = data.draw(st.lists(st.booleans(), min_size=len(makers), max_size=len(makers)).filter(any))
        self.axes: list[int | None] = []
        self.args: list[Array] = []
        for make, flag in zip(makers, flags, strict=True):
            x = make(random)
            axis = data.draw(st.integers(-x.ndim - 1, x.ndim)) if flag else None
            self.axes.append(axis)
            self.args.append(x if axis is None else np.stack([x, *(make(random) for _ in range(self.n - 1))], axis))
        self.floats = [i for i, x in enumerate(self.args) if x.dtype.kind == "f"]

    def loop(self, f: Function) -> list[Any]:
        """`f` of each example."""
        rows = []
        for k in range(self.n):
            rows.append(f(*[x if a is None else np.take(x, k, a) for x, a in zip(self.args, self.axes, strict=True)]))
        return rows

    def loss(self, *xs: Array) -> Any:
        """A number that depends on all floating-point parts of the result."""
        found = [y for y in parts(self.f(*xs)) if hasattr(y, "dtype") and y.dtype.kind == "f"]
        return sum((fnp.sin(y) * (k + 1)).sum() for k, y in enumerate(found))


@each
@settings(max_examples=4)
@given(data=st.data())
def test_vmap_is_a_loop(name: str, data: st.DataObject) -> None:
    batch = Batch(name, data)
    with np.errstate(all="ignore"):
        expected = stacked(batch.loop(batch.f))
        out_axis = data.draw(st.integers(-1, 0))
        got = parts(vmap(batch.f, tuple(batch.axes), out_axis)(*batch.args))
    for y, e in zip(got, expected, strict=True):
        assert type(y) is np.ndarray
        assert y.flags.writeable
        assert not any(np.shares_memory(y, x) for x in batch.args)
        same(y, np.moveaxis(e, 0, out_axis))


@each
def test_types_are_those_of_one_example(name: str) -> None:
    f, *makers = LINES[name]
    random = np.random.default_rng(0)
    args = [make(random) for make in makers]
    args = [x.astype(np.float32) if x.dtype == np.float64 else x for x in args]
    with np.errstate(all="ignore"):
        for y, e in zip(parts(vmap(f)(*[x[None] for x in args])), parts(f(*args)), strict=True):
            assert y.shape == (1, *np.shape(e))
            assert y.dtype == np.asarray(e).dtype


@each
@settings(max_examples=2)
@given(data=st.data())
def test_gradients_of_examples_are_a_loop_over_gradients_and_add_up(name: str, data: st.DataObject) -> None:
    batch = Batch(name, data)
    with np.errstate(all="ignore"):
        example = [np.take(x, 0, a) if a is not None else x for x, a in zip(batch.args, batch.axes, strict=True)]
        if not batch.floats or not any(np.asarray(y).dtype.kind == "f" for y in parts(batch.f(*example))):
            return
        gradient = fg.grad(batch.loss, tuple(batch.floats))
        expected = stacked(batch.loop(gradient))
        for g, e in zip(vmap(gradient, tuple(batch.axes))(*batch.args), expected, strict=True):
            same(g, e)
        total = lambda *xs: vmap(batch.loss, tuple(batch.axes))(*xs).sum()
        for g, e, i in zip(fg.grad(total, tuple(batch.floats))(*batch.args), expected, batch.floats, strict=True):
            axis = batch.axes[i]
            same(g, e.sum(0) if axis is None else np.moveaxis(e, 0, axis))


@each
@settings(max_examples=2)
@given(data=st.data())
def test_the_batched_jaxpr_is_a_loop(name: str, data: st.DataObject) -> None:
    batch = Batch(name, data)
    stacks = [x if a is None else np.moveaxis(x, a, 0) for x, a in zip(batch.args, batch.axes, strict=True)]
    flags = [a is not None for a in batch.axes]
    with np.errstate(all="ignore"):
        jaxpr = fg.make_jaxpr(batch.f)(*[x[0] if flag else x for x, flag in zip(stacks, flags, strict=True)])
        if jaxpr.constants:
            return
        everything = data.draw(st.booleans())
        batched, out_flags = batch_jaxpr(jaxpr, flags, batch.n, everything)
        assert not batched.constants
        assert all(out_flags) or not everything
        expected = stacked(batch.loop(batch.f))
        for y, e, flag in zip(evaluate(batched, stacks), expected, out_flags, strict=True):
            same(y, e if flag else e[0])


@each
@settings(max_examples=2)
@given(data=st.data())
def test_a_batch_may_be_empty(name: str, data: st.DataObject) -> None:
    batch = Batch(name, data)
    none = [x if a is None else np.take(x, [], a) for x, a in zip(batch.args, batch.axes, strict=True)]
    with np.errstate(all="ignore"):
        expected = stacked(batch.loop(batch.f))
        for y, e in zip(parts(vmap(batch.f, tuple(batch.axes))(*none)), expected, strict=True):
            same(y, e[:0])
