"""Duplicates are found, and only duplicates."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplewise.core.errors import SamplewiseError
from samplewise.data import Document, deduplicate, split_documents
from samplewise.data.near_duplicates import fingerprint, without_copies
from samplewise.data.sketch import JACCARD, WORDS

VOCABULARY = [f"word{i}" for i in range(3000)]


def documents(texts):
    return [Document(text, "a.jsonl", row) for row, text in enumerate(texts)]


def text(seed: int, words: int = 400) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=words)


def jaccard(a: list[str], b: list[str]) -> float:
    """The definition, with sets of tuples."""
    one, two = ({tuple(t[i : i + WORDS]) for i in range(len(t) - WORDS + 1)} for t in (a, b))
    return len(one & two) / len(one | two)


def test_exact_duplicates_differ_in_case_and_white_space_only():
    found = deduplicate(documents(["One  text", "one\ntext ", "one text!", "ONE TEXT"]))
    assert ([d.row for d in found.kept], found.exact, found.near) == ([0, 2], 2, 0)


@given(seed=st.integers(0, 10**6), changed=st.integers(0, 40), added=st.integers(0, 150))
@settings(max_examples=60, deadline=None)
def test_a_near_duplicate_is_one_by_definition(seed, changed, added):
    first = text(seed)
    other = [*first, *text(seed + 1, added)]
    for position in random.Random(seed).sample(range(len(first)), changed):
        other[position] = "changed"
    alike = jaccard(first, other)
    found = deduplicate(documents([" ".join(first), " ".join(other)]))
    if abs(alike - JACCARD) > 0.02:  # right at the threshold a pair may be missed
        assert found.exact + found.near == (alike >= JACCARD)
    else:
        assert alike >= JACCARD or len(found.kept) == 2


def test_near_duplicates_are_found_among_many():
    texts = [" ".join(text(seed)) for seed in range(100)]
    copies = [f"{t} and a new end" for t in texts[::10]]
    found = deduplicate(documents(texts + copies))
    assert (len(found.kept), found.exact, found.near) == (100, 0, 10)
    assert [d.text for d in found.kept] == texts


@given(picked=st.lists(st.integers(0, 11), max_size=40), of=st.lists(st.integers(0, 11), max_size=6))
@settings(max_examples=60, deadline=None)
def test_copies_of_other_documents_alone_are_left_out(picked, of):
    """Three texts and the short one of each, as they are, in capitals and with one word more."""
    texts = [" ".join(words) for seed in range(3) for words in (text(seed, 90), text(seed, 3))]
    texts += [each.upper() if len(each) < 60 else f"{each} more" for each in texts]
    given = documents([texts[i] for i in picked])
    others = [Document(texts[i], "b.jsonl", 0) for i in of]

    def same(a: Document, b: Document) -> bool:
        return fingerprint(a.text) == fingerprint(b.text)

    def near(a: Document, b: Document) -> bool:
        one, two = a.text.lower().split(), b.text.lower().split()
        return min(len(one), len(two)) >= WORDS and jaccard(one, two) >= JACCARD

    exact = [d for d in given if any(same(d, other) for other in others)]
    both = [d for d in given if d in exact or any(near(d, other) for other in others)]
    found = without_copies(given, others)
    assert found.kept == [d for d in given if d not in both]
    assert (found.exact, found.near) == (len(exact), len(both) - len(exact))


def test_short_texts_are_compared_exactly():
    found = deduplicate(documents(["one two three", "one two four", "one two three", "…", "!"]))
    assert ([d.row for d in found.kept], found.exact) == ([0, 1, 3, 4], 1)


def test_scripts_without_spaces_have_shingles_too():
    sentence = "".join(chr(0x4E00 + i) for i in range(300))
    found = deduplicate(documents([sentence, sentence + "一", sentence[::-1]]))
    assert (len(found.kept), found.near) == (2, 1)


def test_the_result_is_the_same_anywhere():
    """Written down once: a change of hashes would change which documents a user trains on."""
    texts = [" ".join(text(seed)) for seed in range(50)]
    train, held_out = split_documents(documents(texts), 0.2)
    assert [d.row for d in held_out] == [0, 9, 14, 28, 32, 44]
    assert len(train) + len(held_out) == 50


@given(st.sets(st.text(min_size=1, max_size=20), min_size=40, max_size=80), st.integers(1, 30), st.randoms())
@settings(max_examples=30, deadline=None)
def test_a_document_never_changes_sides(texts, removed, order):
    texts = sorted(texts)
    try:
        train, held_out = split_documents(documents(texts), 0.3)
        fewer = order.sample(texts, len(texts) - removed)
        train_fewer, held_out_fewer = split_documents(documents(fewer), 0.3)
    except SamplewiseError:
        return
    assert {d.text for d in train_fewer} <= {d.text for d in train}
    assert {d.text for d in held_out_fewer} <= {d.text for d in held_out}
    assert len(train) + len(held_out) == len(texts)


def test_the_share_is_met_on_average():
    sides = split_documents(documents(map(str, range(20_000))), 0.05)
    assert abs(len(sides[1]) / 20_000 - 0.05) < 0.006  # four standard deviations


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_out_of_range_is_an_error(share):
    with pytest.raises(SamplewiseError, match="between 0 and 1"):
        split_documents(documents(["a", "b"]), share)


@pytest.mark.parametrize("texts", [[], ["one"], ["one", "two"]])
def test_a_corpus_too_small_to_split_is_an_error(texts):
    with pytest.raises(SamplewiseError, match="on both sides of the split"):
        split_documents(documents(texts), 0.001)
