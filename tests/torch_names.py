"""The names of torch that the package uses, read from its source, and those that torch 2.11 does not have yet.

`newer_than_torch_2_11.txt` holds the public names of the torch in constraints.txt that torch 2.11 lacks. When that
version is raised it is made again: `python tests/torch_names.py`, with each of the two, prints the names of one, and
`comm -13` of them, sorted, is the list. A name that only a still later torch has does not run in `make test` at all.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent / "samplewise"
RECORD = Path(__file__).with_name("newer_than_torch_2_11.txt")
MODULES = (
    "distributed.checkpoint.state_dict", "distributed.device_mesh", "distributed.fsdp", "distributed.tensor",
    "nn.attention", "nn.parallel", "nn.utils.rnn", "optim.lr_scheduler", "utils.checkpoint", "utils.data",
    "utils.flop_counter",
)  # fmt: skip
UNUSED = ("torch.fx", "torch.xpu", "torch.mps", "torch.mtia", "torch.distributed.elastic", "torch.distributed.rpc")
CLASSES = ("Tensor", "nn.Module", "nn.parallel.DistributedDataParallel", "optim.Optimizer")
ELSEWHERE = {"losses/kernels/torch_backend.py"}  # refuses by name where torch lacks what it is about


def names_of_torch() -> set[str]:
    """Every public name of the installed torch, in its public modules and in the classes whose methods are called."""
    for module in MODULES:
        importlib.import_module(f"torch.{module}")
    public = {name: each for name, each in sys.modules.items() if name.split(".")[0] == "torch" and "._" not in name}
    places: dict[str, object] = {name: each for name, each in public.items() if not name.startswith(UNUSED)}
    places |= {f"torch.{name}": _at(name) for name in CLASSES}
    return {f"{place}.{name}" for place, each in places.items() for name in dir(each) if not name.startswith("_")}


def _at(name: str) -> object:
    found: object = torch
    for part in name.split("."):
        found = getattr(found, part)
    return found


def used() -> dict[str, set[str]]:
    """The files of the package that use each dotted name of torch, and each attribute of anything, as `.name`."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        file = path.relative_to(ROOT).as_posix()
        for name in () if file in ELSEWHERE else names_in(path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(file)
    return found


def names_in(text: str) -> set[str]:
    """The dotted names of torch that a source imports or reaches through what it imports, and `.name` of the rest."""
    tree = ast.parse(text)
    local = dict(pair for node in ast.walk(tree) for pair in _imported(node))
    found = {name for name in local.values() if name != "torch"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, *rest = _chain(node) or [""]
            found.add(".".join([local[first], *rest]) if first in local else f".{node.attr}")
    return found


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


def newer() -> set[str]:
    """What torch 2.11 lacks: dotted names, and methods of its classes as `.name`."""
    lines = RECORD.read_text(encoding="utf-8").splitlines()
    recorded = {line for line in lines if not line.startswith("#")}
    classes = tuple(f"torch.{name}." for name in CLASSES)
    return recorded | {f".{line.rsplit('.', 1)[1]}" for line in recorded if line.startswith(classes)}


if __name__ == "__main__":
    print("\n".join(sorted(names_of_torch())))
