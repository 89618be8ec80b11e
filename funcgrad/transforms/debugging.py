"""What to watch for while a computation runs: the first NaN, the first infinity, values that outlive their trace.

Each is a context manager that holds for the thread it is entered in, and a variable in the environment that holds for
all. Without them nothing is looked at, and nothing is paid.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np

from funcgrad.core.watch import also_watching


@contextmanager
def debug_nans(enable: bool = True) -> Iterator[None]:
    """Within the block, the first NaN that an operation makes of numbers raises an error that says where.

    The message names the primitive, the line of the forward pass, the pass, forward or backward, and the numbers that
    the NaN was made of. A NaN that was there before, among the inputs, is passed on. What a function for `jit` does is
    run equation by equation, without compiled code.

    It holds for traced values, in this thread: for what is differentiated, batched or compiled. Plain NumPy code has
    `numpy.errstate(invalid="raise")`. `FUNCGRAD_DEBUG_NANS=1` in the environment holds everywhere.

    Args:
        enable: False ends the watch within the block.

    Raises:
        NaNError: An operation made a NaN.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> with fg.debug_nans():
        ...     fg.grad(lambda x: np.sqrt(x) ** 2)(0.0)
        Traceback (most recent call last):
        ...
        funcgrad.core.errors.NaNError: [FG020] the pullback of sqrt gives NaN in the backward pass, where ...
    """
    # the error takes the place of NumPy's warning
    with also_watching(nans=enable), np.errstate(invalid="ignore" if enable else None):
        yield


@contextmanager
def debug_infs(enable: bool = True) -> Iterator[None]:
    """Within the block, the first infinity that an operation makes of finite numbers raises an error that says where.

    It is the twin of `debug_nans`. Many a NaN is made of an infinity, some steps before: this finds it.
    `FUNCGRAD_DEBUG_INFS=1` in the environment holds everywhere.

    Args:
        enable: False ends the watch within the block.

    Raises:
        NaNError: An operation made an infinity.

    Examples:
        >>> import numpy as np
        >>> import funcgrad as fg
        >>> with fg.debug_infs():
        ...     fg.grad(lambda x: np.sqrt(x))(0.0)
        Traceback (most recent call last):
        ...
        funcgrad.core.errors.NaNError: [FG020] the pullback of sqrt gives an infinity in the backward pass, where ...
    """
    silent: Literal["ignore"] | None = "ignore" if enable else None
    with also_watching(infs=enable), np.errstate(divide=silent, over=silent):
        yield


@contextmanager
def checking_leaks(enable: bool = True) -> Iterator[None]:
    """Within the block, a traced value that outlives its trace is an error at once, not when it is used.

    When a traced function has returned, all objects of the program are searched for its traced values. The message
    names what still refers to one, and the line that made it. This takes some milliseconds for each trace.

    It holds for the traces of `grad`, `vjp`, `vmap`, `make_jaxpr`, `jit` and control flow, in this thread; a function
    that raises is not searched for. `FUNCGRAD_CHECK_TRACER_LEAKS=1` in the environment holds everywhere.

    Args:
        enable: False ends the check within the block.

    Raises:
        LeakedTracerError: A traced value is still referred to.

    Examples:
        >>> import funcgrad as fg
        >>> kept = []
        >>> with fg.checking_leaks():
        ...     fg.grad(lambda x: kept.append(2 * x) or x)(1.0)
        Traceback (most recent call last):
        ...
        funcgrad.core.errors.LeakedTracerError: ... by a list in global variable 'kept' ...
    """
    with also_watching(leaks=enable):
        yield
