"""Tables as aligned text or as Markdown, and numbers that fit into them."""

from __future__ import annotations

from collections.abc import Sequence

NOTHING = "-"


def number(value: float | None) -> str:
    """Three digits or so; "-" for None."""
    if value is None:
        return NOTHING
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def render(header: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """A table whose first column is text and whose other columns are numbers."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    if markdown:
        rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
        return "\n".join(f"| {' | '.join(_align(cells, widths))} |" for cells in (header, rule, *rows))
    rule = ["-" * width for width in widths]
    return "\n".join("  ".join(_align(cells, widths)).rstrip() for cells in (header, rule, *rows))


def _align(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = cells
    return [
        first.ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)),
    ]
