"""Clean text made worse, in the ways that corpora are: each takes a text, a source of chance and other clean texts."""

from __future__ import annotations

import base64
import codecs
import html
import random
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

Noise = Callable[[str, random.Random, Sequence[str]], str]
KEYS = {"q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok", "o": "ipl",
        "p": "ol", "a": "qsz", "s": "awdx", "d": "sefc", "f": "drgv", "g": "fthb", "h": "gyjn", "j": "hukm",
        "k": "jil",
        "l": "kop", "z": "asx", "x": "zsdc", "c": "xdfv", "v": "cfgb", "b": "vghn", "n": "bhjm",
        "m": "njk"}  # fmt: skip
LOOKS = {"l": "1", "1": "l", "o": "0", "0": "o", "e": "c", "c": "e", "h": "b", "rn": "m", "m": "rn", "i": "l",
         "s": "5", "g": "9", "a": "o", "u": "ii", "t": "f", "f": "t", "n": "ri", "d": "cl", "B": "8",
         "S": "5", "I": "1"}  # fmt: skip
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def rot13(text: str, draw: random.Random, others: Sequence[str]) -> str:
    return codecs.encode(text, "rot13")


def typos(text: str, draw: random.Random, others: Sequence[str], share: float = 0.05) -> str:
    """A neighbouring key, a letter left out, doubled, or swapped with the next."""
    found = list(text)
    for place in range(len(found) - 1):
        letter = found[place].lower()
        if letter in KEYS and draw.random() < share:
            kind = draw.randrange(4)
            if kind == 3:
                found[place], found[place + 1] = found[place + 1], found[place]
            else:
                found[place] = (draw.choice(KEYS[letter]), "", letter * 2)[kind]
    return "".join(found)


def shuffled(text: str, draw: random.Random, others: Sequence[str]) -> str:
    words = text.split()
    draw.shuffle(words)
    return " ".join(words)


def ocr(text: str, draw: random.Random, others: Sequence[str], share: float = 0.1) -> str:
    """Letters read as others of like shape, spaces lost and gained."""
    found = []
    for letter in text:
        if draw.random() >= share:
            found.append(letter)
        elif letter == " ":
            found.append("" if draw.random() < 0.5 else "  ")
        else:
            found.append(LOOKS.get(letter) or LOOKS.get(letter.lower()) or letter + draw.choice([" ", ".", "'", ""]))
    return "".join(found)


def in_base64(text: str, draw: random.Random, others: Sequence[str]) -> str:
    return base64.b64encode(text.encode()).decode()[: len(text)]


def in_hex(text: str, draw: random.Random, others: Sequence[str]) -> str:
    return text.encode().hex()[: len(text)]


PARTS = [
    "Home", "About Us", "Contact", "Privacy Policy", "Terms of Service", "Log in", "Sign up", "Products",
    "Services", "Blog", "News", "Careers", "Help", "FAQ", "Site Map", "Search", "Cart (0)", "My Account", "Menu",
    "Share on Facebook", "Tweet", "Follow us on Instagram", "Subscribe to our newsletter", "Read more",
    "Previous post", "Next post", "Reply", "All rights reserved.", "© 2019", "Accept all cookies",
    "We use cookies to improve your experience.", "Please enable JavaScript to view the comments.",
    "Skip to content", "Back to top", "Leave a comment", "Archives", "Categories", "Uncategorized", "Related posts",
    "Powered by WordPress", "Add to wishlist", "View all",
]  # fmt: skip
TAGS = ["div", "li", "a", "span", "p", "td", "ul", "nav", "section", "h3"]


