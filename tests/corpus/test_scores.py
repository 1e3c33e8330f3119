"""Scores against a plain loop in fp64 over the same windows, and against lm-eval."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring import score, table

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.losses import check_model, score_pieces
from samplewise.corpus.pieces import Cutting, Piece, text_pieces
from samplewise.data import Document, cut_windows, document_id, read_documents, window_id
from samplewise.models import load_model


@pytest.fixture(scope="module")
def loaded(tiny_model):
    model, tokenizer, _ = load_model(tiny_model)
    return model, tokenizer


@pytest.fixture(scope="module")
def exact(tiny_model):
    return transformers.AutoModelForCausalLM.from_pretrained(tiny_model).double().eval()


def losses(exact, ids, start=1) -> np.ndarray:
    """[T - start] token losses from the logits of one sequence alone."""
    ids = torch.as_tensor(np.asarray(ids)).long()[None]
    with torch.no_grad():
        log_p = exact(input_ids=ids).logits.log_softmax(-1)
    return -log_p[0, :-1].gather(1, ids[0, 1:, None])[start - 1 :, 0].numpy()


def test_scores_equal_a_plain_loop_over_windows(tiny_model, corpus, tmp_path, loaded, exact):
    manifest = score(tiny_model, corpus, tmp_path / "out")
    found = table(tmp_path / "out").to_pydict()
    documents = list(read_documents(corpus))
    windows = list(cut_windows(documents, loaded[1], max_length=32, min_tokens=4, keep_short=True))
    assert found["id"] == [w.id for w in windows] == [window_id(w.source, w.row, w.index) for w in windows]
    assert found["doc_id"] == [document_id(w.source, w.row) for w in windows]
    assert found["n_tokens"] == [w.tokens for w in windows]
    assert found["n_bytes"] == [w.size for w in windows]
    assert found["text"] == [documents[w.row].text[slice(*w.span)][:200] for w in windows]
    tokens = [losses(exact, w.input_ids) for w in windows]
    np.testing.assert_allclose(found["loss"], [t.mean() for t in tokens], rtol=0, atol=1e-6)
    for q in (10, 50, 90):
        np.testing.assert_allclose(found[f"loss_q{q}"], [np.quantile(t, q / 100) for t in tokens], atol=2e-6)
    assert (manifest.rows_in, manifest.rows_scored) == (120, 120)
    assert manifest.tokens == sum(found["n_tokens"])
    assert len(manifest.shards) > 3


def test_training_and_scoring_have_the_same_windows(corpus, loaded):
    """Where training leaves a document out, scoring has one more window; no other differs."""
    options = {"max_length": 32, "min_tokens": 16}
    documents = list(read_documents(corpus))
    training = {w.id: w.input_ids.tolist() for w in cut_windows(documents, loaded[1], **options)}
    scoring = {w.id: w.input_ids.tolist() for w in cut_windows(documents, loaded[1], **options, keep_short=True)}
    assert training.items() < scoring.items()
    assert all(len(ids) <= 16 for name, ids in scoring.items() if name not in training)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=12), st.integers(1, 200), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_what_lies_together_in_a_batch_changes_nothing(loaded, lengths, budget, seed):
    draw = np.random.default_rng(seed)
    pieces = [
        Piece(draw.integers(4, 60, n), int(draw.integers(1, n)), i, i, "x", i, 0, n, "") for i, n in enumerate(lengths)
    ]
    together = score_pieces(loaded[0], pieces, batch_tokens=budget)
    alone = [score_pieces(loaded[0], [piece], batch_tokens=1) for piece in pieces]
    for name, values in together.items():
        np.testing.assert_allclose(values, np.concatenate([each[name] for each in alone]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("stride", [0, 1, 5, 30, 100])
def test_a_stride_gives_context_and_leaves_windows_as_they_are(loaded, exact, stride):
    document = Document(" ".join(f"w{i * 7 % 60}" for i in range(70)), "a.jsonl", 0)
    cutting = Cutting(max_length=16, min_tokens=4, stride=stride)
    pieces = [each for each in text_pieces([document], loaded[1], cutting) if isinstance(each, Piece)]
    whole = [1, *loaded[1](document.text, add_special_tokens=False)["input_ids"]]
    assert [p.n_tokens for p in pieces] == [15, 15, 15, 15, 10]
    found = score_pieces(loaded[0], pieces, batch_tokens=100)["loss"]
    at = 1
    for piece, loss in zip(pieces, found, strict=True):
        context = min(at, max(stride, 1))
        assert piece.start == context
        ids = whole[at - context : at + piece.n_tokens]
        assert piece.ids.tolist() == ids
        assert loss == pytest.approx(losses(exact, ids, context).mean(), abs=1e-6)
        at += piece.n_tokens
    assert at == len(whole)


@pytest.mark.parametrize("words", [1, 9, 31, 32, 63, 70, 124, 130])
def test_rolling_windows_are_those_of_lm_eval(loaded, words):
    """Its own function for windows, and its own sum of log-likelihoods."""
    lm_eval = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval is not installed")
    instance = pytest.importorskip("lm_eval.api.instance")
    model, tokenizer = loaded
    text = " ".join(f"w{i * 11 % 60}" for i in range(words))
    judge = lm_eval.HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", device="cpu", max_length=31)
    request = instance.Instance("loglikelihood_rolling", {}, (text,), 0)
    (theirs,) = judge.loglikelihood_rolling([request], disable_tqdm=True)
    cutting = Cutting(max_length=32, rolling=True)
    pieces = [each for each in text_pieces([Document(text, "a", 0)], tokenizer, cutting) if isinstance(each, Piece)]
    ours = score_pieces(model, pieces, batch_tokens=100)["loss"]
    total = sum(loss * piece.n_tokens for loss, piece in zip(ours.tolist(), pieces, strict=True))
    assert total == pytest.approx(-theirs, rel=1e-4)
    assert sum(piece.n_tokens for piece in pieces) == words


def test_a_model_that_looks_ahead_is_refused(loaded, tiny_model):
    model, tokenizer, _ = load_model(tiny_model)
    document = Document(" ".join(f"w{i}" for i in range(50)), "a", 0)
    pieces = [p for p in text_pieces([document], tokenizer, Cutting(32, 4)) if isinstance(p, Piece)]
    check_model(model, pieces)

    def forward(self, hidden_states, **options):
        return type(self).forward(self, hidden_states, **options) + 0.1 * hidden_states.mean(1, keepdim=True)

    model.model.layers[0].forward = forward.__get__(model.model.layers[0])
    with pytest.raises(SamplewiseError, match="alone and beside a longer row"):
        check_model(model, pieces)
