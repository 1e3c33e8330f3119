"""The measures point at made-up junk of each kind and leave prose alone; duplicates come in groups."""

import base64
import random

import pytest

from samplewise.corpus.duplicates import near_groups
from samplewise.corpus.junk import HIGH, LOW, flags, measure

SUBJECTS = [
    "the old captain",
    "a young nurse",
    "my brother",
    "the small town",
    "every winter",
    "their garden",
    "our train",
]
VERBS = ["remembers", "crosses", "paints", "waits for", "leaves behind", "listens to", "walks along"]
OBJECTS = [
    "the river bank",
    "a quiet harbour",
    "the long letter",
    "an empty house",
    "the first snow",
    "some bread",
    "it all",
]


def prose(draw: random.Random, sentences: int = 14) -> str:
    parts = [f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(OBJECTS)}" for _ in range(sentences)]
    return ". ".join(part.capitalize() for part in parts) + "."


def garbled(draw: random.Random) -> str:
    return "".join(
        draw.choice("abcdefghijklmnopqrst") if draw.random() < 0.3 and c.isalpha() else c for c in prose(draw)
    )


JUNK = {
    "repetitive": lambda draw: "Sign up for the newsletter today! " * 20,
    "repeated lines": lambda draw: "Home | About us | Contact\nAll rights reserved\n" * 12,
    "encoded": lambda draw: base64.b64encode(draw.randbytes(400)).decode(),
    "few letters": lambda draw: " ".join(f"{draw.random():.3f}," for _ in range(80)),
    "unknown words": garbled,
    "other script": lambda draw: "Сегодня на улице идёт дождь, и мы остаёмся дома. Завтра будет солнце." * 2,
}


@pytest.fixture(scope="module")
def looks():
    """What each of 200 texts of prose and three of each kind of junk looks like."""
    draw = random.Random(0)
    texts = [prose(draw) for _ in range(200)]
    kinds = ["prose"] * len(texts)
    for kind, make in JUNK.items():
        texts += [make(draw) for _ in range(3)]
        kinds += [kind] * 3
    return list(zip(kinds, flags(texts, measure(texts)), strict=True))


@pytest.mark.parametrize("kind", JUNK)
def test_junk_is_pointed_at(looks, kind):
    assert all(kind in found for own, found in looks if own == kind)


def test_prose_is_left_alone(looks):
    pointed_at = [found for own, found in looks if own == "prose" and found]
    assert len(pointed_at) <= 4, pointed_at


def test_repetition_counts_as_low_and_noise_as_high(looks):
    assert set(JUNK) == {*LOW, *HIGH}
    for kind, found in looks:
        if kind in ("encoded", "few letters", "unknown words", "other script"):
            assert any(name in HIGH for name in found)


@pytest.mark.parametrize("text", ["", " ", "\0\x1b", "a", "\ud83d", "\u202e", "\U0001f600" * 100, "漢字" * 50])
def test_any_text_can_be_measured(text):
    found = measure([text, "some words to stand beside it"])
    assert len(flags([text, "x" * 100], found)) == 2


def test_groups_hold_exact_and_near_copies_and_nothing_else():
    draw = random.Random(1)
    texts = [prose(draw, 30) for _ in range(40)]
    texts[10] = texts[3].upper()
    texts[20] = texts[3] + " And so on."
    texts[30] = texts[5]
    texts += ["short", "", "SHORT "]
    assert near_groups(texts) == [[3, 10, 20], [5, 30], [40, 42]]
