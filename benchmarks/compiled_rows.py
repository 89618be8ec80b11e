"""The rows of the table of compiled functions."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks import compiled_problems as problems
from benchmarks.compiled_problems import Work

F32, F64 = np.float32, np.float64
BOTH = (F32, F64)


class Group(enum.Enum):
    """What a row is about; the means are also taken by group."""

    ELEMENTWISE = "elementwise"
    MEMORY = "memory-bound"
    REDUCTION = "reductions"
    MATRIX = "matrices"
    LOOP = "loops"
    GEOMETRY = "geometry"
    LIBRARY = "algorithms"
    CALL = "calls"


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRow:
    """A line of the table.

    Attributes:
        work: What is compiled, for a dtype.
        gradient: Whether that is the gradient of the function, by its first argument.
        dispatch: Whether the row measures a call and nothing else.
        rtol: How closely both libraries agree; None for what the dtype gives.
    """

    title: str
    group: Group
    work: Callable[[Any], Work]
    dtype: Any
    gradient: bool = False
    dispatch: bool = False
    rtol: float | None = None

    @property
    def name(self) -> str:
        title = f"gradient of {self.title}" if self.gradient else self.title
        return f"{title}, {'f32' if self.dtype is F32 else 'f64'}"


def _rows(
    title: str,
    group: Group,
    work: Callable[..., Work],
    *sizes: Any,
    value: Sequence[Any] = BOTH,
    gradient: Sequence[Any] = (),
    **options: Any,
) -> list[CompiledRow]:
    """A row for each dtype, of the function and of its gradient."""
    made = partial(_made, work, sizes)
    rows = [CompiledRow(title, group, made, dtype, **options) for dtype in value]
    return rows + [CompiledRow(title, group, made, dtype, gradient=True, **options) for dtype in gradient]


def _made(work: Callable[..., Work], sizes: tuple[Any, ...], dtype: Any) -> Work:
    return work(dtype, *sizes)


def _chains() -> list[CompiledRow]:
    rows: list[CompiledRow] = []
    for n, dtypes in ((1, BOTH), (100, BOTH), (10_000, BOTH), (1_000_000, BOTH), (10_000_000, (F32,))):
        rows += _rows(f"chain of 12, n = {n:,}", Group.ELEMENTWISE, problems.chain, n, value=dtypes)
        rows += _rows(
            f"chain of 12, n = {n:,}", Group.ELEMENTWISE, problems.chain_sum, n, value=(), gradient=dtypes, rtol=1e-3
        )
    return rows


def _networks() -> list[CompiledRow]:
    rows: list[CompiledRow] = []
    for batch, width in ((8, 16), (32, 128), (256, 512), (512, 2048)):
        name = f"MLP, {batch} × {width}"
        rows += _rows(name, Group.MATRIX, problems.network, batch, width, value=(), gradient=BOTH)
    return rows


MEMORY_N = 10_000_000

COMPILED_ROWS: Sequence[CompiledRow] = (
    *_chains(),
    *_rows("x + y, n = 10,000,000", Group.MEMORY, problems.add, MEMORY_N),
    *_rows("1.5 x + 2, n = 10,000,000", Group.MEMORY, problems.scale, MEMORY_N, value=(F64,)),
    *_rows("sum of squares, n = 10,000,000", Group.MEMORY, problems.squares, MEMORY_N, rtol=1e-3),
    *_rows("x + y.T, 2,000 × 2,000", Group.MEMORY, problems.transpose_add, 2_000),
    *_rows("mean, variance over axis 0", Group.REDUCTION, problems.moments, 0),
    *_rows("mean, variance over axis 1", Group.REDUCTION, problems.moments, 1),
    *_rows("mean, variance over axis 2", Group.REDUCTION, problems.moments, 2),
    *_rows("logsumexp, 1,000 × 1,000", Group.REDUCTION, problems.logsumexp, 1_000, gradient=BOTH),
    *_rows("cross-entropy, 256 × 1,000", Group.REDUCTION, problems.cross_entropy, 256, 1_000, gradient=BOTH),
    *_rows("layer norm, 512 × 1,024", Group.REDUCTION, problems.layer_norm, 512, 1_024),
    *_rows("layer norm, 512 × 1,024", Group.REDUCTION, problems.layer_norm_loss, 512, 1_024, value=(), gradient=(F32,)),
    *_rows("A @ B, 64 × 64", Group.MATRIX, problems.product, 64),
    *_rows("A @ B, 512 × 512", Group.MATRIX, problems.product, 512),
    *_rows("tanh(A @ B + c), 512 × 512", Group.MATRIX, problems.dense, 512),
    *_networks(),
    *_rows("logistic regression, 10,000 × 50", Group.MATRIX, problems.logistic_regression, 10_000, 50, gradient=(F64,)),
    *_rows("least squares, 2,000 × 200", Group.MATRIX, problems.least_squares, 2_000, 200, value=(), gradient=BOTH),
    *_rows("k-means, 10,000 × 16 × 8", Group.GEOMETRY, problems.k_means, 10_000, 16, 8, gradient=BOTH),
    *_rows("Gaussian mixture, 1,000 × 25", Group.MATRIX, problems.gaussian_mixture, 1_000, 25, 10, gradient=(F64,)),
    *_rows("LSTM, 64 steps", Group.LOOP, problems.lstm, 64, value=(), gradient=BOTH),
    *_rows("LSTM, 1,024 steps", Group.LOOP, problems.lstm, 1_024, value=(), gradient=(F32,)),
    *_rows("RK4, 1,000 steps", Group.LOOP, problems.runge_kutta, 1_000, value=(F64,), gradient=(F64,)),
    *_rows("x.at[i].set, 10,000 steps", Group.LOOP, problems.writing_loop, 10_000, value=(F64,)),
    *_rows("unrolled loop, 1,000 steps", Group.LOOP, problems.unrolled, 1_000, value=(F64,), gradient=(F64,)),
    *_rows("500 bodies", Group.GEOMETRY, problems.n_body, 500),
    *_rows("potential of 500 bodies", Group.GEOMETRY, problems.potential, 500, value=(), gradient=BOTH),
    *_rows("rotation of 100,000 points", Group.GEOMETRY, problems.rotation, 100_000),
    # single precision adds up 100,000 terms that nearly cancel: of both sums, funcgrad's is closer to the true one
    *_rows(
        "fit of a rotation, 100,000", Group.GEOMETRY, problems.rotation_fit, 100_000, value=(), gradient=BOTH, rtol=1e-3
    ),
    *_rows("100,000 rotations", Group.GEOMETRY, problems.rotations, 100_000, value=(F64,), gradient=(F64,)),
    *_rows("sort, n = 100,000", Group.LIBRARY, problems.sort, 100_000),
    *_rows("median, n = 100,000", Group.LIBRARY, problems.median, 100_000, value=(F64,)),
    *_rows("cumsum, n = 1,000,000", Group.LIBRARY, problems.cumsum, 1_000_000, rtol=1e-3),
    *_rows("scatter-add of 100,000 into 1,000", Group.LIBRARY, problems.histogram, 100_000, 1_000, rtol=1e-4),
    *_rows("pytree of 100", Group.CALL, problems.leaves_norm, value=(), gradient=(F64,)),
    *_rows("a number", Group.CALL, problems.scalar, value=(F64,), dispatch=True),
    *_rows("x + 1, n = 3", Group.CALL, problems.tiny, value=(F64,), dispatch=True),
    *_rows("2 x, no axes", Group.CALL, problems.no_axes, value=(F64,), dispatch=True),
    *_rows("a + b + c + d, n = 3", Group.CALL, problems.four, value=(F64,), dispatch=True),
    *_rows("dict of 2", Group.CALL, problems.small_dict, value=(F64,), dispatch=True),
    *_rows("dict of 100", Group.CALL, problems.leaves, value=(F64,), dispatch=True),
)


def chosen(text: str) -> list[CompiledRow]:
    """The rows whose name, or that of their group, contains `text`."""
    text = text.casefold()
    return [row for row in COMPILED_ROWS if text in row.name.casefold() or text == row.group.value]
