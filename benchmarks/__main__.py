"""``python -m benchmarks``: measure, print the tables, and fail only where a gradient is wrong."""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from benchmarks import memory, report
from benchmarks.imports import import_times
from benchmarks.libraries import NAMES, Library, is_installed, load_installed
from benchmarks.rows import ROWS, Row, complaint, contenders
from benchmarks.targets import Measured
from benchmarks.timing import FULL, QUICK, best_times

IMPORT_ROW = "import"
MEMORY_ROW = "memory"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    print(_machine())
    libraries = load_installed()
    measured, wrong = Measured(), list[str]()
    gc.collect()
    gc.freeze()  # what the imports left is no garbage of any contender
    for row in ROWS:
        if options.rows.casefold() in row.name.casefold():
            _progress(row.name)
            measured.times[row] = _measure(row, libraries, wrong, quick=options.quick)
    if options.rows.casefold() in MEMORY_ROW:
        measured.memory = _measure_memory(quick=options.quick)
    if options.rows.casefold() in IMPORT_ROW:
        _progress("imports")
        measured.imports = import_times(rounds=3 if options.quick else 7)
    _progress("")
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
        help=f"only the rows whose name contains TEXT (also {MEMORY_ROW!r}, {IMPORT_ROW!r})",
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


def _measure_memory(*, quick: bool) -> dict[str, dict[str, float]]:
    """Peak ratios by chain and library, for the libraries whose arrays are NumPy's."""
    n = 100_000 if quick else 1_000_000
    names = [name for name in ("funcgrad", "autograd") if is_installed(name)]
    ratios: dict[str, dict[str, float]] = {}
    for chain in memory.CHAINS:
        _progress(f"memory, 200 × {chain}")
        ratios[chain] = {name: memory.peak_ratio(name, chain, n) for name in names}
    return ratios


def _machine() -> str:
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
    tables.append(report.others(measured, markdown=markdown))
    if not options.rows:
        tables.append(report.promises(measured, markdown=markdown))
    print("\n\n".join(table for table in tables if table))


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
