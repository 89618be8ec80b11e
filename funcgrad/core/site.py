"""Which expression of the user's code is running: messages quote it, and say what to write in its place.

The interpreter knows the columns of each instruction. The syntax tree of the source tells what stands there, and in
which construct: the condition of an `if`, an operand of `and`, an index, a call. Nothing is evaluated; where there is
no source, there is no answer.
"""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import itertools
import linecache
from types import FrameType, ModuleType
from typing import Any, final

from funcgrad.core.errors import user_frame

_SHORT = 60


@final
class Site:
    """An expression (or a statement) of user code that is running now.

    Args:
        node: Its syntax tree.
        parents: What each node of the file is part of.
        frame: Where it runs.
    """

    __slots__ = ("_frame", "_parents", "node")

    def __init__(self, node: ast.AST, parents: dict[ast.AST, ast.AST], frame: FrameType) -> None:
        self.node = node
        self._parents = parents
        self._frame = frame

    @property
    def calls(self) -> bool:
        """True if the running instruction is a call."""
        code, i = self._frame.f_code.co_code, self._frame.f_lasti
        while dis.opname[code[i]] == "CACHE":
            i -= 2
        return dis.opname[code[i]].startswith("CALL")

    def parent(self, node: ast.AST) -> ast.AST | None:
        """What the node is part of."""
        return self._parents.get(node)

    def following(self, statement: ast.AST) -> ast.AST | None:
        """The statement that runs after this one; None where a loop or a function ends."""
        parent = self._parents.get(statement)
        for _, block in ast.iter_fields(parent) if parent is not None else ():
            if isinstance(block, list) and statement in block[:-1]:
                after: ast.AST = block[block.index(statement) + 1]
                return after
        return self.following(parent) if isinstance(parent, ast.If) else None

    def value(self, node: ast.AST | None) -> Any:
        """What a name, or an attribute of a module, stands for here; None for any other expression."""
        if isinstance(node, ast.Name):
            for names in (self._frame.f_locals, self._frame.f_globals, vars(builtins)):
                if node.id in names:
                    return names[node.id]
        if isinstance(node, ast.Attribute):
            module = self.value(node.value)
            return getattr(module, node.attr, None) if isinstance(module, ModuleType) else None
        return None


def running_site() -> Site | None:
    """The innermost expression outside funcgrad and NumPy that is running; None where there is no source."""
    frame = user_frame()
    if frame is None:
        return None
    code = frame.f_code
    line, end_line, column, end_column = next(itertools.islice(code.co_positions(), frame.f_lasti // 2, None))
    nodes, parents = _parsed("".join(linecache.getlines(code.co_filename, frame.f_globals)))
    ending = [node for node in nodes if (node.end_lineno, node.end_col_offset) == (end_line, end_column)]
    exact = [node for node in ending if (node.lineno, node.col_offset) == (line, column)]
    # the position of a call of a method that stands on a line of its own begins there
    calls = [node for node in ending if isinstance(node, ast.Call)]
    found = [node for node in exact if isinstance(node, ast.expr)] or exact or calls
    return Site(found[-1], parents, frame) if found else None


@functools.lru_cache(maxsize=8)
def _parsed(source: str) -> tuple[list[Any], dict[ast.AST, ast.AST]]:
    """The nodes that have a place in the source, the outer ones first, and what each node is part of."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return [], {}
    nodes = list(ast.walk(tree))
    parents = {child: node for node in nodes for child in ast.iter_child_nodes(node)}
    return [node for node in nodes if hasattr(node, "end_lineno")], parents


def code_of(node: ast.AST, otherwise: str) -> str:
    """The node as code; `otherwise`, a name that stands for it, where that is long."""
    text = ast.unparse(node)
    return text if len(text) <= _SHORT and "\n" not in text else otherwise
