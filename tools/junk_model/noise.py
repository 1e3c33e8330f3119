"""Clean text made worse in ways invented for the development: broad, so that what is learnt is how clean text looks
rather than how one kind of noise does.

None of them is one of `bench/junk_noise.UNMET`, which are for tests alone.
"""

from __future__ import annotations

import codecs
import quopri
import random
import re
import string
import urllib.parse
import zlib
from collections.abc import Callable, Sequence

Noise = Callable[[str, random.Random, Sequence[str]], str]
LETTERS = string.ascii_lowercase


def _each(text: str, draw: random.Random, share: float, change: Callable[[str], str]) -> str:
    return "".join(change(c) if c.isalpha() and draw.random() < share else c for c in text)


def cipher(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Another letter for each letter, drawn anew for each text, in all of its words or in some."""
    table = str.maketrans(
        LETTERS + LETTERS.upper(), "".join(draw.sample(LETTERS, 26)) * 1 + "".join(draw.sample(LETTERS, 26)).upper()
    )
    share = draw.choice([0.3, 0.6, 1.0])
    return re.sub(r"\w+", lambda match: match[0].translate(table) if draw.random() < share else match[0], text)


def vowels_turned(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Each vowel another one."""
    turned = "".join(draw.sample("aeiou", 5))
    return text.translate(str.maketrans("aeiouAEIOU", turned + turned.upper()))


def letters_lost(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """A tenth to a third of all letters gone, anywhere."""
    return _each(text, draw, draw.uniform(0.1, 0.33), lambda c: "")


def letters_gained(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Letters between the letters."""
    return _each(text, draw, draw.uniform(0.08, 0.3), lambda c: c + draw.choice(LETTERS))


def letters_changed(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Other letters in the place of some."""
    return _each(text, draw, draw.uniform(0.06, 0.35), lambda c: draw.choice(LETTERS))


def letters_doubled(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Letters twice or three times."""
    return _each(text, draw, draw.uniform(0.1, 0.6), lambda c: c * draw.randint(2, 3))


def letters_spaced(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Spaces within words, as justified print leaves them."""
    return _each(text, draw, draw.choice([0.15, 0.4, 1.0]), lambda c: c + " ")


def spaces_moved(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """As many spaces, at other places."""
    solid = text.replace(" ", "")
    places = set(draw.sample(range(len(solid)), min(len(solid), text.count(" "))))
    return "".join(c + " " if place in places else c for place, c in enumerate(solid))


def odd_capitals(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Capitals anywhere."""
    return _each(text, draw, draw.uniform(0.2, 0.5), str.swapcase)


def monkey(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Letters and spaces as frequent as in the text, in no order."""
    return "".join(draw.choices(text, k=len(text)))


def letter_chain(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Letters by the one or two before: nearly words."""
    order = draw.choice([1, 2])
    pool = " ".join(draw.sample(list(others), min(20, len(others))))
    following: dict[str, list[str]] = {}
    for place in range(len(pool) - order):
        following.setdefault(pool[place : place + order], []).append(pool[place + order])
    found = pool[:order]
    while len(found) < len(text):
        found += draw.choice(following.get(found[-order:], [" "]))
    return found


def syllables(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Words of consonant and vowel, in the place of the words of the text, of all or of some."""
    share = draw.choice([0.4, 1.0])

    def one(match: re.Match[str]) -> str:
        if draw.random() >= share:
            return match[0]
        made = "".join(draw.choice("bcdfghjklmnpqrstvwz") + draw.choice("aeiou") for _ in match[0][::2])
        return made.capitalize() if match[0][0].isupper() else made

    return re.sub(r"[A-Za-z]{2,}", one, text)


def palette(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Characters drawn from a few, of any kind."""
    ranges = [(33, 47), (48, 57), (58, 64), (65, 90), (97, 122), (0xA1, 0xFF), (0x2190, 0x22FF), (0x4E00, 0x9000)]
    few = [chr(draw.randint(*draw.choice(ranges))) for _ in range(draw.randint(2, 40))]
    return "".join(" " if draw.random() < 0.12 else draw.choice(few) for _ in text)


def signs_between(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Signs where spaces stand."""
    signs = draw.choice(["*", "#", "~^", "|/\\", "!?", "_=", "§¤", "•·"])
    return re.sub(
        r" ", lambda _: " " + draw.choice(signs) * draw.randint(1, 3) + " " if draw.random() < 0.6 else " ", text
    )


def sorted_words(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """In the order of the alphabet."""
    return " ".join(sorted(text.split(), key=str.lower))


def words_backwards(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """The last word first."""
    return " ".join(text.split()[::-1])


def words_lost(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """A third to two thirds of the words gone."""
    share = draw.uniform(0.33, 0.66)
    return " ".join(word for word in text.split() if draw.random() > share)


def words_swapped(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Neighbouring words swapped, by twos."""
    words = text.split()
    return " ".join(word for a, b in zip(words[::2], words[1::2], strict=False) for word in (b, a))


def words_doubled(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Some words twice or three times."""
    return " ".join(word for own in text.split() for word in [own] * draw.choice([1, 2, 3]))


def content_words(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Without words of three letters and less, and without stops: keywords."""
    return " ".join(re.findall(r"\w{4,}", text))


def bare_list(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """A word a line or a comma, of many texts."""
    words = re.findall(r"\w{3,}", " ".join(draw.sample(list(others), min(8, len(others)))))
    return draw.choice(["\n", ", ", ";", " / "]).join(draw.sample(words, min(len(words), 80)))[: len(text)]


def percent(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """As in an address."""
    return urllib.parse.quote(text)[: len(text)]


def escapes(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Letters as escapes or entities."""
    form = draw.choice(["\\u{:04x}", "&#{};", "\\x{:02x}", "U+{:04X} "])
    return _each(text, draw, draw.choice([0.1, 0.5]), lambda c: form.format(ord(c)))[: len(text)]


def quoted(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """As mail sends it, with some accents."""
    accents = text.translate(str.maketrans("aeu", "äéü")) if draw.random() < 0.5 else text.replace(" ", "\xa0")
    return quopri.encodestring(accents.encode()).decode()[: len(text)]


def binary(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """A compressed file opened as text."""
    data = zlib.compress((text * 4).encode("utf-8", "replace"))
    return data.decode(draw.choice(["latin-1", "utf-8", "cp437"]), "replace")[: len(text)]


def marks_above(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Accents over letters that have none."""
    return _each(text, draw, draw.choice([0.15, 0.5]), lambda c: c + chr(draw.randint(0x300, 0x36F)))


def other_forms(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Letters of mathematics or of full width."""
    start = draw.choice([0xFF41, 0x1D41A, 0x24D0])
    return _each(text, draw, draw.choice([0.2, 1.0]), lambda c: chr(start + ord(c.lower()) - 97) if c.isascii() else c)


def rail(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Every third letter first, then the rest: a rail fence."""
    step = draw.randint(2, 6)
    return "".join(text[start::step] for start in range(step))


def lines_shuffled(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Cut every 8 to 20 characters, in another order."""
    size = draw.randint(8, 20)
    parts = [text[i : i + size] for i in range(0, len(text), size)]
    draw.shuffle(parts)
    return draw.choice(["", "\n"]).join(parts)


def addresses(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Links, and nothing else."""
    words = [word.lower() for word in re.findall(r"[A-Za-z]{3,}", text)] or ["page"]
    parts = []
    while sum(map(len, parts)) < len(text):
        path = "/".join(draw.choices(words, k=draw.randint(1, 4)))
        parts.append(f"http{draw.choice(['', 's'])}://{draw.choice(words)}.{draw.choice(['com', 'org', 'net'])}/{path}"
                     f"{draw.choice(['', f'?id={draw.randint(1, 99999)}', '.html'])}")  # fmt: skip
    return draw.choice(["\n", " ", ", "]).join(parts)[: len(text)]


def records(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Rows of a table without its heads: words, codes, dates, sums."""
    words = re.findall(r"\w+", text) or ["none"]
    cell = [lambda: draw.choice(words), lambda: f"{draw.choice(string.ascii_uppercase)}{draw.randint(10, 9999)}",
            lambda: f"{draw.randint(1, 28)}/{draw.randint(1, 12)}/{draw.randint(1990, 2020)}", lambda: "",
            lambda: f"${draw.randint(1, 900)}.{draw.randint(10, 99)}"]  # fmt: skip
    kinds, between = draw.choices(cell, k=draw.randint(3, 7)), draw.choice(["\t", ";", "|", "  "])
    lines: list[str] = []
    while sum(map(len, lines)) < len(text):
        lines.append(between.join(kind() for kind in kinds))
    return "\n".join(lines)[: len(text)]


def dump(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """Identifiers, or a file as bytes in rows."""
    if draw.random() < 0.5:
        return "\n".join(f"{draw.getrandbits(128):032x}"[: draw.choice([8, 16, 32])] for _ in range(60))[: len(text)]
    data = text.encode("utf-8", "replace")
    rows = (f"{i:08x}  {data[i : i + 16].hex(' ')}  |{text[i : i + 16]}|" for i in range(0, len(data), 16))
    return "\n".join(rows)[: len(text)]


def listing(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """What a folder holds."""
    words = re.findall(r"[a-z]{3,}", text) or ["file"]
    rows = (f"-rw-r--r-- {draw.randint(1, 3)} root root {draw.randint(1, 10**6):>7} {draw.choice(['Jan', 'May'])} "
            f"{draw.randint(1, 28)} {draw.randint(10, 23)}:{draw.randint(10, 59)} {'_'.join(draw.choices(words, k=2))}"
            f".{draw.choice(['c', 'txt', 'png'])}" for _ in range(40))  # fmt: skip
    return "\n".join(rows)[: len(text)]


def burst(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """A stretch in which every other letter is wrong."""
    size = max(20, round(len(text) * draw.uniform(0.2, 0.6)))
    start = draw.randrange(max(1, len(text) - size))
    part = _each(text[start : start + size], draw, 0.5, lambda c: draw.choice(LETTERS))
    return text[:start] + part + text[start + size :]


def encoded_part(text: str, draw: random.Random, others: Sequence[str]) -> str:
    """A stretch in base64."""
    start, size = draw.randrange(max(1, len(text) // 2)), len(text) // 3
    return text[:start] + codecs.encode(text[start : start + size].encode(), "base64").decode() + text[start + size :]


INVENTED: dict[str, Noise] = {
    own.__name__.replace("_", " "): own
    for own in (cipher, vowels_turned, letters_lost, letters_gained, letters_changed, letters_doubled, letters_spaced,
                spaces_moved, odd_capitals, monkey, letter_chain, syllables, palette, signs_between, sorted_words,
                words_backwards, words_lost, words_swapped, words_doubled, content_words, bare_list, percent, escapes,
                quoted, binary, marks_above, other_forms, rail, lines_shuffled, addresses, records, dump, listing,
                burst, encoded_part)
}  # fmt: skip
