"""The shape of the house, read from its source: who may import whom, and what is nowhere."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import house
import pytest

import samplewise
from samplewise.rules import RULES, TOKEN_RULES

ROOT = Path(samplewise.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
BELOW = {  # what each package may import of this one
    "core": set(),
    "rules": {"core"},
    "losses": {"core"},
    "engine": {"core", "rules", "losses"},
    "data": {"core", "losses"},
    "models": {"core"},
    "trainers": {"core", "rules", "losses", "engine", "data", "models"},
    "config": {"core", "rules", "engine"},
    "corpus": {"core", "rules", "losses", "engine", "data", "models"},
    "evidence": {"core", "rules", "losses", "engine", "data", "models", "trainers", "config", "corpus"},
    "report": {"core", "rules", "engine", "corpus", "evidence"},
    "cli": {"core", "rules", "engine", "data", "models", "config", "corpus", "evidence", "report"},
    "__main__": {"core", "cli"},
    "__init__": {"core", "rules", "losses", "engine"},
}
PURE = ("core", "rules", "losses", "engine")  # torch and numpy, and nothing else at import
TRITON, CHOICE = (
    "losses/kernels/residual_triton.py",
    "losses/kernels/backends.py",
)  # the second imports inside functions
LIGER = "losses/kernels/liger_backend.py"  # inside a function, as any backend that is another project's
LAZY = {
    "safetensors",
    "pyarrow",
    "tqdm",
}  # what they may import inside a function
HEAVY = {"transformers", "trl", "accelerate", "datasets", "peft"}
WITHOUT_HEAVY = (*PURE, "config", "report", "cli", "__init__", "__main__")
NEVER = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
NEVER_CALLED = {
    "eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "torch.load", "torch.save", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load",
}  # fmt: skip
SHORT = {  # files under 25 lines, and why they are files
    "a table of contents": {"__init__.py"},
    "the entry point": {"__main__.py"},
    "one name that two packages need": {
        "core/columns.py", "losses/evaluation.py", "losses/model_facts.py",
        "trainers/reference_model.py", "report/groups.py", "evidence/groups.py",
    },
    "needs an extra that the file beside it does without": {"evidence/budget_sft.py", "evidence/run/sft.py"},
    "a procedure with a name of its own": {"evidence/holm.py"},
    "is read before the imports of the file beside it, which take seconds": {"evidence/evaluation_config.py"},
}  # fmt: skip

MANY_ARGUMENTS = {  # functions of more than 8 arguments, and why none of these takes a dataclass
    "typer makes an option of every parameter": {
        "cli/dedup.py:dedup", "cli/score.py:score", "cli/select.py:select", "cli/weights.py:weights",
    },
    "a function of tensors, as in torch.nn.functional; `Inputs` is the dataclass behind it": {
        "losses/kernels/api.py:sample_losses", "losses/kernels/api.py:score", "losses/kernels/api.py:objective",
    },
    "a Triton kernel takes pointers and constants alone, all of them by position": {TRITON + ":_residual"},
    "the fields of the dataclass `Rule` that it makes": {"rules/base.py:make_rule"},
    "the options of a reader, by keyword, as in datasets.load_dataset": {"data/instructions.py:read_instructions"},
}  # fmt: skip
MAX_IN_A_ROW = 4  # of these functions' arguments may be given by position


def inside(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Dotted names that a statement imports; of `from a import b`, a.b (b may be a module)."""
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    else:
        assert node.level == 0, "a relative import"
        yield from (f"{node.module}.{name.name}" for name in node.names)


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All of a file's tree: to walk it is what takes the time here."""
    return list(ast.walk(tree(path)))


@cache
def imported(path: Path) -> frozenset[str]:
    """All that a file imports, at any depth."""
    found = (names(node) for node in nodes(path) if isinstance(node, (ast.Import, ast.ImportFrom)))
    return frozenset(name for each in found for name in each)


