"""For MkDocs: what the library prints while a block runs is shown below it, like what the block itself prints.

markdown-exec gives the code of a block a `print` of its own, and leaves `sys.stdout` alone.
"""

from __future__ import annotations

import sys
from typing import Any, TextIO


class _Blocks:
    """A stream that hands what is written on to the block that is running."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Print the text in the innermost block; where none is running, write it to the stream."""
        frame = sys._getframe(1)
        while not frame.f_code.co_filename.startswith("<code block"):
            if frame.f_back is None:
                return self.stream.write(text)
            frame = frame.f_back
        frame.f_globals["print"](text, end="")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def on_pre_build(config: Any) -> None:
    """Before the pages are built."""
    sys.stdout = _Blocks(sys.stdout)  # type: ignore[assignment]  # all that is asked of a stream here


def on_post_build(config: Any) -> None:
    """When they are."""
    if isinstance(sys.stdout, _Blocks):
        sys.stdout = sys.stdout.stream
