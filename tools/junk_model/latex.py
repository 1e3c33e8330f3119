"""Clean LaTeX of many packages: papers, theses, letters, manuals, figures and music, in a score of languages.

None of these packages is in the tables of languages and words, and none is `documents.TESTED`.
"""

from __future__ import annotations

import gzip
import random
import re
from pathlib import Path

from junk_model.documents import SORTS
from junk_model.samples import Sample, cut, stretches
from junk_model.sources import drawn

NAMES = ("bibtex-extra", "fonts-extra-doc", "fonts-recommended-doc", "formats-extra", "games", "humanities-doc",
         "lang-arabic", "lang-chinese", "lang-cjk", "lang-cyrillic", "lang-czechslovak", "lang-english",
         "lang-european", "lang-french", "lang-german", "lang-greek", "lang-italian", "lang-japanese", "lang-korean",
         "lang-other", "lang-polish", "lang-portuguese", "lang-spanish", "latex-extra-doc", "latex-recommended-doc",
         "luatex", "metapost-doc", "music", "pictures-doc", "plain-generic", "pstricks-doc", "xetex")  # fmt: skip
PACKAGES = tuple(f"texlive-{name}" for name in NAMES)
MOST, ROUNDS = 160, 6
"""Texts of one of these packages, and of each of the TeX packages in it."""
FIRST = 0.35
"""Share of the texts that are the beginning of their file: classes, packages and macros."""
UNREAD = 0.02
"""Share of characters that are not UTF-8 from which on a file is no clean text."""


def latex(folder: Path, draw: random.Random) -> list[Sample]:
    """A text of a file, of as many TeX packages as there are; halves that share no Debian package."""
    found = []
    for name in PACKAGES:
        texts = _texts(_files(folder / name), draw)
        found += [Sample(SORTS.index("latex"), name, int(drawn(name, 0.5)), text) for text in texts]
    return found


def _files(place: Path) -> dict[str, list[Path]]:
    """By TeX package."""
    found: dict[str, list[Path]] = {}
    for path in sorted(path for pattern in ("*.tex", "*.tex.gz", "*.ltx", "*.ltx.gz") for path in place.rglob(pattern)):
        if path.is_file() and not path.is_symlink():
            within = re.split("/doc/(?:texlive-doc/)?", path.relative_to(place).as_posix(), maxsplit=1)[-1]
            found.setdefault("/".join(within.split("/")[:2]), []).append(path)
    return found


def _texts(files: dict[str, list[Path]], draw: random.Random) -> list[str]:
    names, found = sorted(files), []
    draw.shuffle(names)
    for name in names * ROUNDS:
        if len(found) < MOST and files[name]:
            own = stretches(_read(files[name].pop(draw.randrange(len(files[name])))))
            if own:
                found.append(cut(own[0] if draw.random() < FIRST else draw.choice(own), draw))
    return found


def _read(path: Path) -> str:
    """Nothing of a file in another encoding than UTF-8."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = data.decode(errors="replace")
    return text if text.count("\ufffd") <= UNREAD * len(text) else ""
