"""The figures of compiled functions as tables: the rows, their means, and what is promised of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import geometric_mean

from benchmarks.compiled_rows import COMPILED_ROWS, CompiledRow, Group
from benchmarks.compiled_worker import BLAS, COPY, FUNCGRAD, FUNCTION, JAX, Figures
from benchmarks.report import ANSWERS
from benchmarks.table import NOTHING, number, render
from benchmarks.targets import Target, at_least, at_most

Rows = Mapping[str, Figures]
Ratio = Callable[[Figures], float | None]
Wanted = Callable[[CompiledRow], bool]

HEAD = """\
Jitted functions, {cores}. "×": how many times faster funcgrad is than JAX (JAX's time / funcgrad's time), in the first
call, which traces and compiles, and in later ones. "/ function": the time of a gradient / that of the function. "of
copy": the speed at which bytes are read and written / that of a copy of as many into memory that is there. "of BLAS":
the time of the matrix products alone / the whole time. "peak": the memory that a call needs / what JAX's needs."""

MEANS = "Geometric means of how many times faster funcgrad is than JAX"
DENSE = 2e-4  # seconds of matrix products from which on they should be what takes the time
ARITHMETIC = 2e-5  # seconds of a function from which on its arithmetic takes the time
BY_NAME = {row.name: row for row in COMPILED_ROWS}


def first(figures: Figures) -> float | None:
    return _quotient(figures.first.get(JAX), figures.first.get(FUNCGRAD))


def warm(figures: Figures) -> float | None:
    return _quotient(figures.warm.get(JAX), figures.warm.get(FUNCGRAD))


def gradient(figures: Figures) -> float | None:
    return _quotient(figures.warm.get(FUNCGRAD), figures.warm.get(FUNCTION))


def copied(figures: Figures) -> float | None:
    return _quotient(figures.warm.get(COPY), figures.warm.get(FUNCGRAD))


def multiplied(figures: Figures) -> float | None:
    return _quotient(figures.warm.get(BLAS), figures.warm.get(FUNCGRAD))


def peak(figures: Figures) -> float | None:
    return _quotient(figures.peak.get(FUNCGRAD), figures.peak.get(JAX))


def _quotient(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


RATIOS = (gradient, copied, multiplied, peak)


def table(cores: int, rows: Rows, *, markdown: bool) -> str:
    """Every row: times of funcgrad, and the ratios."""
    header = ["", "first, ms", "×", "later, µs", "×", "/ function", "of copy", "of BLAS", "peak"]
    cells = []
    for name, f in rows.items():
        times = [_times(f.first, 1e3), number(first(f)), _times(f.warm, 1e6), number(warm(f))]
        cells.append([name, *times, *(number(ratio(f)) for ratio in RATIOS)])
    return f"{HEAD.format(cores=_cores(cores))}\n\n{render(header, cells, markdown=markdown)}"


def _cores(cores: int) -> str:
    return "1 core" if cores == 1 else f"{cores} cores"


def _times(times: Mapping[str, float], unit: float) -> str:
    return number(times[FUNCGRAD] * unit) if FUNCGRAD in times else NOTHING


def _mean(rows: Rows, ratio: Ratio, wanted: Wanted) -> float | None:
    found = [r for name, f in rows.items() if wanted(BY_NAME[name]) and (r := ratio(f)) is not None]
    return geometric_mean(found) if found else None


def means(measured: Mapping[int, Rows], *, markdown: bool) -> str:
    """By group and in all."""
    header = [""]
    for cores in measured:
        header += [f"first, {_cores(cores)}", f"later, {_cores(cores)}"]
    kinds: dict[str, Wanted] = {"all": _any}
    kinds |= {group.value: partial(_in_group, group) for group in Group}
    kinds |= {dtype: partial(_of_dtype, dtype) for dtype in ("f32", "f64")}
    cells = [[name, *_means(measured, wanted)] for name, wanted in kinds.items()]
    kept = [row for row in cells if any(cell != NOTHING for cell in row[1:])]
    return f"{MEANS}\n\n{render(header, kept, markdown=markdown)}" if kept else ""


def _any(row: CompiledRow) -> bool:
    return True


def _in_group(group: Group, row: CompiledRow) -> bool:
    return row.group is group


def _of_dtype(dtype: str, row: CompiledRow) -> bool:
    return row.name.endswith(dtype)


def _means(measured: Mapping[int, Rows], wanted: Wanted) -> list[str]:
    return [number(_mean(rows, ratio, wanted)) for rows in measured.values() for ratio in (first, warm)]


def targets(rows: Rows) -> Iterator[Target]:
    """What is promised of compiled functions on some number of cores."""
    yield at_least("later calls: times faster than JAX, geometric mean", 1.5, _mean(rows, warm, _any))
    yield _worst("later calls: slower than JAX in no row: least times faster ≥ 1", rows, warm, least=1.0)
    yield at_least("first calls: times faster than JAX, geometric mean", 5.0, _mean(rows, first, _any))
    yield at_least(
        "calls on tiny arrays: times faster than JAX, mean", 5.0, _mean(rows, warm, lambda row: row.dispatch)
    )
    for name, limit in (("a + b + c + d, n = 3, f64", 1.0), ("dict of 100, f64", 10.6)):
        time = rows[name].warm.get(FUNCGRAD) if name in rows else None
        yield at_most(f"call of {name}, in µs", limit, None if time is None else time * 1e6)
    yield _worst("memory-bound: share of the speed of a copy, at least ≥ 0.8", rows, copied, least=0.8)
    dense = {name: f for name, f in rows.items() if f.warm.get(BLAS, 0.0) >= DENSE}
    yield _worst("matrix products: share of the speed of BLAS, at least ≥ 0.95", dense, multiplied, least=0.95)
    costly = {name: f for name, f in rows.items() if f.warm.get(FUNCTION, 0.0) >= ARITHMETIC}
    yield _worst("gradient / function, at most ≤ 3", costly, gradient, most=3.0)
    yield _worst("peak memory / JAX's, at most ≤ 1", rows, peak, most=1.0)


def _worst(promise: str, rows: Rows, ratio: Ratio, *, least: float | None = None, most: float | None = None) -> Target:
    """The promise that no row is below `least` or above `most`."""
    found = [(r, name) for name, f in rows.items() if (r := ratio(f)) is not None]
    if not found:
        return Target(promise)
    r, name = min(found) if least is not None else max(found)
    return Target(promise, f"{number(r)} ({name})", r >= least if least is not None else r <= (most or 0.0))


def promises(measured: Mapping[int, Rows], *, markdown: bool) -> str:
    """The targets, for each number of cores."""
    cells = []
    for cores, rows in measured.items():
        for target in targets(rows):
            if target.kept is not None:
                cells.append([f"{_cores(cores)}, {target.promise}", target.figure, ANSWERS[target.kept]])
    return f"Targets\n\n{render(['', 'measured', 'holds'], cells, markdown=markdown)}" if cells else ""


def misses(measured: Mapping[int, Rows]) -> str:
    """The rows in which later calls are slower than JAX's, the slowest first."""
    lines = []
    for cores, rows in measured.items():
        slower = sorted((r, name) for name, f in rows.items() if (r := warm(f)) is not None and r < 1.0)
        if slower:
            names = "; ".join(f"{name} ({number(r)})" for r, name in slower)
            lines.append(f"Slower than JAX, {_cores(cores)}, {len(slower)} of {len(rows)} rows: {names}.")
    return "\n\n".join(lines)
