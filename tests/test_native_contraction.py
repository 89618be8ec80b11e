"""Contractions in native code, by BLAS and in loops, compared with `numpy.einsum` in higher precision."""

import ctypes
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funcgrad.compiler.native.contraction.code import (
    Operand,
    cost,
    emit,
    has_code,
    lane_of_dtype,
    part,
    plan,
    scratch_bytes,
    split_letter,
)
from funcgrad.compiler.native.machine import blas
from funcgrad.compiler.native.machine.blas import Blas
from funcgrad.compiler.native.machine.builder import I64, PTR, Builder, Module, Value
from funcgrad.compiler.native.machine.llvm import compile_text, host, load
from funcgrad.core.views import View, contiguous

NO_BLAS = Blas("none", 64)
FORTRAN = blas.scipys()
LIBRARIES = {"blas": blas.find(), "loops": NO_BLAS, "fortran": FORTRAN}


def terms_of(spec):
    operands, _, out = spec.partition("->")
    return (*operands.split(","), out)


def base_of(x):
    """The array whose memory `x` is a view of, as bytes, and the view."""
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    offset = x.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    size = x.dtype.itemsize
    return base, View(x.shape, tuple(s // size for s in x.strides), offset // size)


@lru_cache(maxsize=64)
def compiled(terms, lane, v1, v2, vy, accumulate, library, host_bytes):
    names = list(library.addresses)
    module = Module()
    b = Builder(module)
    arguments = ["x1", "x2", "y", "externals", "scratch"]
    with b.function("program", "void", [("ptr", name) for name in arguments]):
        x1, x2, y, table, scratch = (Value(f"%{name}", PTR) for name in arguments)

        def external(name):
            return b.load(PTR, b.offset(table, names.index(name), "ptr"), 8)

        operands = [Operand(p, lane, v) for p, v in ((x1, v1), (x2, v2), (y, vy))]
        emit(b, terms, *operands, external, host_bytes, accumulate, scratch, library)
        b.ret()
    # not from the cache on disk, which these programs would only fill
    loaded = load(compile_text(module.text()), "program")
    return loaded, ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5)(loaded.address), names


def contract(spec, x1, x2, y, accumulate=False, library="blas", host_bytes=None):
    """Run native code, which writes into `y`; what is around the elements of `y` must stay as it is."""
    terms = terms_of(spec)
    lane = lane_of_dtype(x1.dtype)
    where = LIBRARIES[library]
    (b1, v1), (b2, v2), (by, vy) = map(base_of, (x1, x2, y))
    bytes_ = host_bytes or host().vector_bytes
    loaded, run, names = compiled(terms, lane, v1, v2, vy, accumulate, where, bytes_)
    table = np.array([where.addresses[name] for name in names] or [0], np.uint64)
    need = plan(terms, lane, v1, v2, vy, bytes_, accumulate, where).scratch
    scratch = np.full(need + 128, 0x55, np.uint8)
    start = -scratch.ctypes.data % 64
    at = [a.ctypes.data for a in (b1, b2, by, table)]
    run(*at, scratch.ctypes.data + start)
    assert (scratch[-(64 - start) :] == 0x55).all()
    del loaded
    return y


def random_array(rng, shape, dtype, layout="rows"):
    """An array that is a view into a larger one, with the strides that the layout says."""
    if layout == "columns":
        return random_array(rng, shape[::-1], dtype).T
    if layout == "sliced":
        wide = random_array(rng, tuple(2 * n + 1 for n in shape), dtype)
        return wide[(..., *(slice(1, None, 2) for _ in shape))]
    if layout == "padded":
        wide = random_array(rng, tuple(n + 3 for n in shape), dtype)
        return wide[(..., *(slice(1, n + 1) for n in shape))]
    if layout == "reversed":
        return random_array(rng, shape, dtype)[(..., *(slice(None, None, -1) for _ in shape))]
    if layout == "repeated":
        return np.broadcast_to(random_array(rng, (1, *shape[1:]) if shape else (), dtype), shape)
    if layout == "rolled" and len(shape) > 1:
        return np.moveaxis(random_array(rng, (*shape[1:], shape[0]), dtype), -1, 0)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.3)
    if dtype.kind in "iu":
        lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
        return np.asarray(rng.integers(lowest, highest, shape, dtype, endpoint=True))
    return np.asarray(rng.standard_normal(shape), dtype)


