"""Labelled noise: texts corrupted in known ways, a pure function of (text, kind, seed); the caller keeps the label."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from samplewise.core.errors import SamplewiseError
from samplewise.data import Document, document_id


def shuffled_words(text: str, draw: random.Random) -> str:
    """Put all words in another order."""
    words = text.split()
    draw.shuffle(words)
    return " ".join(words)


def ocr_errors(text: str, draw: random.Random, share: float = 0.1) -> str:
    """Replace, split or drop a tenth of the letters, as a scanner does."""
    alike = {"e": "c", "o": "0", "l": "1", "i": "l", "s": "5", "m": "rn", "h": "b", "n": "u", "a": "o", "t": "f"}
    return "".join(
        (alike.get(each.lower()) or draw.choice(["", each + each, chr(97 + draw.randrange(26))]))
        if each.isalpha() and draw.random() < share
        else each
        for each in text
    )


def few_ocr_errors(text: str, draw: random.Random) -> str:
    """Replace, split or drop 3% of the letters."""
    return ocr_errors(text, draw, 0.03)


def boilerplate(text: str, draw: random.Random) -> str:
    """Replace the text by the navigation of a web site, of about the same length."""
    parts = [
        "Home | About | Contact | Login | Sign up", "Skip to main content", "Accept all cookies", "Share on Facebook",
        "Subscribe to our newsletter", "Privacy Policy | Terms of Service", "Previous | Next | Back to top",
        "© 2024 All rights reserved.", "Read more", "Powered by WordPress",
    ]  # fmt: skip
    return _as_long_as(text, lambda: draw.choice(parts) + "\n")


def repetition(text: str, draw: random.Random) -> str:
    """Repeat one sentence of the text."""
    sentences = [each.strip() for each in text.replace("\n", " ").split(". ") if len(each.split()) > 3] or [text[:80]]
    chosen = draw.choice(sentences) + ". "
    return _as_long_as(text, lambda: chosen)


def hex_ids(text: str, draw: random.Random) -> str:
    """Replace the text by lines of hexadecimal ids."""
    return _as_long_as(text, lambda: f"{draw.getrandbits(128):032x}\n")


def base64_text(text: str, draw: random.Random) -> str:
    """Encode the text in base64, cut to the same length."""
    return base64.b64encode(text.encode("utf-8", "replace")).decode()[: len(text)]


def html_wrapped(text: str, draw: random.Random) -> str:
    """Wrap every paragraph in layers of markup."""
    name = f"c{draw.randrange(1000)}"
    lines = [line for line in text.split("\n") if line.strip()]
    return "\n".join(f'<div class="{name}"><p class="{name} text"><span>{line}</span></p></div>' for line in lines)


def cut_words(text: str, draw: random.Random) -> str:
    """Leave out half of the words."""
    return " ".join(word for word in text.split() if draw.random() < 0.5)


def _as_long_as(text: str, part: Callable[[], str]) -> str:
    made = ""
    while len(made) < len(text):
        made += part()
    return made[: max(1, len(text))]


CORRUPTIONS: dict[str, Callable[[str, random.Random], str]] = {
    "shuffled words": shuffled_words,
    "OCR errors 10%": ocr_errors,
    "OCR errors 3%": few_ocr_errors,
    "words left out": cut_words,
    "base64": base64_text,
    "hex ids": hex_ids,
    "HTML-wrapped": html_wrapped,
    "boilerplate": boilerplate,
    "repetition": repetition,
}
"""Every kind, from both ends of the loss."""


def corrupt(text: str, kind: str, seed: int) -> str:
    """Corrupt a text in one way. The result depends only on (text, kind, seed), and is never empty.

    >>> corrupt("one two three four", "shuffled words", 0) == corrupt("one two three four", "shuffled words", 0)
    True
    """
    if kind not in CORRUPTIONS:
        raise SamplewiseError(
            "kind", expected="a known corruption", got=repr(kind), remedy=f"Known: {', '.join(CORRUPTIONS)}."
        )
    name = hashlib.blake2b(f"{seed}\0{kind}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return CORRUPTIONS[kind](text, random.Random(int.from_bytes(name))) or text


def with_corruptions(
    documents: Sequence[Document], share: float, seed: int, kinds: Sequence[str] = tuple(CORRUPTIONS)
) -> tuple[list[Document], dict[int, str]]:
    """The documents with a `share` of them corrupted, each in one of the kinds, and the kinds by document id.

    Sources, rows, ids and order stay: only its text shows that a document was corrupted. Which documents and kinds is
    a pure function of (seed, id). Errors: SamplewiseError for a share that is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise SamplewiseError(
            "share", expected="above 0 and at most 1", got=share, remedy="Use 0.2 to corrupt a fifth of the documents."
        )
    labels: dict[int, str] = {}
    corrupted = []
    for document in documents:
        name = document_id(document.source, document.row)
        draw = random.Random(seed * 2**64 + name)
        if draw.random() < share:
            labels[name] = draw.choice(list(kinds))
            document = replace(document, text=corrupt(document.text, labels[name], seed))
        corrupted.append(document)
    return corrupted, labels
