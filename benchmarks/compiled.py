"""``python -m benchmarks.compiled``: jitted functions beside JAX's, on one core and on all.

Fails only where a result is wrong.

Each number of cores has a process of its own, which is bound to them before any library is imported, so that XLA, the
BLAS of NumPy and funcgrad all count the same cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import compiled_report as report
from benchmarks.__main__ import machine, progress
from benchmarks.compiled_rows import chosen
from benchmarks.compiled_worker import Figures, available_cores


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    if not chosen(options.rows):
        return 0
    print(machine())
    measured: dict[int, dict[str, Figures]] = {}
    for cores in [options.cores] if options.cores else sorted({1, available_cores()}):
        measured[cores] = _measure(cores, options)
    progress("")
    if options.json:
        figures = {str(cores): {name: _plain(f) for name, f in rows.items()} for cores, rows in measured.items()}
        Path(options.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")
    tables = [report.table(cores, rows, markdown=options.markdown) for cores, rows in measured.items()]
    tables += [report.means(measured, markdown=options.markdown)]
    tables += [report.promises(measured, markdown=options.markdown), report.misses(measured)]
    print("\n\n".join(table for table in tables if table))
    wrong = [f"{name}, {cores}: {f.wrong}" for cores, rows in measured.items() for name, f in rows.items() if f.wrong]
    for message in wrong:
        print(f"WRONG: {message}", file=sys.stderr)
    return 1 if wrong else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compiled", description="Compare jitted functions with those of JAX."
    )
    parser.add_argument("--quick", action="store_true", help="about a minute for each number of cores, with more noise")
    parser.add_argument("--rows", default="", metavar="TEXT", help="only the rows whose name contains TEXT, or a group")
    parser.add_argument("--cores", type=int, metavar="N", help="only on so many cores; else on one, and on all")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE, too")
    parser.add_argument("--absolute", action="store_true", help="no effect here: the times are always there")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    return parser.parse_args(arguments)


def _measure(cores: int, options: argparse.Namespace) -> dict[str, Figures]:
    """The figures of all rows, from a process on so many cores."""
    command = [sys.executable, "-m", "benchmarks.compiled_worker", options.rows, "quick" if options.quick else "full"]
    found: dict[str, Figures] = {}
    with (
        _bound(cores),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | _environment(cores)) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            figures: Mapping[str, Any] = json.loads(line)
            name = figures["row"]
            progress(f"{cores}: {name}")
            found[name] = Figures(figures["first"], figures["warm"], figures["peak"], figures["wrong"])
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return found


@contextlib.contextmanager
def _bound(cores: int) -> Iterator[None]:
    """Stay on so many cores, with all processes that are started meanwhile."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:cores]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _environment(cores: int) -> dict[str, str]:
    """As many threads as cores; and nobody finds a program on the disk, since that would be no first call."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    found = dict.fromkeys(names, str(cores)) | {"FUNCGRAD_CACHE": "0", "JAX_ENABLE_COMPILATION_CACHE": "0"}
    return found | {"PYTHONUNBUFFERED": "1"}


def _plain(figures: Figures) -> dict[str, Any]:
    return {"first": figures.first, "warm": figures.warm, "peak": figures.peak, "wrong": figures.wrong}


if __name__ == "__main__":
    sys.exit(main())
