"""The glossary's words that we do not use: none of them in messages, help, docstrings or pages."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted((ROOT / "samplewise").rglob("*.py"))

BANNED = {
    r"mend(s|ed|ing)?": "fix",
    r"(go|goes|went|going) on": "resume, continue",
    r"least_\w+": "min_",
    r"(cannot|can not|may not|not) go together": "cannot be combined with",
    r"not to be used with weights": "cannot be combined with sample weighting",
    r"spoilt": "corrupted",
    r"(told|tell|tells|telling) (\w+ )?apart": "distinguished",
    r"(un|de)?normalis(e|er|ed|es|ing|ation)": "normalize",
    r"redo(es|ne)?": "retry",
}
HOST = r"the host('s)?"
"""Messages and pages for users name the Trainer or the loop; docstrings of the architecture may say host."""

ALLOWED = {
    ("glossary.md", ""): "lists the words",
}


def found(pattern: str, text: str) -> list[str]:
    return [match[0] for match in re.finditer(rf"(?i)(?<![\w/-]){pattern}(?![\w])", text)]


@cache
def parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def strings(module: Path) -> tuple[list[str], list[str]]:
    """(docstrings, other strings) of a module."""
    tree = parsed(module)
    loose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # those below constants too
    every = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    docs, others = ([str(node.value) for node in every if (id(node) in loose) is one] for one in (True, False))
    return docs, others


def allowed(place: str, word: str) -> bool:
    return any(place == name and part in word.lower() for name, part in ALLOWED)


def test_pages_use_the_words_of_the_glossary():
    for page in PAGES:
        text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for pattern in [*BANNED, HOST]:
            bad = [word for word in found(pattern, text) if not allowed(page.name, word)]
            assert not bad, f"{page.name} says {bad[0]!r}: {BANNED.get(pattern, 'the Trainer, the loop')}"


def test_messages_and_docstrings_use_the_words_of_the_glossary():
    for module in MODULES:
        docs, others = strings(module)
        for pattern, better in BANNED.items():
            bad = [word for text in [*docs, *others] for word in found(pattern, text)]
            assert not bad, f"{module.relative_to(ROOT)} says {bad[0]!r}: {better}"
        bad = [text for text in others if found(HOST, text)]
        assert not bad, f"{module.relative_to(ROOT)} says {bad[0]!r}: the Trainer, the loop"


def test_docstrings_say_something():
    for module in MODULES:
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and (doc := ast.get_docstring(node)):
                assert len(doc.split()) > 4, f"{module.relative_to(ROOT)}, {node.name}: {doc!r}"


def test_every_exception_is_needed():
    for (name, part), why in ALLOWED.items():
        page = next(page for page in PAGES if page.name == name)
        assert part in page.read_text(encoding="utf-8").lower(), f"{name} no longer says {part!r} ({why})"


def test_nothing_is_misspelt():
    """codespell over pages, docstrings and messages; the words that it may not correct are examples of broken text."""
    places = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "RELEASE.md", "docs", "samplewise", "examples"]
    command = [sys.executable, "-m", "codespell_lib", "--skip", "*.png,*.ipynb", "-L", "caf,nd", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