def boilerplate(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """The frame of a page without its content: as text or, half of the time, with its marks."""
    marked, parts, size = draw.random() < 0.5, [], 0
    while size < len(text):
        part = draw.choice(PARTS)
        if marked:
            tag, name = draw.choice(TAGS), "".join(draw.choices(ALPHABET, k=draw.randint(3, 9)))
            part = f'<{tag} class="{name}-{draw.randint(1, 99)}" id="{name}">{html.escape(part)}</{tag}>'
        parts.append(part)
        size += len(part) + 1
    return draw.choice(["\n", " | ", " "]).join(parts)[: len(text)]


def repetition(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """A stretch of 20 to 120 characters over and over."""
    start = draw.randrange(max(1, len(text) - 120))
    part = text[start : start + draw.randint(20, 120)]
    return (part * (len(text) // len(part) + 1))[: len(text)]


def splice(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """The first half of one text and the second of another."""
    other = draw.choice(others)
    return text[: len(text) // 2] + " " + other[len(other) // 2 :]


def backwards(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Whole sentences, the last one first."""
    return " ".join(reversed(re.split(r"(?<=[.!?])\s+", text)))


NAMED: dict[str, Noise] = {
    "rot13": rot13, "typos 5%": typos, "shuffled words": shuffled, "OCR 10%": ocr, "base64": in_base64, "hex": in_hex,
    "HTML boilerplate": boilerplate, "repetition": repetition, "splice": splice, "reversed sentences": backwards,
}  # fmt: skip
"""The kinds that the measures were developed with, on other texts."""


def keyboard_shift(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Hands one key too far to the right."""
    rows = ("qwertyuiop[", "asdfghjkl;'", "zxcvbnm,./")
    table = {a: b for row in rows for a, b in pairwise(row)}
    return "".join(table.get(c, table.get(c.lower(), c).upper() if c.isupper() else c) for c in text)


def mojibake(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Accents and curly quotes of UTF-8, read as Windows-1252, on one word in four."""
    accents = str.maketrans("aeiouncAEIOU", "áéíóúñçÁÉÍÓÚ")
    words = [word.translate(accents) + "’s" if draw.random() < 0.25 else word for word in text.split(" ")]
    return " ".join(words).encode().decode("cp1252", "replace")


def leetspeak(text: str, draw: random.Random, others: Sequence[str]) -> str:
    return text.translate(str.maketrans("aeiostAEIOST", "43105743105" + "7"))


def interleaved(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Two columns of a page read across: eight words of one text, eight of another."""
    a, b = text.split(), draw.choice(others).split()
    rows = zip(range(0, len(a), 8), range(0, len(b), 8), strict=False)
    return "\n".join(" ".join(a[i : i + 8] + b[j : j + 8]) for i, j in rows)[: len(text)]


LEVELS = ("INFO", "WARN", "DEBUG", "ERROR")


def log_lines(text: str, draw: random.Random, others: Sequence[str]) -> str:
    words = re.findall(r"[a-z]{4,}", text) or ["none"]
    lines = []
    while sum(map(len, lines)) < len(text):
        lines.append(f"2021-0{draw.randint(1, 9)}-{draw.randint(10, 28)}T{draw.randint(10, 23)}:{draw.randint(10, 59)}:"
                     f"{draw.randint(10, 59)}.{draw.randint(100, 999)}Z {draw.choice(LEVELS)} "
                     f"[{draw.choice(words)}-{draw.randint(1, 64)}] {draw.choice(words)}={draw.randint(0, 10**6)} "
                     f"{draw.choice(words)} took {draw.randint(1, 9999)}ms 0x{draw.getrandbits(32):08x}")  # fmt: skip
    return "\n".join(lines)[: len(text)]


def salad(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Words drawn one by one from many texts, as often as they are there."""
    words = " ".join(draw.choices(others, k=20)).split()
    return " ".join(draw.choices(words, k=len(text.split())))


def truncated(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Words of more than four letters without their ends."""
    return " ".join(word if len(word) < 5 else word[: draw.randint(3, len(word) - 1)] for word in text.split())


def homoglyphs(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Every third vowel in Cyrillic."""
    table = str.maketrans("aeocpxAEOCPX", "аеосрхАЕОСРХ")
    return "".join(c.translate(table) if draw.random() < 0.33 else c for c in text)


def no_vowels(text: str, draw: random.Random, others: Sequence[str]) -> str:
    return re.sub(r"(?<=\w)[aeiou]", "", text)


def no_spaces(text: str, draw: random.Random, others: Sequence[str]) -> str:
    return re.sub(r" +", "", text)


def inner_letters(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """The letters inside of every word shuffled."""

    def one(match: re.Match[str]) -> str:
        inner = list(match[2])
        draw.shuffle(inner)
        return match[1] + "".join(inner) + match[3]

    return re.sub(r"([A-Za-z])([A-Za-z]{2,})([A-Za-z])", one, text)


def mirrored(text: str, draw: random.Random, others: Sequence[str]) -> str:
    return text[::-1]


def half_garbled(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """The second half in rot13."""
    return text[: len(text) // 2] + codecs.encode(text[len(text) // 2 :], "rot13")


def babble(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """A chain of words by pairs, from the other texts: each pair is real, the text is not."""
    words = " ".join(others).split()
    following: dict[str, list[str]] = {}
    for a, b in pairwise(words):
        following.setdefault(a, []).append(b)
    found = [draw.choice(words)]
    while len(found) < len(text.split()):
        found.append(draw.choice(following.get(found[-1], words)))
    return " ".join(found)


def numbers(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """A table of numbers."""
    rows = [",".join(f"{draw.uniform(-100, 1000):.{draw.randint(0, 4)}f}" for _ in range(8)) for _ in range(40)]
    return "\n".join(rows)[: len(text)]


UNMET: dict[str, Noise] = {
    "keyboard shift": keyboard_shift, "mojibake": mojibake, "leetspeak": leetspeak, "interleaved lines": interleaved,
    "log lines": log_lines, "word salad": salad, "truncated words": truncated, "homoglyphs": homoglyphs,
    "no vowels": no_vowels, "no spaces": no_spaces, "inner letters shuffled": inner_letters, "mirrored": mirrored,
    "half garbled": half_garbled, "babble by pairs": babble, "numbers": numbers,
}  # fmt: skip
"""Kinds that took no part in the development: written down after the model was fixed."""