LAYOUTS = ["rows", "columns", "sliced", "padded", "reversed", "repeated", "rolled"]


def arrays(spec, lengths, dtype, layouts=("rows", "rows"), seed=0):
    rng = np.random.default_rng(seed)
    first, second, _ = terms_of(spec)
    return [
        random_array(rng, tuple(lengths[c] for c in letters), dtype, layout)
        for letters, layout in zip((first, second), layouts, strict=True)
    ]


def check(spec, lengths, dtype, layouts=("rows", "rows"), accumulate=False, library="blas", host_bytes=None):
    dtype = np.dtype(dtype)
    x1, x2 = arrays(spec, lengths, dtype, layouts)
    out = terms_of(spec)[2]
    shape = tuple(lengths[c] for c in out)
    y = np.full((int(np.prod(shape)) + 10,), 7, dtype)
    inside = y[5 : len(y) - 5].reshape(shape)
    contract(spec, x1, x2, inside, accumulate, library, host_bytes)
    start = 7 if accumulate else 0
    if dtype.kind == "f":
        wide = np.float64 if dtype.itemsize < 8 else np.longdouble
        expected = np.einsum(spec, x1.astype(wide), x2.astype(wide)) + start
        scale = np.einsum(spec, abs(x1).astype(wide), abs(x2).astype(wide)) + start
        terms = np.prod([lengths[c] for c in lengths if c not in out])
        eps = np.finfo(dtype).eps
        sums = np.finfo(np.float32).eps if dtype.itemsize == 2 else eps
        bound = (eps + (1 + terms / 8) * sums) * scale + np.finfo(dtype).smallest_subnormal
        assert (abs(inside - expected) <= bound).all()
    elif dtype.kind == "b":
        expected = np.einsum(spec, x1.astype(int), x2.astype(int)) > 0
        np.testing.assert_array_equal(inside, expected | (start > 0))
    else:
        expected = np.einsum(spec, x1.astype(np.uint64), x2.astype(np.uint64)) + np.uint64(start)
        np.testing.assert_array_equal(inside, expected.astype(dtype))
    assert (y[:5] == np.array(7, dtype)).all() and (y[-5:] == np.array(7, dtype)).all()


SPECS = [
    "i,i->",
    "ij,j->i",
    "ij,i->j",
    "j,ij->i",
    "i,j->ij",
    "i,i->i",
    "ij,jk->ik",
    "ij,kj->ik",
    "ji,jk->ik",
    "ji,kj->ik",
    "ij,jk->ki",
    "bij,bjk->bik",
    "bij,bj->bi",
    "ij,bj->bi",
    "bi,bj->ij",
    "bi,bj->bij",
    "bij,jk->bik",
    "ijb,jkb->ikb",
    "bij,bkj->ikb",
    "bij,nbj->nbi",
    "nbj,bij->nbi",
    "ijk,jkl->il",
    "ijk,kjl->il",
    "bqhd,bkhd->bhqk",
    "bhqk,bkhd->bqhd",
    "ijkl,kjml->mi",
    "ij,ij->",
    "ij,ji->",
    "ij,ji->ij",
    ",->",
    "ij,->ij",
    "i,j->ji",
]


def lengths_of(spec, sizes):
    letters = sorted(set(spec) - set(",->"))
    return {c: sizes[k % len(sizes)] for k, c in enumerate(letters)}


