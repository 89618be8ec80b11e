"""``python -m benchmarks``: measure, print the tables, and fail only where a gradient is wrong."""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from benchmarks import memory, report
from benchmarks.growth import checkpointing, loop_growth
from benchmarks.imports import import_times
from benchmarks.libraries import NAMES, Library, is_installed, load_installed
from benchmarks.programs import (
    CONTENDERS,
    PROGRAM_ROWS,
    ProgramRow,
    Tools,
    installed_tools,
    program_complaint,
    program_contenders,
)
from benchmarks.rows import ROWS, Row, complaint, contenders
from benchmarks.targets import Measured
from benchmarks.timing import FULL, QUICK, best_times

IMPORT_ROW = "import"
MEMORY_ROW = "memory"
GROWTH_ROW = "growth"
CHECKPOINT_ROW = "checkpoint"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    print(machine())
    libraries = load_installed()
    measured, wrong = Measured(), list[str]()
    gc.collect()
    gc.freeze()  # what the imports left is no garbage of any contender
    for row in ROWS:
        if options.rows.casefold() in row.name.casefold():
            progress(row.name)
            measured.times[row] = _measure(row, libraries, wrong, quick=options.quick)
    tools = installed_tools()
    for program in PROGRAM_ROWS:
        if options.rows.casefold() in program.name.casefold():
            progress(program.name)
            measured.programs[program] = _measure_program(program, tools, wrong, quick=options.quick)
    _measure_costs(measured, options)
    if options.rows.casefold() in MEMORY_ROW:
        measured.memory = _measure_memory(quick=options.quick)
    if options.rows.casefold() in IMPORT_ROW:
        progress("imports")
        measured.imports = import_times(rounds=3 if options.quick else 7)
    progress("")
    _print(measured, options)
    for message in wrong:
        print(f"WRONG: {message}", file=sys.stderr)
    return 1 if wrong else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare funcgrad with its peers.")
    parser.add_argument("--quick", action="store_true", help="less than a minute, with more noise")
    parser.add_argument(
        "--rows",
        default="",
        metavar="TEXT",
        help="only the rows whose name contains TEXT (also "
        f"{GROWTH_ROW!r}, {CHECKPOINT_ROW!r}, {MEMORY_ROW!r}, {IMPORT_ROW!r})",
    )
    parser.add_argument("--absolute", action="store_true", help="also print the time of every contender")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    return parser.parse_args(arguments)


def _measure(row: Row, libraries: Sequence[Library], wrong: list[str], *, quick: bool) -> dict[str, float]:
    """The time of each contender whose derivative is right."""
    absent = {*row.left_out, *(row.slow if quick else ())}
    problem = row.problem()
    calls = contenders(problem, [library for library in libraries if library.name not in absent])
    for name in NAMES:
        if name in calls and (what := complaint(problem, calls[name])):
            wrong.append(f"{row.name}: {name} {what}")
            del calls[name]
    return best_times(calls, QUICK if quick else FULL)


def _measure_program(row: ProgramRow, tools: Mapping[str, Tools], wrong: list[str], *, quick: bool) -> dict[str, float]:
    """The time of each contender whose result is right."""
    slow = row.slow if quick else ()
    calls, expected = program_contenders(row, {name: t for name, t in tools.items() if name not in slow})
    for name in CONTENDERS:
        if name in calls and (what := program_complaint(calls[name], expected)):
            wrong.append(f"{row.name}: {name} {what}")
            del calls[name]
    return best_times(calls, QUICK if quick else replace(FULL, limit=FULL.limit / 2))


def _measure_costs(measured: Measured, options: argparse.Namespace) -> None:
    """What funcgrad alone promises of loops and checkpoints."""
    effort = QUICK if options.quick else FULL
    if not is_installed("funcgrad"):
        return
    if options.rows.casefold() in GROWTH_ROW:
        progress("growth of a scan")
        measured.growth = loop_growth(effort)
    if options.rows.casefold() in CHECKPOINT_ROW:
        for how, jit in (("eager", False), ("jit", True)):
            progress(f"checkpoint, {how}")
            measured.checkpointing[how] = checkpointing(effort, jit=jit)


def _measure_memory(*, quick: bool) -> dict[str, dict[str, float]]:
    """Peak ratios by chain and library, for the libraries whose arrays are NumPy's."""
    n = 100_000 if quick else 1_000_000
    names = [name for name in ("funcgrad", "autograd") if is_installed(name)]
    ratios: dict[str, dict[str, float]] = {}
    for chain in memory.CHAINS:
        progress(f"memory, 200 × {chain}")
        ratios[chain] = {name: memory.peak_ratio(name, chain, n) for name in names}
    return ratios


def machine() -> str:
    """One line that says what was compared, and where."""
    found = []
    for package in ("funcgrad", "numpy", "autograd", "jax", "torch"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} -")
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    return f"Python {platform.python_version()}, {', '.join(found)}; {machine}\n"


def _print(measured: Measured, options: argparse.Namespace) -> None:
    markdown: bool = options.markdown
    tables = []
    if measured.times:
        tables.append(report.gradients(measured, markdown=markdown))
        if options.absolute and is_installed("funcgrad"):
            tables.append(report.absolute(measured, markdown=markdown))
    if measured.programs:
        tables.append(report.programs(measured, markdown=markdown))
        if options.absolute:
            tables.append(report.program_times(measured, markdown=markdown))
    tables.append(report.others(measured, markdown=markdown))
    if not options.rows or measured.growth or measured.checkpointing:
        tables.append(report.promises(measured, everything=not options.rows, markdown=markdown))
    print("\n\n".join(table for table in tables if table))


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
