"""The junk score: made-up noise of each kind is found, clean text of many kinds is left alone, and no text's score
depends on what stands beside it.
"""

import base64
import codecs
import random
import zlib

import numpy as np
import pytest
from junk_texts import CLEAN, PROSE

from samplewise.corpus.duplicates import near_groups
from samplewise.corpus.junk import BORDER, judge_texts
from samplewise.corpus.junk.coherence import turned
from samplewise.corpus.junk.letters import letters_of
from samplewise.corpus.junk.model import PLACE, model, read_model, write_model
from samplewise.corpus.junk.ngrams import Table, bits, keyed, mark_of, places, runs, salt
from samplewise.corpus.junk.score import COLUMNS


def shuffled(text: str) -> str:
    words = text.split()
    random.Random(0).shuffle(words)
    return " ".join(words)


def other_letters(text: str) -> str:
    draw = random.Random(1)
    return "".join(draw.choice("abcdefghijklmnopqrst") if c.isalpha() and draw.random() < 0.25 else c for c in text)


JUNK = {
    "rot13": (codecs.encode(PROSE, "rot13"), "garbled"),
    "other letters": (other_letters(PROSE), "garbled"),
    "shuffled": (shuffled(PROSE), "shuffled words"),
    "repeated": ("Sign up for the newsletter today! " * 15, "repetitive"),
    "base64": (base64.b64encode(zlib.compress(PROSE.encode() * 3)).decode(), "encoded"),
    "hex": (PROSE.encode().hex()[:500], "encoded"),
    "mirrored": (PROSE[::-1], "garbled"),
    "German in rot13": (codecs.encode(CLEAN["German"], "rot13"), "garbled"),
}


@pytest.fixture(scope="module")
def found():
    names = [*CLEAN, *JUNK]
    judged = judge_texts([*CLEAN.values(), *(text for text, _ in JUNK.values())])
    return {name: (judged.score[i], judged.looks[i]) for i, name in enumerate(names)}


@pytest.mark.parametrize("name", JUNK)
def test_noise_is_junk_and_looks_like_what_it_is(found, name):
    score, looks = found[name]
    assert score >= BORDER
    assert JUNK[name][1] in looks


@pytest.mark.parametrize("name", CLEAN)
def test_clean_text_of_any_kind_is_no_junk(found, name):
    score, looks = found[name]
    assert score < BORDER
    assert looks == ()


def test_a_score_does_not_depend_on_the_texts_beside_it():
    """Forty percent of noise vouches for none of it: what other measures fell for."""
    noise = [codecs.encode(PROSE[i : i + 420], "rot13") for i in range(40)]
    alone = judge_texts(noise[:3]).score
    among = judge_texts([*noise, *[PROSE[i:] for i in range(60)]]).score
    assert np.allclose(among[:3], alone)
    assert (among[:40] >= BORDER).all()
    assert (among[40:] < BORDER).all()


@pytest.mark.parametrize(
    "text", ["", " ", "\0\x1b", "a", "\ud83d", "\u202e", "\U0001f600" * 100, "漢字" * 50, "\n" * 200]
)
def test_any_text_can_be_judged(text):
    judged = judge_texts([text, PROSE])
    assert len(judged.score) == len(judged.looks) == 2
    assert np.isnan(judged.score[0]) == (len(text.strip()) < 60)
    assert judged.score[1] == judge_texts([PROSE]).score[0]


def test_nothing_at_all_can_be_judged():
    assert judge_texts([]).looks == []
    assert np.isnan(judge_texts(["", " "]).score).all()


def test_the_model_is_small_and_comes_back_as_it_was_written(tmp_path):
    assert PLACE.stat().st_size < 2e6
    known = model()
    write_model(tmp_path / "model.npz", known)
    again = read_model(tmp_path / "model.npz")
    assert again.languages.names == known.languages.names
    assert (again.table.values == known.table.values).all()
    assert again.places == known.places
    assert known.usual.shape == known.scale.shape == (4, len(COLUMNS))
    assert len(known.languages.names) > 80


def test_bits_are_those_of_the_longest_known_run():
    """b costs what it costs after a; c its own bits, and a penalty for a context that was known and not for it."""
    letters = letters_of(["abc"])
    hashes = runs(letters.codes)
    start = int(letters.starts[0])
    table = Table(np.zeros(97, np.uint8), np.zeros(97, np.uint8))
    for length, place, cost in ((1, start, 24), (1, start + 1, 36), (1, start + 2, 48), (2, start + 1, 12)):
        key = keyed(hashes[length - 1][place : place + 1], salt(0, length))
        where = places(key, 97)[0]
        table.marks[where], table.values[where] = mark_of(key), cost
    found = bits(table, hashes, 0)[start : start + 3]
    assert found == pytest.approx([24 / 12, 12 / 12, 48 / 12 + 2 * 1.6])


def test_letters_of_many_texts_are_those_of_each():
    texts = ["Ein Wort", "", "Zwei\n\n Wörter 42"]
    letters = letters_of(texts)
    assert ["".join(map(chr, letters.codes[letters.text == i])) for i in range(3)] == ["ein wort", "", "zwei wörter 00"]
    assert letters.capital[letters.text == 0].tolist() == [True, *[False] * 3, True, *[False] * 3]


def test_what_turns_with_the_sentences_changes_its_sign():
    places_ = {"the": 0, "they": 1, "it": 2}
    sentences = PROSE.split(". ")
    back = ". ".join(part.rstrip(".") for part in reversed(sentences)) + "."
    forward, backward = turned(PROSE, places_), turned(back, places_)
    assert forward is not None
    assert forward == pytest.approx(-backward)
    assert turned("One sentence only.", places_) is None


def prose(draw: random.Random, sentences: int) -> str:
    subjects, verbs = (
        ["the captain", "a nurse", "my brother", "our train"],
        ["remembers", "crosses", "paints", "leaves"],
    )
    objects = ["the river bank", "a quiet harbour", "the long letter", "an empty house", "the first snow"]
    return ". ".join(f"{draw.choice(subjects)} {draw.choice(verbs)} {draw.choice(objects)}" for _ in range(sentences))


def test_groups_hold_exact_and_near_copies_and_nothing_else():
    draw = random.Random(1)
    texts = [prose(draw, 30) for _ in range(40)]
    texts[10] = texts[3].upper()
    texts[20] = texts[3] + " And so on."
    texts[30] = texts[5]
    texts += ["short", "", "SHORT "]
    assert near_groups(texts) == [[3, 10, 20], [5, 30], [40, 42]]
