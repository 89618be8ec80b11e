"""Ahead of time: what a jitted function does for arguments of certain types, to look at, and compiled for them.

A `Lowered` is staged, and shows its stages; a `Compiled` can be called, with such arguments and no others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, final

from funcgrad import tree as pytree
from funcgrad.core.errors import ArgumentError
from funcgrad.core.ir import Jaxpr
from funcgrad.core.types import ArrayType
from funcgrad.transforms.jit_cache import Program
from funcgrad.transforms.signature import Key, Signature, leaf_types


class Found(NamedTuple):
    """A program and what it was found with; `again` if it was there before."""

    program: Program
    key: Key
    values: tuple[Any, ...]
    leaves: list[Any]
    traced: bool
    again: bool

    def result(self) -> Any:
        """What the program makes of the leaves."""
        return self.program.apply(self.leaves) if self.traced else self.program.compute(self.leaves)


@final
class Lowered:
    """A function staged for arguments of certain types; `JitFunction.lower` makes it.

    Attributes:
        jaxpr: The program, as it was traced.
        in_types: The arguments that are not static, with a type for each array: `(args, kwargs)`.
        out_info: The result, with a type for each array.
    """

    __slots__ = ("_found", "_signature")

    def __init__(self, signature: Signature, found: Found) -> None:
        self._signature = signature
        self._found = found

    @property
    def jaxpr(self) -> Jaxpr:
        """The program, as it was traced."""
        return self._found.program.jaxpr

    @property
    def in_types(self) -> Any:
        """The arguments that are not static, with a type for each array: `(args, kwargs)`."""
        return pytree.unflatten(self._found.key[0], self.jaxpr.in_types)

    @property
    def out_info(self) -> Any:
        """The result, with a type for each array."""
        return pytree.unflatten(self._found.program.structure, self.jaxpr.out_types)

    def as_text(self, stage: str = "jaxpr", *, source: bool = False) -> str:
        """One stage of the program on its way to machine code, as text.

        Args:
            stage: `"jaxpr"`, the program as it was traced; `"kernels"`, its loop nests; `"llvm"`, these as code for
                LLVM; or `"asm"`, the machine code. The last three are empty where NumPy runs all of the program.
            source: With the jaxpr, the line of user code that each equation comes from.

        Raises:
            ArgumentError: There is no such stage.
        """
        if stage == "jaxpr":
            return self.jaxpr.show(source)
        if stage not in ("kernels", "llvm", "asm"):
            raise ArgumentError(f"there is no stage {stage!r}", "'jaxpr', 'kernels', 'llvm' or 'asm'")
        return self._found.program.compile().stage(stage)

    def compile(self) -> Compiled:
        """Compile the program, without running it."""
        self._found.program.compile()
        return Compiled(self._signature, self._found)

    def __repr__(self) -> str:
        return self.as_text()


def _bytes(types: Sequence[ArrayType]) -> int:
    return sum(math.prod(t.shape) * t.dtype.itemsize for t in types)


class MemoryAnalysis(NamedTuple):
    """The memory of a call of a compiled function, in bytes.

    Attributes:
        argument_size_in_bytes: That of the arguments that are not static.
        output_size_in_bytes: That of the result.
        temp_size_in_bytes: What machine code needs besides, without what a loop of unknown length saves for its
            backward pass. What is needed between pieces of machine code is not known beforehand, and not included.

    Examples:
        >>> import funcgrad as fg
        >>> fg.jit(lambda x: x + 1).lower(np.ones(1000)).compile().memory_analysis()
        MemoryAnalysis(argument_size_in_bytes=8000, output_size_in_bytes=8000, temp_size_in_bytes=0)
    """

    argument_size_in_bytes: int
    output_size_in_bytes: int
    temp_size_in_bytes: int


@final
class Compiled:
    """A compiled program, for arguments of certain types; `Lowered.compile` makes it."""

    __slots__ = ("_found", "_signature")

    def __init__(self, signature: Signature, found: Found) -> None:
        self._signature = signature
        self._found = found

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The result for arguments of the types that the program was compiled for.

        Raises:
            DTypeError: They have other types, or other static values.
        """
        split = self._signature.split(args, kwargs)
        leaves, structure = pytree.flatten((split.args, split.kwargs))
        types, traced = leaf_types(leaves)
        program, key, values = self._found[:3]
        self._signature.check_equal((structure, types, split.static), key, split.values, values)
        return Found(program, key, values, leaves, traced or program.traced, True).result()

    @property
    def in_types(self) -> Any:
        """As in `Lowered`."""
        return Lowered(self._signature, self._found).in_types

    @property
    def out_info(self) -> Any:
        """As in `Lowered`."""
        return Lowered(self._signature, self._found).out_info

    def memory_analysis(self) -> MemoryAnalysis:
        """How much memory a call works with.

        Examples:
            >>> import funcgrad as fg
            >>> compiled = fg.jit(lambda x: np.sin(x) @ x).lower(np.ones(1000)).compile()
            >>> compiled.memory_analysis().argument_size_in_bytes
            8000
        """
        jaxpr, executable = self._found.program.jaxpr, self._found.program.compile()
        return MemoryAnalysis(_bytes(jaxpr.in_types), _bytes(jaxpr.out_types), executable.temporary)

    def as_text(self) -> str:
        """The program as it runs: simplified, one line for each operation."""
        return self._found.program.compile().as_text()

    def __repr__(self) -> str:
        return self.as_text()