@pytest.mark.parametrize("library", ["blas", "loops", "fortran"])
@pytest.mark.parametrize("spec", SPECS)
def test_contraction(spec, library):
    for sizes, dtype in (((3, 4, 5, 2), np.float32), ((1, 3, 2), np.float64), ((17, 9, 33, 3), np.float64)):
        check(spec, lengths_of(spec, sizes), dtype, library=library)


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "u8", "f2"])
@pytest.mark.parametrize("spec", SPECS)
def test_other_dtypes(spec, dtype):
    check(spec, lengths_of(spec, (19, 9, 35, 3)), dtype)


@pytest.mark.parametrize("library", ["blas", "loops"])
@pytest.mark.parametrize("empty", ["a sum", "the result"])
def test_no_elements(library, empty):
    lengths = {"b": 2, "i": 3, "j": 0, "k": 4} if empty == "a sum" else {"b": 2, "i": 0, "j": 3, "k": 4}
    for accumulate in (False, True):
        check("bij,bjk->bik", lengths, np.float64, accumulate=accumulate, library=library)
        check("bij,bjk->bik", lengths, np.int32, accumulate=accumulate, library=library)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("layout", ["rows", "padded"])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_stacks_of_tiny_matrices(dtype, layout, n):
    """Where the vectors go along the stack, what stands between its elements is loaded with them and sorted."""
    for spec in ("bij,bj->bi", "bij,bi->bj", "ij,bj->bi", "bi,bj->ij", "bi,bj->bij", "bij,bkj->bik", "bi,bi->b"):
        check(spec, {"b": 83, "i": n, "j": n, "k": n}, dtype, (layout, layout), layout == "padded", "loops")


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "?"])
@pytest.mark.parametrize("spec", ["bij,nbj->nbi", "nbj,bij->nbi", "nj,ij->ni", "bij,nbj->bni"])
def test_matrices_of_which_the_lanes_want_the_transposed(spec, dtype, accumulate):
    """A small operand that is read often, and whose neighbours are those of the sum, is copied first."""
    for n in (33, 400):
        check(spec, {"b": 5, "i": 10, "j": 7, "n": n}, dtype, accumulate=accumulate, library="loops")


def test_what_is_copied():
    """The operand that has fewer elements than products; nothing where each element is read a few times."""

    def copied(n, layout):
        terms = ("bij", "nbj", "nbi")
        lengths = {"b": 25, "i": 10, "j": 10, "n": n}
        first, *views = (contiguous(tuple(lengths[c] for c in letters)) for letters in terms)
        if layout == "transposed":
            first = View(first.shape, (100, 1, 10))
        return plan(terms, "double", first, *views, 64)

    made = copied(1000, "rows")
    assert made.copied is not None and made.copied.operand == 0 and made.tiling.kind == "columns"
    assert made.scratch == 8 * 25 * 10 * 10
    assert copied(1000, "transposed").copied is None and copied(1000, "transposed").scratch == 0
    assert copied(4, "rows").copied is None


def test_long_sums():
    """The error of a sum does not grow with its length as that of a running total does."""
    rng = np.random.default_rng(0)
    for spec, shapes in (("ij,i->j", ((30001, 20), (30001,))), ("bi,bj->ij", ((30001, 2), (30001, 30)))):
        x1, x2 = (rng.random(shape, np.float32) for shape in shapes)
        expected = np.einsum(spec, x1, x2, dtype=np.float64)
        y = np.zeros(expected.shape, np.float32)
        contract(spec, x1, x2, y, library="loops")
        np.testing.assert_allclose(y, expected, rtol=2e-6)


