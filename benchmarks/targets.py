"""What funcgrad promises about its speed and memory, each promise beside the measured figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import geometric_mean

from benchmarks.growth import LONG, SHORT, Checkpointing, LoopGrowth
from benchmarks.programs import ProgramRow
from benchmarks.rows import BY_HAND, LONG_LOOP, OVERHEAD, OVERHEAD_PRIMITIVES, ROWS, SHORT_LOOP, Row, Size

FUNCGRAD = "funcgrad"


@dataclass(slots=True)
class Measured:
    """Everything that one run measured: seconds by row and contender, ratios by chain, seconds by import."""

    times: dict[Row, dict[str, float]] = field(default_factory=dict)
    programs: dict[ProgramRow, dict[str, float]] = field(default_factory=dict)
    growth: LoopGrowth | None = None
    checkpointing: dict[str, Checkpointing] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    imports: dict[str, float] = field(default_factory=dict)

    def ratio(self, row: Row, slower: str, faster: str = FUNCGRAD) -> float | None:
        """How many times faster `faster` is; None where one of them was not measured."""
        times = self.times.get(row, {})
        return times[slower] / times[faster] if slower in times and faster in times else None

    def mean_ratio(self, peer: str) -> float | None:
        """The geometric mean of funcgrad's lead over the small rows that were measured."""
        rows = [row for row in self.times if row.size is Size.SMALL]
        ratios = [ratio for row in rows if (ratio := self.ratio(row, peer)) is not None]
        return geometric_mean(ratios) if ratios else None

    def overhead(self, contender: str) -> float | None:
        """Microseconds for each primitive of the long chain, beyond NumPy's own time there and back."""
        times = self.times.get(_row(OVERHEAD), {})
        if contender not in times or BY_HAND not in times:
            return None
        return (times[contender] - times[BY_HAND]) / OVERHEAD_PRIMITIVES * 1e6


@dataclass(frozen=True, slots=True)
class Target:
    """A promise, the figure, and whether it keeps the promise; None where it was not measured."""

    promise: str
    figure: str = "-"
    kept: bool | None = None


def targets(measured: Measured) -> Iterator[Target]:
    """The targets in the order of importance."""
    yield at_least("gradient of small rows: times faster than autograd", 3.0, measured.mean_ratio("autograd"))
    yield _never_slower(measured)
    yield at_least("gradient of small rows: times faster than JAX eager", 25.0, measured.mean_ratio("jax eager"))
    yield at_most("overhead per primitive, in µs", 4.0, measured.overhead(FUNCGRAD))
    for row in ROWS:
        if row.size is Size.LARGE:
            promise = f"{row.name}: funcgrad / NumPy by hand"
            yield at_most(promise, 1.10, measured.ratio(row, FUNCGRAD, BY_HAND))
    yield at_most("x[i] loop: time for n = 4,000 / time for n = 400", 12.0, _growth(measured.times))
    yield from _growth_targets(measured.growth)
    for how, figures in measured.checkpointing.items():
        yield _checkpoint_target(how, figures)
    for chain, ratios in measured.memory.items():
        yield at_most(f"peak memory / saved values, 200 × {chain}", 1.10, ratios.get(FUNCGRAD))
    seconds = measured.imports.get(FUNCGRAD)
    yield at_most("import beyond NumPy, in ms", 60.0, None if seconds is None else seconds * 1e3)


def _row(name: str, rows: Sequence[Row] = ROWS) -> Row:
    return next(row for row in rows if row.name == name)


def _growth(times: Mapping[Row, Mapping[str, float]]) -> float | None:
    long, short = (times.get(_row(name), {}).get(FUNCGRAD) for name in (LONG_LOOP, SHORT_LOOP))
    return None if long is None or short is None else long / short


def _never_slower(measured: Measured) -> Target:
    promise = "slower than autograd in no row: least times faster ≥ 1"
    ratios = {row.name: measured.ratio(row, "autograd") for row in measured.times}
    least, name = min(((r, name) for name, r in ratios.items() if r is not None), default=(math.nan, ""))
    return Target(promise) if math.isnan(least) else Target(promise, f"{least:.2f} ({name})", least >= 1.0)


def _growth_targets(growth: LoopGrowth | None) -> Iterator[Target]:
    what = f"gradient of a scan of {LONG:,} steps / {SHORT:,}"
    yield at_most(f"{what}: time", 4.8, None if growth is None else growth.time)
    yield at_most(f"{what}: peak memory", 4.4, None if growth is None else growth.memory)
    promise = "equations of its jaxpr: as many for both"
    if growth is None:
        yield Target(promise)
    else:
        short, long = growth.equations
        yield Target(promise, f"{short}, {long}", short == long)


def _checkpoint_target(how: str, figures: Checkpointing) -> Target:
    promise = f"checkpoint of 64 blocks, {how}: times less memory ≥ 4, more forward passes ≤ 1.2"
    kept = figures.memory >= 4.0 and figures.forward_passes <= 1.2
    return Target(promise, f"{figures.memory:.2f}, {figures.forward_passes:.2f}", kept)


def at_least(promise: str, limit: float, figure: float | None) -> Target:
    promise = f"{promise} ≥ {limit:g}"
    return Target(promise) if figure is None else Target(promise, f"{figure:.2f}", figure >= limit)


def at_most(promise: str, limit: float, figure: float | None) -> Target:
    promise = f"{promise} ≤ {limit:g}"
    return Target(promise) if figure is None else Target(promise, f"{figure:.2f}", figure <= limit)
