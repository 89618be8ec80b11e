"""The measured figures as tables."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.libraries import NAMES, PEERS
from benchmarks.programs import AUTOGRAD, CONTENDERS, EAGER, JAX, JIT, LOOP, ProgramRow
from benchmarks.rows import BY_HAND, FORWARD, Row, Size
from benchmarks.table import NOTHING, number, render
from benchmarks.targets import FUNCGRAD, Measured, targets

RATIOS = """\
Gradients. First column: the time of funcgrad in µs. "×": how many times faster funcgrad is than the library
(the library's time / funcgrad's time). "/": how many forward passes of NumPy, or gradients by hand in NumPy,
one gradient by funcgrad takes (funcgrad's time / NumPy's time)."""

TIMES = "Gradients, time in µs"

PROGRAMS = """\
Programs. First column: the time of a function that funcgrad has jitted, in µs. "×": how many times faster it is than
the other. The last column: how many times NumPy by hand it takes."""

PROGRAM_TIMES = "Programs, time in µs"

ANSWERS = {True: "yes", False: "NO", None: NOTHING}


def gradients(measured: Measured, *, markdown: bool) -> str:
    """The main table; without funcgrad there are no ratios, so it shows times."""
    if not any(FUNCGRAD in times for times in measured.times.values()):
        return absolute(measured, markdown=markdown)
    header = ["", "funcgrad, µs", *(f"{peer}, ×" for peer in PEERS), "/ NumPy forward", "/ NumPy by hand"]
    rows = []
    for row, times in measured.times.items():
        faster = [number(measured.ratio(row, peer)) for peer in PEERS]
        cost = [number(measured.ratio(row, FUNCGRAD, base)) for base in (FORWARD, BY_HAND)]
        rows.append([row.name, _micros(times.get(FUNCGRAD)), *faster, *cost])
    if any(row.size is Size.SMALL for row in measured.times):
        means = [number(measured.mean_ratio(peer)) for peer in PEERS]
        rows.append(["geometric mean, small rows", "", *means, "", ""])
    return f"{RATIOS}\n\n{render(header, rows, markdown=markdown)}{_footnotes(measured.times)}"


def absolute(measured: Measured, *, markdown: bool) -> str:
    """Every time in microseconds."""
    columns = (*NAMES, FORWARD, BY_HAND)
    header = ["", *NAMES, "NumPy forward", "NumPy by hand"]
    rows = [[row.name, *(_micros(times.get(c)) for c in columns)] for row, times in measured.times.items()]
    return f"{TIMES}\n\n{render(header, rows, markdown=markdown)}{_footnotes(measured.times)}"


def programs(measured: Measured, *, markdown: bool) -> str:
    """The table of loops, batches and calls, beside the jitted function of funcgrad."""
    if not any(JIT in times for times in measured.programs.values()):
        return program_times(measured, markdown=markdown)
    others = (EAGER, LOOP, AUTOGRAD, JAX)
    header = ["", f"{JIT}, µs", *(f"{name}, ×" for name in others), "/ NumPy by hand"]
    rows = []
    for row, times in measured.programs.items():
        mine = times.get(JIT)
        faster = [number(times[name] / mine if mine and name in times else None) for name in others]
        rows.append([row.name, _micros(mine), *faster, number(mine / times[BY_HAND] if mine else None)])
    return f"{PROGRAMS}\n\n{render(header, rows, markdown=markdown)}{_footnotes(measured.programs)}"


def program_times(measured: Measured, *, markdown: bool) -> str:
    """Every time of that table in microseconds."""
    header = ["", *(name if name != BY_HAND else "NumPy by hand" for name in CONTENDERS)]
    rows = [[row.name, *(_micros(times.get(c)) for c in CONTENDERS)] for row, times in measured.programs.items()]
    return f"{PROGRAM_TIMES}\n\n{render(header, rows, markdown=markdown)}{_footnotes(measured.programs)}"


def others(measured: Measured, *, markdown: bool) -> str:
    """Overhead, memory and import, which have other units."""
    columns = (FUNCGRAD, "autograd", "jax eager", "torch")
    imports = {("jax eager" if name == "jax" else name): s * 1e3 for name, s in measured.imports.items()}
    lines = [("overhead per primitive, µs", {c: measured.overhead(c) for c in columns})]
    lines += [(f"peak memory / saved values, 200 × {c}", dict(r)) for c, r in measured.memory.items()]
    lines.append(("import beyond NumPy, ms", dict(imports)))
    rows = [[name, *(number(figures.get(c)) for c in columns)] for name, figures in lines if any(figures.values())]
    if not rows:
        return ""
    return f"Other costs\n\n{render(['', *columns], rows, markdown=markdown)}"


def promises(measured: Measured, *, everything: bool, markdown: bool) -> str:
    """The targets, and whether they hold; "-", or no line, where a run did not measure that."""
    found = [target for target in targets(measured) if everything or target.kept is not None]
    if not found:
        return ""
    rows = [[target.promise, target.figure, ANSWERS[target.kept]] for target in found]
    return f"Targets\n\n{render(['', 'measured', 'holds'], rows, markdown=markdown)}"


def _micros(seconds: float | None) -> str:
    return number(None if seconds is None else seconds * 1e6)


def _footnotes(rows: Iterable[Row | ProgramRow]) -> str:
    notes = [f"{row.name}: without {name}, because {why}." for row in rows for name, why in row.left_out.items()]
    return "\n\n" + "\n".join(notes) if notes else ""
