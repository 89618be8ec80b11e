"""What an index says: an `x[index]` is a tuple of entries, and this is NumPy's arithmetic of them.

Ints, slices and None are part of a primitive; where the entry is `ARRAY`, the next operand holds the positions.

Source: https://numpy.org/doc/stable/user/basics.indexing.html.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, TypeAlias

from funcgrad.core.errors import OutOfBoundsError
from funcgrad.core.types import Array, Shape, broadcast_shapes
from funcgrad.core.views import Places, Position, View, contiguous


class Entry(enum.Enum):
    """A place in an index that an operand fills."""

    ARRAY = "array"


ARRAY = Entry.ARRAY
Entries: TypeAlias = tuple[Any, ...]


def entry_key(entry: Any) -> Any:
    """An entry as a part of a key."""
    return (entry.start, entry.stop, entry.step) if isinstance(entry, slice) else entry


def show_index(entries: Entries) -> str:
    """`0, 1:3, array`."""

    def show(entry: Any) -> str:
        if isinstance(entry, slice):
            parts = ["" if part is None else str(part) for part in (entry.start, entry.stop, entry.step)]
            return ":".join(parts if parts[2] else parts[:2])
        return "array" if entry is ARRAY else "..." if entry is Ellipsis else str(entry)

    return ", ".join(map(show, entries))


def fill(entries: Entries, arrays: tuple[Array, ...]) -> Entries:
    """The index as NumPy takes it, with the operands in their places."""
    if not arrays:
        return entries
    rest = iter(arrays)
    return tuple(next(rest) if entry is ARRAY else entry for entry in entries)


def advanced_place(entries: Entries) -> tuple[int, bool]:
    """How many axes come before those of the index arrays, and whether the arrays stand side by side.

    Arrays that are separated by a slice, or by an ellipsis that stands for no axis, put their axes in front (NumPy,
    "Combining advanced and basic indexing"). An int beside an array counts as an array.
    """
    places = [i for i, entry in enumerate(entries) if entry is ARRAY or isinstance(entry, int)]
    adjacent = places[-1] - places[0] == len(places) - 1
    return (places[0] if adjacent else 0), adjacent


def result_shape(shape: Shape, entries: Entries, array_shapes: list[Shape]) -> Shape:
    """The shape of `x[index]` for an `x` of this shape."""
    try:
        common = broadcast_shapes(*array_shapes)
    except ValueError as error:
        raise OutOfBoundsError(
            f"x[{show_index(entries)}]: the index arrays do not fit each other: {error}",
            "give them shapes that broadcast; numpy.ix_(rows, columns) makes a grid of them",
        ) from None
    place, _ = advanced_place(entries) if array_shapes else (-1, True)
    out: list[int] = []
    axis = 0
    for entry in entries:
        if entry is None:
            out.append(1)
        if entry is None or entry is Ellipsis:
            continue
        if isinstance(entry, slice):
            out.append(len(range(*entry.indices(shape[axis]))))
        axis += 1
    out.extend(shape[axis:])
    if array_shapes:
        out[place:place] = common
    return tuple(out)


def check_entries(entries: Entries, shape: Shape) -> None:
    """Refuse an index that does not fit an array of this shape."""
    axes = [entry for entry in entries if entry is not None and entry is not Ellipsis]
    if len(axes) > len(shape):
        raise OutOfBoundsError(
            f"x[{show_index(entries)}] has {len(axes)} indices, but x has shape {shape}: {len(shape)} axes",
            "give at most one index for each axis",
        )
    for axis, (entry, n) in enumerate(zip(axes, shape, strict=False)):
        if isinstance(entry, int) and not -n <= entry < n:
            raise OutOfBoundsError(
                f"x[{show_index(entries)}]: index {entry} is out of bounds for axis {axis} with size {n}",
                f"indices run from {-n} to {n - 1} here; x[-1] is the last element",
            )


def places(entries: Entries, x: View, first: int = 0, array_shapes: Sequence[Shape] = ()) -> Places:
    """Where the elements of `x[index]` stand in the buffer that `x` is a view of.

    Args:
        entries: Of the index, which fits.
        x: The view.
        first: The number of the operand that holds the positions for the first `ARRAY`. Those for the others follow.
        array_shapes: The shapes of these operands.
    """
    offset = x.offset
    lines: list[tuple[int, int]] = []  # the length and the stride of each axis that no array stands for
    arrays: list[tuple[int, int]] = []  # the same of the axes that arrays stand for
    axis = 0
    for entry in entries:
        if entry is None:
            lines.append((1, 0))
        if entry is None or entry is Ellipsis:
            continue
        n, stride = x.shape[axis], x.strides[axis]
        axis += 1
        if entry is ARRAY:
            arrays.append((n, stride))
        elif isinstance(entry, slice):
            span = range(*entry.indices(n))
            offset += span.start * stride if span else 0
            lines.append((len(span), span.step * stride))
        else:
            offset += entry % n * stride
    lines += zip(x.shape[axis:], x.strides[axis:], strict=True)
    common = broadcast_shapes(*array_shapes)
    place = advanced_place(entries)[0] if arrays else 0
    lines[place:place] = [(n, 0) for n in common]
    shape = tuple([n for n, _ in lines])
    behind = (1,) * (len(shape) - place - len(common))
    positions = [
        Position(operand, contiguous((*own, *behind)).broadcast(shape), n, stride)
        for operand, (own, (n, stride)) in enumerate(zip(array_shapes, arrays, strict=True), first)
    ]
    return Places(View(shape, tuple([stride for _, stride in lines]), offset), tuple(positions))