def test_cost():
    """The estimate counts the work, and says what BLAS does with threads of its own."""
    terms = ("ij", "jk", "ik")
    views = [View((n, m), (m, 1)) for n, m in ((300, 200), (200, 100), (300, 100))]
    large = cost(terms, "double", *views, host().vector_bytes)
    assert (large.flops, large.bytes) == (2 * 300 * 200 * 100, 8 * (300 * 200 + 200 * 100 + 300 * 100))
    assert large.calls == 1 and large.threaded
    assert scratch_bytes(terms, "double", *views, host().vector_bytes) == 0
    apart = View((300, 200), (400, 2))
    packed = scratch_bytes(terms, "double", apart, *views[1:], host().vector_bytes)
    assert packed == 8 * 300 * 200
    integers = cost(terms, "i32", *views, host().vector_bytes)
    assert integers.calls == 0 and not integers.threaded


def test_parts():
    """Parts of a contraction, which may overlap, make the whole."""
    terms, length = ("bij", "bj", "bi"), 16
    x1, x2 = arrays("bij,bj->bi", {"b": 41, "i": 3, "j": 3}, np.float32)
    y = np.zeros((41, 3), np.float32)
    letter = split_letter(terms, View((41, 3), (3, 1)))
    assert letter == "b"
    module = Module()
    b = Builder(module)
    with b.function("program", "void", [("ptr", "x1"), ("ptr", "x2"), ("ptr", "y"), ("i64", "start")]):
        start = Value("%start", I64)
        whole = [Operand(Value(f"%{n}", PTR), "float", base_of(x)[1]) for n, x in (("x1", x1), ("x2", x2), ("y", y))]
        parts = [part(b, letters, x, letter, start, length) for letters, x in zip(terms, whole, strict=True)]
        emit(b, terms, *parts, lambda name: start, host().vector_bytes, library=NO_BLAS)
        b.ret()
    loaded = load(compile_text(module.text()), "program")
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(loaded.address)
    for first in (0, 16, 41 - length):
        run(x1.ctypes.data, x2.ctypes.data, y.ctypes.data, first)
    np.testing.assert_allclose(y, np.einsum("bij,bj->bi", x1, x2), rtol=1e-5, atol=1e-6)


def test_has_code():
    assert has_code(np.dtype("f4"), np.dtype("f4")) and has_code(np.dtype("?")) and has_code(np.dtype("f2"))
    assert not has_code(np.dtype("f4"), np.dtype("f8"))
    assert not has_code(np.dtype("c8")) and not has_code(np.dtype(">f4"))
    assert not has_code(np.dtype("g"))


def test_one_function_for_equal_contractions():
    """A program that repeats a contraction holds its loops once."""
    module = Module()
    b = Builder(module)
    view = View((40, 3), (3, 1))
    with b.function("program", "void", [("ptr", name) for name in "xyz"]):
        x, y, z = (Operand(Value(f"%{name}", PTR), "i32", view) for name in "xyz")
        for _ in range(3):
            emit(b, ("ij", "ij", "ij"), x, y, z, lambda name: x.pointer, 32)
        b.ret()
    assert module.text().count("define internal") == 1


def test_threads():
    """The number of threads of BLAS can be read and set."""
    before = blas.threads()
    if before is None:
        pytest.skip("this BLAS does not say")
    try:
        assert blas.set_threads(1) and blas.threads() == 1
    finally:
        blas.set_threads(before)


@settings(max_examples=150, deadline=None)
@given(
    spec=st.sampled_from(SPECS),
    sizes=st.lists(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 16, 18, 31, 33, 40]), min_size=1, max_size=3),
    layouts=st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)),
    dtype=st.sampled_from([np.float32, np.float64, np.float16, np.int16, np.bool_]),
    accumulate=st.booleans(),
    library=st.sampled_from(["blas", "loops", "fortran"]),
    host_bytes=st.sampled_from([None, 8, 16, 32]),
)
def test_layouts(spec, sizes, layouts, dtype, accumulate, library, host_bytes):
    lengths = lengths_of(spec, sizes)
    while np.prod([float(n) for n in lengths.values()]) > 2e6:
        lengths[max(lengths, key=lambda c: lengths[c])] = 2
    check(spec, lengths, dtype, layouts, accumulate, library, host_bytes)