def imported_at_once(path: Path) -> Iterator[str]:
    """What a file imports when it is imported itself."""
    for node in tree(path).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from names(node)


@cache
def used(path: Path) -> frozenset[str]:
    """Dotted names that a file's code spells out, such as torch.load."""
    return frozenset(_dotted(path))


def _dotted(path: Path) -> Iterator[str]:
    for node in nodes(path):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            yield ".".join([node.id, *reversed(parts)])


@cache
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
    assert len(FILES) > 100
    assert "torch" in set(imported(ROOT / "engine" / "plan.py"))
    assert "torch.distributed" in set(imported(ROOT / "core" / "distributed.py"))
    assert "transformers.Trainer" in set(imported(ROOT / "trainers" / "hf.py"))
    assert any(name.startswith("safetensors.torch") for name in imported(ROOT / "core" / "checkpoint.py")), "lazy too"
    assert not any(name.startswith("safetensors") for name in imported_at_once(ROOT / "core" / "checkpoint.py"))
    assert "torch.argsort" in set(used(ROOT / "engine" / "plan.py"))
    assert module_of("samplewise.rules.base.keep") == ROOT / "rules" / "base.py"
    assert module_of("samplewise.rules.chain") == ROOT / "rules" / "__init__.py"


def test_packages_import_downwards():
    """In dependency order only: an engine knows nothing of a host, a host nothing of a rule's inside."""
    assert {package(path) for path in FILES} == set(BELOW)
    for path in FILES:
        for name in imported(path):
            root, *rest = name.split(".")
            if root == "samplewise" and rest and module_of(name) != ROOT / "__init__.py":
                assert rest[0] in BELOW[package(path)] | {package(path)}, f"{inside(path)} imports {name}"


def test_the_order_of_packages_has_no_cycle():
    done: list[str] = []
    left = dict(BELOW)
    while left:
        free = [name for name, below in left.items() if below <= set(done)]
        assert free, f"a cycle among {sorted(left)}"
        done += free
        left = {name: below for name, below in left.items() if name not in free}


def test_files_import_one_way():
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


def test_the_core_imports_torch_and_numpy_alone():
    for path in FILES:
        if package(path) not in PURE:
            continue
        for name in imported(path):
            root = name.split(".")[0]
            lazy = root in LAZY and name not in set(imported_at_once(path))
            lazy |= root == "triton" and inside(path) in (TRITON, CHOICE)
            lazy |= root == "liger_kernel" and inside(path) == LIGER and name not in set(imported_at_once(path))
            assert root in {"samplewise", "torch", "numpy"} or root in sys.stdlib_module_names or lazy, (
                f"{inside(path)} imports {name}"
            )


def test_triton_is_imported_where_it_is_chosen():
    for path in FILES:
        found = [name for name in imported_at_once(path) if "triton" in name]
        assert not found or inside(path) == TRITON, inside(path)


def test_heavy_libraries_are_where_they_belong():
    for path in FILES:
        if package(path) in WITHOUT_HEAVY:
            assert not [name for name in imported(path) if name.split(".")[0] in HEAVY], inside(path)
    loop = ROOT / "trainers" / "loop.py"
    assert not [name for name in imported_at_once(loop) if name.split(".")[0] in HEAVY]


def test_a_loop_of_ones_own_imports_no_transformers():
    code = f"import sys; from samplewise.trainers import WeightedStep; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert done.stdout.strip() == "[]"


def test_torch_distributed_is_in_one_place():
    for path in FILES:
        if inside(path) != "core/distributed.py":
            found = {*imported(path), *used(path)}
            assert not [name for name in found if f"{name}.".startswith("torch.distributed.")], inside(path)


def test_nothing_is_unpickled_or_evaluated():
    for path in FILES:
        assert not [name for name in imported(path) if name.split(".")[0] in NEVER], inside(path)
        assert set(used(path)).isdisjoint(NEVER_CALLED), inside(path)
        for node in nodes(path):
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
                on = isinstance(node.value, ast.Constant) and node.value.value
                assert not on, f"{node.arg} in {inside(path)}, line {node.lineno}"


