"""The names of torch that the package uses, read from its source, and those of them that torch 2.11 has.

`python tests/torch_names.py`, run with torch 2.11, writes `torch_2_11.txt`: every name used that this torch has. A name
that is not there yet is new in the package: run it again with torch 2.11, and not with a later one.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent / "samplewise"
RECORD = Path(__file__).with_name("torch_2_11.txt")
LATER = {"losses/kernels/torch_backend.py"}  # refuses by name where torch lacks what it is about


def used() -> dict[str, set[str]]:
    """The files of the package that use each dotted name, `torch.nn.functional.pad` for `F.pad`."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        file = path.relative_to(ROOT).as_posix()
        for name in () if file in LATER else of_source(path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(file)
    return found


def of_source(text: str) -> set[str]:
    """The dotted names of torch that a source imports or reaches through what it imports."""
    tree = ast.parse(text)
    local = dict(pair for node in ast.walk(tree) for pair in _imported(node))
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    chains = [_chain(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and id(node) not in inner]
    reached = {".".join([local[chain[0]], *chain[1:]]) for chain in chains if chain and chain[0] in local}
    return reached | {name for name in local.values() if name != "torch"}


def _imported(node: ast.AST) -> list[tuple[str, str]]:
    """(local name, name in torch) of what one statement imports."""
    if isinstance(node, ast.Import):
        mine = [each for each in node.names if each.name.split(".")[0] == "torch"]
        return [(each.asname or "torch", each.name if each.asname else "torch") for each in mine]
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
        return [(each.asname or each.name, f"{node.module}.{each.name}") for each in node.names]
    return []


def _chain(node: ast.expr) -> list[str]:
    """`a.b.c` as [a, b, c]; empty where it does not begin with a name."""
    if isinstance(node, ast.Name):
        return [node.id]
    before = _chain(node.value) if isinstance(node, ast.Attribute) else []
    return [*before, node.attr] if before and isinstance(node, ast.Attribute) else []


def exists(name: str) -> bool:
    """Whether the torch that is installed has it."""
    found, path = torch, "torch"
    for part in name.split(".")[1:]:
        path = f"{path}.{part}"
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(path)
            except ImportError:
                return False
    return True


def recorded() -> set[str]:
    """What `torch_2_11.txt` holds."""
    return {line for line in RECORD.read_text(encoding="utf-8").splitlines() if not line.startswith("#")}


if __name__ == "__main__":
    assert torch.__version__.startswith("2.11."), f"this is torch {torch.__version__}"
    names = sorted(filter(exists, used()))
    RECORD.write_text("\n".join([f"# what samplewise uses of torch, found in {torch.__version__}", *names, ""]))
