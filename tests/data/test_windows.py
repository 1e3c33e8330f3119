"""Windows predict every token once, cover every byte once, and have names of their own for good."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from samplewise.core.errors import SamplewiseError
from samplewise.data import (
    Document,
    PadCollator,
    StreamedWindows,
    WindowDataset,
    WindowReport,
    cut_windows,
    prefix_of,
)

TEXT = st.text(st.sampled_from("thec at,\n é☃𝔘的0"), max_size=120)


def documents(texts):
    return [Document(text, "a.jsonl", row) for row, text in enumerate(texts)]


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def cut(texts, tokenizer, **options):
    report = WindowReport()
    return list(cut_windows(documents(texts), tokenizer, report=report, **options)), report


@given(st.lists(TEXT, max_size=5), st.integers(2, 40), st.data())
@settings(max_examples=150, deadline=None)
def test_every_token_is_predicted_once_or_counted_as_left_out(tokenizer, texts, max_length, data):
    least = data.draw(st.integers(1, max_length - 1))
    windows, report = cut(texts, tokenizer, max_length=max_length, min_tokens=least)
    tokens = 0
    for row, text in enumerate(texts):
        own = [w for w in windows if w.row == row]
        predicted = [i for w in own for i in w.input_ids[1:].tolist()]
        ids = encode(tokenizer, text)
        assert predicted == ids[: len(predicted)]
        assert len(ids) - len(predicted) < least
        assert [w.index for w in own] == list(range(len(own)))
        contexts = [w.input_ids[0] for w in own]
        assert contexts == [tokenizer.bos_token_id, *(w.input_ids[-1] for w in own[:-1])][: len(own)]
        assert all(a.span[1] == b.span[0] for a, b in itertools.pairwise(own))
        if len(predicted) == len(ids):
            assert "".join(text[slice(*w.span)] for w in own) == text * bool(own)
            assert sum(w.size for w in own) == len(text.encode()) * bool(own)
        tokens += len(ids)
    assert all(least <= w.tokens < max_length for w in windows)
    assert (report.documents, report.windows) == (len(texts), len(windows))
    assert report.tokens == sum(w.tokens for w in windows)
    assert report.tokens + report.short_tokens == tokens


def test_spans_follow_the_tokens(tokenizer):
    windows, _ = cut(["the cat sat on the mat and that was that"], tokenizer, max_length=6, min_tokens=1)
    for window in windows:
        text = tokenizer.decode(window.input_ids[1:])
        assert "the cat sat on the mat and that was that"[slice(*window.span)].strip() == text.strip()


def test_a_short_end_is_evened_out(tokenizer):
    windows, report = cut(["0" * 23], tokenizer, max_length=21, min_tokens=8)  # 20 predicted tokens, then 3
    assert ([w.tokens for w in windows], report.rebalanced, report.short) == ([12, 11], 1, 0)
    windows, report = cut(["0" * 23], tokenizer, max_length=21, min_tokens=15)
    assert ([w.tokens for w in windows], report.short, report.short_tokens) == ([20], 1, 3)
    windows, report = cut(["0" * 3], tokenizer, max_length=21)
    assert (windows, report.short, report.short_tokens) == ([], 1, 3)


def test_the_prefix_is_bos_else_eos_else_none(tokenizer):
    import copy

    other = copy.deepcopy(tokenizer)
    assert prefix_of(other).kind == "bos"
    other.bos_token = None
    windows, report = cut(["the mat"], other, max_length=8, min_tokens=1)
    assert (report.prefix.kind, report.prefix.id) == ("eos", windows[0].input_ids[0])
    other.eos_token = None
    windows, report = cut(["the mat", "t", ""], other, max_length=8, min_tokens=1)
    assert report.prefix.kind == "none"
    assert windows[0].input_ids.tolist() == encode(other, "the mat")
    assert windows[0].size < len("the mat")  # the first token is not predicted, so its bytes do not count
    assert (len(windows), report.short) == (1, 2)


def test_a_tokenizer_without_offsets_shares_the_bytes_out():
    class Slow:
        bos_token_id, eos_token_id = 0, 0

        def __call__(self, texts, **_):
            return {"input_ids": [[1 + ord(c) for c in text] for text in texts]}

    text = "é" * 30
    windows, _ = cut([text], Slow(), max_length=9, min_tokens=1)
    assert [w.size for w in windows] == [2 * w.tokens for w in windows]


@given(
    st.lists(st.sampled_from(["the cat", "12 ", "\n\n", "☃é", " sat on ", "that", "x" * 70]), max_size=60), st.data()
)
@settings(max_examples=60, deadline=None)
def test_long_texts_have_the_same_tokens_in_pieces(tokenizer, words, data):
    text = "".join(words)
    options = {"max_length": data.draw(st.integers(2, 30)), "min_tokens": 1}
    whole, _ = cut([text, "the mat"], tokenizer, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samplewise.data.tokens.LONG", 64)
        pieces, _ = cut([text, "the mat"], tokenizer, **options)
    if "x" * 65 in text:  # cut within a word
        assert "".join(text[slice(*w.span)] for w in pieces if not w.row) == text
    else:
        assert [(w.id, w.span, w.size, w.input_ids.tolist()) for w in pieces] == [
            (w.id, w.span, w.size, w.input_ids.tolist()) for w in whole
        ]


def test_names_are_unique_and_do_not_depend_on_order(tokenizer):
    files = [Document("the cat sat on the mat " * 9, f"{name}.txt", row) for name in "abc" for row in range(3)]
    forward = list(cut_windows(files, tokenizer, max_length=16, min_tokens=1))
    backward = list(cut_windows(files[::-1], tokenizer, max_length=16, min_tokens=1))
    assert {w.id for w in forward} == {w.id for w in backward}
    assert len({w.id for w in forward}) == len(forward)
    assert len({w.doc_id for w in forward}) == len(files)
    assert all(0 <= w.id < 2**63 and 0 <= w.doc_id < 2**63 for w in forward)


def test_documents_are_taken_as_they_are_needed(tokenizer):
    taken = []

    def endless():
        while True:
            taken.append(0)
            yield Document("the cat sat on the mat", "a", len(taken))

    next(cut_windows(endless(), tokenizer, max_length=16, min_tokens=1))
    assert len(taken) <= 32


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_length": 1}, "max_length: expected at least 2"),
        ({"max_length": 65, "context": 64}, "the model's context, 64"),
        ({"max_length": 16}, "min_tokens: expected 1 to 15"),
        ({"max_length": 16, "min_tokens": 0}, "min_tokens: expected 1 to 15"),
    ],
)
def test_lengths_are_checked_at_once(tokenizer, options, match):
    with pytest.raises(SamplewiseError, match=match):
        cut_windows([], tokenizer, **options)


def test_both_datasets_give_the_same_rows(tokenizer):
    texts = ["the cat sat on the mat " * n for n in (1, 5, 3)]

    def windows():
        return cut_windows(documents(texts), tokenizer, max_length=16, min_tokens=1)

    whole, streamed = WindowDataset(windows()), StreamedWindows(windows)
    for _ in range(2):  # a second epoch is the same
        rows = list(streamed)
        assert len(rows) == len(whole)
        assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(rows, whole, strict=True))
        assert [r["sample_id"] for r in rows] == [r["sample_id"] for r in whole]
    with pytest.raises(SamplewiseError, match=r"windows: .* repeated"):
        WindowDataset([*windows(), *windows()])


def test_workers_share_a_stream(tokenizer):
    stream = StreamedWindows(lambda: cut_windows(documents(["the cat " * 40]), tokenizer, max_length=16, min_tokens=1))
    loader = DataLoader(stream, batch_size=2, num_workers=2, collate_fn=PadCollator(1))
    ids = torch.cat([batch["sample_id"] for batch in loader]).tolist()
    assert sorted(ids) == sorted(row["sample_id"] for row in stream)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=7), min_size=1, max_size=5), st.integers(0, 9))
def test_padding_keeps_rows_and_masks_by_length(rows, pad):
    """Also where the pad token occurs in the rows."""
    names = [2**63 - 1 - i for i in range(len(rows))]
    batch = PadCollator(pad)(
        [{"input_ids": r, "labels": r, "sample_id": n} for r, n in zip(rows, names, strict=True)]
    )  # fmt: skip
    assert batch["attention_mask"].sum(1).tolist() == [len(r) for r in rows]
    for i, row in enumerate(rows):
        kept = batch["attention_mask"][i].bool()
        assert batch["input_ids"][i][kept].tolist() == batch["labels"][i][kept].tolist() == row
        assert (batch["input_ids"][i][~kept] == pad).all()
        assert (batch["labels"][i][~kept] == -100).all()
    assert batch["sample_id"].dtype == torch.int64
    assert batch["sample_id"].tolist() == names


def test_rows_without_ids_are_padded_too():
    batch = PadCollator(0)([{"input_ids": np.array([1, 2]), "labels": [1, 2]}])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
