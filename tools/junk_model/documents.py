"""Clean text of the sorts that corpora hold beside prose: docstrings, pages of documentation, licences; and further
code, LaTeX, languages and prose. None of it takes part in the tables of languages and words.

None of these packages is one that `bench/junk_corpus.py` takes its texts from.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from junk_model.sources import bare, joined, messages

SORTS = ("prose", "languages", "code", "latex", "docstrings", "pages", "licence")
"""Sorts of clean text: each counts alike."""
MENUS = ("selinux-policy-doc", "texlive-science-doc", "texlive-latex-base-doc")
"""Packages of which the pages are lists of names, or are for another sort."""
TESTED = ("texlive-publishers-doc",)
"""Packages that `bench/junk.py` is for."""
PROSE = ("dict-devil", "debian-faq", "developers-reference", "debian-reference-en", "maint-guide", "debian-policy")
DOCSTRINGS = ("py-astropy", "py-statsmodels", "py-dask", "py-xarray", "py-celery", "py-flask", "py-sphinx",
              "py-scikit_image", "py-nilearn", "py-docutils", "py-pymongo", "django")  # fmt: skip
COMMON = ("GPL", "LGPL", "AGPL", "MIT", "BSD", "Apache", "MPL", "ISC", "Zlib", "Artistic", "PSF", "Python", "HPND",
          "X11", "0BSD", "CC0", "Unlicense", "NTP", "bzip2", "curl", "OpenSSL", "Vim", "Unicode", "ZPL", "OFL", "GFDL",
          "CNRI", "libpng", "Libpng", "EPL", "BSL", "any-", "Spencer", "ICU", "NCSA", "LPPL", "blessing",
          "Bitstream")  # fmt: skip
"""Beginnings of the names of licences that many packages have: they are left to the tests."""
INSTALLED = (
    "bash-doc",
    "cmake-doc",
    "git-doc",
    "perl-doc",
    "postgresql-doc-15",
    "sphinx-doc",
    "sqlite3-doc",
    "vim-doc",
)
"""Packages of a source of which other packages are common: their statements of copyright are left to the tests."""
TRANSLATED = re.compile(r"/(?:[a-z]{2}(?:[-_]\w\w)?|genindex|search)[/.]|\.[a-z]{2}\.html")
OTHER = re.compile(r"/(?!en/)([a-z]{2}(?:[-_]\w\w)?)/")
"""Folders of a language, of those that are not English."""
MOST = 120
"""Texts of one package and sort."""


@dataclass(frozen=True)
class Document:
    """sort: one of `SORTS`; source: the package, and its language if there are several."""

    sort: str
    source: str
    text: str


def documents(folder: Path) -> Iterator[Document]:
    """Everything of these sorts."""
    for place in sorted(folder.iterdir()):
        for sort, name, own in _of(place) if place.name not in TESTED else ():
            yield Document(sort, name, own)
    for name, own in _other_licences(folder / "npm-spdx-license-list-6.12.0/package/licenses"):
        yield Document("licence", name, own)


def _of(place: Path) -> Iterator[tuple[str, str, str]]:
    name = place.name
    if name in DOCSTRINGS:
        yield from (("docstrings", name, own) for own in _docstrings(place))
    if name.startswith("dict-devil"):
        yield from (("prose", name, _read(path)) for path in place.rglob("*.dict.dz"))
    elif name in PROSE:
        yield from (("prose", name, bare(_read(path))) for path in _english_pages(place))
    elif name.startswith(("py-", "npm-")) or (name.endswith(("-doc", "-doc-html", "-common")) and name not in MENUS):
        yield from (("pages", name, own) for own in _pages(place))
    if name.startswith(("py-", "npm-")):
        yield from (("code", name, own) for own in _code(place))
    if name == "texlive-latex-base-doc":
        yield from (
            ("latex", f"{name} {path.parent.name}", _read(path)) for path in _evenly(list(place.rglob("*.tex*")))
        )
    if name in ("installation-guide-amd64", "apache2-doc"):
        yield from _translated(place)
    if name in ("mutt", "fish-common", "mercurial-common"):
        yield from _said(place)
    if name not in INSTALLED:
        yield from (("licence", name, own) for own in _licences(place))


def _translated(place: Path) -> Iterator[tuple[str, str, str]]:
    """Pages in folders of their languages."""
    by: dict[str, list[Path]] = {}
    for path in place.rglob("*.html*"):
        if path.is_file() and (found := OTHER.search(_within(path, place))):
            by.setdefault(found[1], []).append(path)
    for language, paths in sorted(by.items()):
        yield from (("languages", f"{place.name} {language}", bare(_read(path))) for path in _evenly(paths, 12))


def _said(place: Path) -> Iterator[tuple[str, str, str]]:
    """Messages of a program in other languages."""
    for path in sorted(place.rglob("*.mo")):
        language = re.search(r"locale/([^/]+)/", _within(path, place))
        with suppress(UnicodeDecodeError):  # catalogues in old encodings
            for own in list(joined(list(dict.fromkeys(messages(path)))))[:20]:
                yield "languages", f"{place.name} {language[1] if language else ''}", own


def _code(place: Path) -> Iterator[str]:
    found = [
        path for name in ("*.py", "*.js", "*.ts", "*.css") for path in place.rglob(name) if ".min." not in path.name
    ]
    for path in _evenly([path for path in found if path.is_file()], 40):
        text = _read(path)
        if text and max(map(len, text.split("\n"))) < 400:
            yield text


def _evenly(paths: list[Path], most: int = MOST) -> list[Path]:
    return sorted(paths)[:: max(1, -(-len(paths) // most))]


def _docstrings(place: Path) -> Iterator[str]:
    for path in _evenly([path for path in place.rglob("*.py") if "/tests/" not in path.as_posix()]):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
                own = ast.get_docstring(node) or ""
                if len(own) >= 200:
                    yield own


def _pages(place: Path) -> Iterator[str]:
    """As they are written, reStructuredText and Markdown; of HTML and manual pages, what a reader sees."""
    for path in place.rglob("*METADATA"):
        yield path.read_text(encoding="utf-8", errors="replace").partition("\n\n")[2]
    written = [path for pattern in ("*.rst", "*.rst.txt", "*.md", "*.txt", "*.txt.gz") for path in place.rglob(pattern)]
    for path in _evenly(
        [path for path in dict.fromkeys(written) if path.is_file() and "licen" not in path.name.lower()]
    ):
        yield _read(path)
    for path in _english_pages(place):
        yield bare(_read(path))


def _english_pages(place: Path) -> list[Path]:
    html = (path for path in place.rglob("*.html") if not TRANSLATED.search(_within(path, place)))
    return _evenly([path for path in html if path.is_file()], MOST // 3)


def _licences(place: Path) -> Iterator[str]:
    found = {path for pattern in ("copyright", "LICEN*", "licen[cs]e*") for path in place.rglob(pattern)}
    for path in _evenly([path for path in found if path.is_file() and path.suffix not in (".py", ".js", ".json")], 12):
        yield _read(path)


def _other_licences(place: Path) -> Iterator[str]:
    """Licences that few packages have, one of each family."""
    seen: set[str] = set()
    for path in sorted(place.glob("*.json")):
        family = re.split(r"-\d|[.+]", path.stem)[0]
        if not path.stem.startswith(COMMON) and family not in seen:
            seen.add(family)
            yield f"spdx {family}", json.loads(path.read_text(encoding="utf-8"))["licenseText"]


def _within(path: Path, place: Path) -> str:
    return "/" + path.relative_to(place).as_posix()


def _read(path: Path) -> str:
    data = gzip.decompress(path.read_bytes()) if path.suffix in (".gz", ".dz") else path.read_bytes()
    return data.decode(errors="replace")
