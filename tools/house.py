"""Counts of the house: lines of files and functions, packages, arguments. `python tools/house.py` prints them.

Lines of a function are counted without its docstring: the limit is on what must be followed, not on what explains it.
"""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "samplewise"
MAX_FILE, MEDIAN_FILE, MIN_FILE = 350, 130, 25
MAX_FUNCTION, MEDIAN_FUNCTION, MAX_ARGUMENTS = 50, 10, 8
MAX_POSITIONAL = 5
MAX_PACKAGES, MAX_LOOSE = 12, 4
HOSTS = {
    "trainers/hf.py, starting.py, checkpoints.py": 200, "trainers/loop.py": 120, "trainers/trl.py": 120,
    "trainers/dpo.py": 120, "trainers/lightning.py": 120, "trainers/llamafactory_v1.py": 120,
}  # fmt: skip
"""Files of a host, and the most lines of code they may have: its checks and its data loading are not counted."""


@dataclass(frozen=True)
class Function:
    """name: file and function; lines: without the docstring; arguments: that a caller can give."""

    name: str
    lines: int
    arguments: int


def files() -> dict[str, int]:
    """Lines of every file, by its path within the package."""
    return {_inside(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sorted(PACKAGE.rglob("*.py"))}


def functions() -> Iterator[Function]:
    """Every function and method."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                own = [arg for arg in given if arg.arg not in ("self", "cls")]
                yield Function(f"{_inside(path)}:{node.name}", _lines(node), len(own))


def positional_values() -> Iterator[tuple[str, int]]:
    """Every value of a class that is made with more than `MAX_POSITIONAL` arguments in a row: place, and how many.

    A class is what begins with a capital; what a star unpacks counts as one.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2].lstrip("_")
                if name[:1].isupper() and len(node.args) > MAX_POSITIONAL:
                    yield f"{_inside(path)}:{node.lineno}: {name}", len(node.args)


def host_code() -> dict[str, int]:
    """Lines of code of every host: without imports, docstrings, comments and blank lines."""
    counts = {}
    for named in HOSTS:
        first, *others = named.split(", ")
        folder = PACKAGE / Path(first).parent
        counts[named] = sum(_code(path) for path in (PACKAGE / first, *(folder / name for name in others)))
    return counts


def packages() -> list[str]:
    """Packages at the top."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def loose_modules() -> list[str]:
    """Modules at the top."""
    return sorted(path.stem for path in PACKAGE.glob("*.py"))


def _inside(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    doc = ast.get_docstring(node, clean=False)
    spent = (first.end_lineno or first.lineno) - first.lineno + 1 if doc is not None else 0
    return (node.end_lineno or node.lineno) - node.lineno + 1 - spent


def _code(path: Path) -> int:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    text = [node for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    apart = [*text, *(node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))]
    without = {k for node in apart for k in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    lines = enumerate(source.splitlines(), 1)
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for k, line in lines if k not in without)


def main() -> None:
    """Print the counts, and what is over a limit."""
    lines, found = files(), list(functions())
    print(f"packages: {', '.join(packages())} ({len(packages())}); loose: {', '.join(loose_modules())}")
    print(f"files: {len(lines)}, median {statistics.median(lines.values()):.0f}, longest {max(lines.values())}")
    print(f"functions: {len(found)}, median {statistics.median(f.lines for f in found):.0f}")
    for name, count in host_code().items():
        print(f"  {name}: {count} lines of code, at most {HOSTS[name]}")
    for name, count in lines.items():
        if count > MAX_FILE:
            print(f"  {name}: {count} lines")
    for each in found:
        if each.lines > MAX_FUNCTION or each.arguments > MAX_ARGUMENTS:
            print(f"  {each.name}: {each.lines} lines, {each.arguments} arguments")
    for place, count in positional_values():
        print(f"  {place}: {count} arguments in a row")


if __name__ == "__main__":
    main()
