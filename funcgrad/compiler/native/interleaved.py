"""Every second element: pairs of accesses that together are one access of twice as many neighbours.

Real and imaginary parts lie so in memory. Two loads of a vector each become two loads of neighbours and a shuffle; an
access that is alone masks the elements between out. Either is much cheaper than collecting elements one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from funcgrad.compiler.native.builder import Builder, Type, Value, constant
from funcgrad.compiler.native.kernel import Load, Statement, Store
from funcgrad.compiler.native.nest import Access, Axis, Nest


def twins(lists: Iterable[Sequence[Statement]], nest: Nest) -> Mapping[Access, Access]:
    """For each access of every second element along the lanes, the one of the elements between, if there is one.

    Args:
        lists: The statements in groups that are run together.
        nest: How they are run.
    """
    found: dict[Access, Access] = {}
    for statements in lists:
        groups: dict[object, list[Access]] = {}
        for s in statements:
            if isinstance(s, Load | Store) and s not in found and is_second(s, nest.along):
                on = nest.depends[s if isinstance(s, Store) else s.out]
                groups.setdefault((type(s), s.buffer, s.view.strides, on), []).append(s)
        for group in groups.values():
            rest = sorted(group, key=lambda s: s.view.offset)
            while len(rest) > 1:
                first, second = rest[:2]
                if second.view.offset == first.view.offset + 1:
                    found[first], found[second] = second, first
                    del rest[0]
                del rest[0]
    return found


def is_second(s: Access, along: Axis | None) -> bool:
    """True if it accesses every second element along an axis, at places that are known beforehand."""
    plain = isinstance(s, Load) or s.combine is None
    return along is not None and along.strides[s] == 2 and not s.offsets and plain


def load(b: Builder, lane: str, lanes: int, place: Value, size: int, mask: Value | None, both: bool) -> list[Value]:
    """The elements at even places from an address on, and if `both`, those at odd places."""
    type = Type(lane, 2 * lanes)
    wide = _mask(b, lanes, mask, both)
    if wide is None:
        x = b.load(type, place, size)
    else:
        name = f"llvm.masked.load.{type.suffix}.p0"
        b.module.declare_text(name, f"declare {type} @{name}(ptr, {wide.type}, {type})")
        x = b.emit(f"call {type} @{name}(ptr align {size} {place.text}, {wide}, {type} zeroinitializer)", type)
    return [b.shuffle(x, x, range(start, 2 * lanes, 2)) for start in range(1 + both)]


def store(b: Builder, xs: Sequence[Value], place: Value, size: int, mask: Value | None) -> None:
    """Write elements to even places from an address on, and if there are two vectors, to odd places."""
    lanes = xs[0].type.lanes
    x = b.shuffle(xs[0], xs[-1], [i + k * lanes for i in range(lanes) for k in (0, 1)])
    wide = _mask(b, lanes, mask, len(xs) == 2)
    if wide is None:
        b.store(x, place, size)
        return
    name = f"llvm.masked.store.{x.type.suffix}.p0"
    b.module.declare_text(name, f"declare void @{name}({x.type}, ptr, {wide.type})")
    b.do(f"call void @{name}({x}, ptr align {size} {place.text}, {wide})")


def _mask(b: Builder, lanes: int, mask: Value | None, both: bool) -> Value | None:
    """The mask of the lanes as one of twice as many."""
    if both:
        return None if mask is None else b.shuffle(mask, mask, [i // 2 for i in range(2 * lanes)])
    every = mask or constant(Type("i1", lanes), True)
    none = constant(Type("i1", lanes), False)
    return b.shuffle(every, none, [i + k * lanes for i in range(lanes) for k in (0, 1)])
