"""What the documentation says is true: every Python block of every page runs.

The blocks of a page run in order and share their names, as if a reader typed them into one session. A warning
is an error. A block whose fence says `raises="SomeError"` has to end with exactly that exception;
such a block is shown as it is, and not run again while the site is built (no `exec="on"`).
"""

import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.usefixtures("uncompared")

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>.*?)[ \t]*$")
PYTHON = re.compile(r"^(python|py)(?![\w-])(?P<attributes>.*)$")
RAISES = re.compile(r"""\braises=(["'])(?P<name>\w+)\1""")


@dataclass(frozen=True)
class Block:
    """A fenced Python block: its code, the line of the page where the code begins, and how it has to end."""

    code: str
    line: int
    raises: str | None


def blocks(text: str) -> Iterator[Block]:
    """The Python blocks of a page, also of those within lists, admonitions and tabs."""
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if not (start := FENCE.match(line)):
            continue
        body = []
        for _, inner in lines:
            end = FENCE.match(inner)
            if end and not end["info"] and end["fence"].startswith(start["fence"]):
                break
            body.append(inner.removeprefix(start["indent"]))
        else:
            raise ValueError(f"the block that line {number} opens is never closed")
        if python := PYTHON.match(start["info"]):
            raises = RAISES.search(python["attributes"])
            yield Block("\n".join(body), number + 1, raises["name"] if raises else None)


def line_of(error: Exception, page: Path, default: int) -> int:
    """The line of the page on which `error` arose, innermost first."""
    if isinstance(error, SyntaxError) and error.filename == str(page):
        return error.lineno or default
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno for f in reversed(frames) if f.filename == str(page) and f.lineno), default)


def run(block: Block, page: Path, names: dict[str, object]) -> str | None:
    """Run one block; return what is wrong with it."""
    source = "\n" * (block.line - 1) + block.code  # a traceback, too, then shows lines of the page
    try:
        exec(compile(source, page, "exec", dont_inherit=True), names)
    except Exception as error:
        if type(error).__name__ == block.raises:
            return None
        place = f"{page}:{line_of(error, page, block.line)}"
        wanted = f" where the page promises {block.raises}" if block.raises else ""
        return f"{place}: {type(error).__name__}{wanted}: {error}"
    if block.raises:
        return f"{page}:{block.line}: nothing was raised where the page promises {block.raises}"
    return None


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", session)
    monkeypatch.chdir(tmp_path)
    for block in blocks(page.read_text(encoding="utf-8")):
        if problem := run(block, page, vars(session)):
            pytest.fail(f"{problem}\n\n{block.code}", pytrace=False)


PAGE = '''
Text, and a block that is not Python:

```sh
exit 1
```

```python exec="on" source="above" result="text"
x = 1
```

!!! note
    ~~~~python
    def f():
        """
        ~~~
        """
    y = x + 1
    ~~~~

```python raises="ZeroDivisionError"
y / 0
```
'''


def test_blocks_are_found_with_their_lines_wherever_they_stand() -> None:
    assert list(blocks(PAGE)) == [
        Block("x = 1", 9, None),
        Block('def f():\n    """\n    ~~~\n    """\ny = x + 1', 14, None),
        Block("y / 0", 22, "ZeroDivisionError"),
    ]


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (Block("x = 1\n\nx / 0", 5, None), "page.md:7: ZeroDivisionError: division by zero"),
        (Block("def f(:", 5, None), "page.md:5: SyntaxError: invalid syntax"),
        (Block("1 / 0", 5, "KeyError"), "page.md:5: ZeroDivisionError where the page promises KeyError"),
        (Block("1 / 1", 5, "KeyError"), "page.md:5: nothing was raised where the page promises KeyError"),
        (Block("{}[0]", 5, "LookupError"), "page.md:5: KeyError where the page promises LookupError"),
        (Block("import warnings\nwarnings.warn('w')", 5, None), "page.md:6: UserWarning: w"),
    ],
)
def test_a_block_that_lies_is_reported_with_page_and_line(block: Block, problem: str) -> None:
    assert str(run(block, Path("page.md"), {})).startswith(problem)