def test_hosts_read_nothing_private_of_the_engine():
    for path in FILES:
        if package(path) in ("trainers", "evidence"):
            found = [name for name in used(path) if ".engine._" in name or name.startswith("engine._")]
            assert not found, f"{inside(path)}: {found}"


def test_the_counts_of_the_house():
    lines, functions = house.files(), list(house.functions())
    assert statistics.median(lines.values()) <= house.MEDIAN_FILE
    assert {name: count for name, count in lines.items() if count > house.MAX_FILE} == {}
    assert statistics.median(each.lines for each in functions) <= house.MEDIAN_FUNCTION
    assert [each for each in functions if each.lines > house.MAX_FUNCTION] == []
    assert {name: count for name, count in house.host_code().items() if count > house.HOSTS[name]} == {}
    assert {each.name for each in functions if each.arguments > house.MAX_ARGUMENTS} == set().union(
        *MANY_ARGUMENTS.values()
    ), "each has a reason, and no reason is left over"
    assert list(house.positional_values()) == []
    assert len(house.packages()) <= house.MAX_PACKAGES
    assert len(house.loose_modules()) <= house.MAX_LOOSE


def test_functions_of_many_arguments_take_them_by_name():
    """Those of typer apart, which nobody calls, and the kernel, which a launch calls."""
    for name in set().union(*MANY_ARGUMENTS.values()):
        file, function = name.split(":")
        found = [node for node in tree(ROOT / file).body if isinstance(node, ast.FunctionDef) and node.name == function]
        assert len(found) == 1, name
        if not file.startswith("cli/") and file != TRITON:
            assert len(found[0].args.args) <= MAX_IN_A_ROW, name


def test_the_reader_of_calls_counts_arguments_in_a_row(monkeypatch, tmp_path):
    (tmp_path / "own.py").write_text("Row(1, 2, 3, 4, 5, 6)\na.Row(1, 2, 3, 4, 5, x=6)\nrow(1, 2, 3, 4, 5, 6)\n")
    monkeypatch.setattr(house, "PACKAGE", tmp_path)
    assert list(house.positional_values()) == [("own.py:1: Row", 6)]


def test_a_short_file_has_a_reason():
    known = set().union(*SHORT.values())
    short = {name for name, count in house.files().items() if count < house.MIN_FILE}
    assert {name for name in short if name not in known and not name.endswith("__init__.py")} == set()
    assert {name for name in known - {"__init__.py"} if name not in short} == set(), "these are short no longer"


def test_every_module_says_what_it_is():
    assert [inside(path) for path in FILES if not ast.get_docstring(tree(path))] == []


@pytest.mark.parametrize("name", samplewise.__all__)
def test_every_public_name_has_a_docstring_of_its_own(name):
    doc = getattr(samplewise, name).__doc__
    assert doc
    assert not doc.startswith(f"{name}("), "the one that dataclasses make says nothing"


def test_the_public_names_are_few():
    assert len(samplewise.__all__) == len(set(samplewise.__all__))
    assert len(set(samplewise.__all__) - set(RULES) - set(TOKEN_RULES)) <= 20
    names = [name for name in dir(samplewise) if not name.startswith("_")]  # those imported when used, too
    public = {name for name in names if not _is_module(getattr(samplewise, name))}
    assert public == set(samplewise.__all__)


def _is_module(value: object) -> bool:
    return type(value).__name__ == "module"


def test_importing_the_package_imports_no_heavy_library():
    absent = sorted(HEAVY | {"safetensors", "pandas", "scipy", "yaml", "typer", "jinja2", "matplotlib"})
    code = f"import sys, samplewise; print(sorted(set({absent}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert done.stdout.strip() == "[]"
