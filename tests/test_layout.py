"""The shape of the package, read from its source: who may import what, and what is nowhere."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import samplewise
from samplewise.rules import RULES, TOKEN_RULES

ROOT = Path(samplewise.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
CORE = {  # what each core module may import of this package
    "errors": set(),
    "calls": set(),
    "samples": {"errors"},
    "weighing": {"errors", "samples"},
    "rule": {"errors", "calls", "samples", "weighing"},
    "types": {"errors", "samples", "rule"},
    "statistics": {"types"},
    "losses": {"types"},
    "rules": {"types", "calls", "rules"},
    "kernels": {"types", "losses", "kernels"},
    "step": {"types", "statistics", "weighing"},
    "weigher": {"types", "step"},
}
HEAVY = {"transformers", "trl", "accelerate", "datasets", "peft"}
HEAVY_IN = ("models.py", "head.py", "data/", "trainers/", "corpus/score.py", "evidence/", "run/")
NEVER = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}

files = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def inside(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, at any depth; of `from a import b`, a.b (b may be a module)."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{inside(path)} has a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def used(path: Path) -> Iterator[str]:
    """Dotted names that a file's code spells out, such as torch.load."""
    for node in ast.walk(tree(path)):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            yield ".".join([node.id, *reversed(parts)])


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def module_of(name: str) -> Path | None:
    """The file of this package that a dotted name is found in."""
    parts = name.split(".")
    if parts[0] != "samplewise":
        return None
    for end in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[1:end])
        for path in (base.with_suffix(".py") if end > 1 else base / "__init__.py", base / "__init__.py"):
            if path.exists():
                return path
    raise AssertionError(f"nothing is at {name}")


def test_the_reader_of_imports_reads():
    """A parser that saw nothing would let everything pass."""
    assert len(FILES) > 20
    assert "torch" in set(imported(ROOT / "step.py"))
    assert "torch.distributed" in set(imported(ROOT / "distributed.py"))
    assert "transformers.Trainer" in set(imported(ROOT / "trainers" / "hf.py"))
    assert any(name.startswith("safetensors.torch") for name in imported(ROOT / "checkpoint.py")), "lazy ones too"
    assert "torch.argsort" in set(used(ROOT / "step.py"))
    assert module_of("samplewise.rules.base.keep") == ROOT / "rules" / "base.py"
    assert module_of("samplewise.rules.chain") == ROOT / "rules" / "__init__.py"


@pytest.mark.parametrize("part", CORE)
def test_the_core_imports_torch_numpy_and_what_lies_below(part):
    found = [path for path in FILES if inside(path) == f"{part}.py" or inside(path).startswith(f"{part}/")]
    assert found
    for path in found:
        for name in imported(path):
            root, *rest = name.split(".")
            if root == "samplewise":
                assert rest, f"{inside(path)} imports the whole package"
                assert rest[0] in CORE[part], f"{inside(path)} imports {name}"
            else:
                assert root in {"torch", "numpy"} or root in sys.stdlib_module_names, f"{inside(path)} imports {name}"


def test_imports_go_one_way():
    """No cycle between files, lazy imports included."""
    graph = {path: {module_of(name) for name in imported(path)} - {path} for path in FILES}
    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " → ".join(inside(each) for each in (*trail, path))
        if path not in done:
            for below in sorted(graph[path] & graph.keys()):
                visit(below, (*trail, path))
            done.add(path)

    for path in FILES:
        visit(path, ())


@files
def test_torch_distributed_is_in_one_place(path):
    if inside(path) != "distributed.py":
        names = {*imported(path), *used(path)}
        assert not [name for name in names if within(name, "torch.distributed")]


@files
def test_the_heavy_libraries_are_where_they_belong(path):
    if not inside(path).startswith(HEAVY_IN):
        assert not [name for name in imported(path) if name.split(".")[0] in HEAVY]


@files
def test_nothing_is_unpickled_or_evaluated(path):
    assert not [name for name in imported(path) if name.split(".")[0] in NEVER]
    names = set(used(path))
    assert names.isdisjoint({"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"})
    assert names.isdisjoint({"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load"})
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
            assert not (isinstance(node.value, ast.Constant) and node.value.value), f"{node.arg} in line {node.lineno}"


@files
def test_no_module_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@files
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("name", samplewise.__all__)
def test_every_public_name_has_a_docstring_of_its_own(name):
    doc = getattr(samplewise, name).__doc__
    assert doc
    assert not doc.startswith(f"{name}("), "the one that dataclasses make says nothing"


def test_the_public_names_are_few():
    assert list(samplewise.__all__) == sorted(set(samplewise.__all__))
    assert len(set(samplewise.__all__) - set(RULES) - set(TOKEN_RULES)) <= 12
    public = {name for name, value in vars(samplewise).items() if not name.startswith("_") and not _is_module(value)}
    assert public == set(samplewise.__all__)


def _is_module(value: object) -> bool:
    return type(value).__name__ == "module"


def test_importing_the_package_imports_no_heavy_library():
    absent = sorted(HEAVY | {"safetensors", "pandas", "scipy", "yaml", "typer", "jinja2", "matplotlib"})
    code = f"import sys, samplewise; print(sorted(set({absent}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert done.stdout.strip() == "[]"
